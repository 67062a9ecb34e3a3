package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	zookeeper "github.com/go-zookeeper/zk"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/registry/zk"
)

// directory is a registry that can also tell which topics there are.
type directory interface {
	registry.Registry
	Topics(ctx context.Context) ([]string, error)
}

// dial returns a connected client of the global flags, and what closes it. group is for who gives
// no --group.
func (g *globals) dial(ctx context.Context, group string, change func(*client.Options)) (*client.Client, func() error, error) {
	o := client.Options{Group: cmp.Or(g.group, group), SecretKey: g.secret}
	if g.security.tls {
		var err error
		if o.TLS, err = g.security.config(); err != nil {
			return nil, nil, err
		}
		o.TLSPort = g.security.port
	}
	change(&o)
	closeRegistry := func() {}
	if g.broker != "" {
		o.Brokers = []string{g.broker}
	}
	if g.broker == "" || g.zkhostGiven {
		r, stop, err := g.registry(ctx, g.zkhost)
		if err != nil {
			return nil, nil, err
		}
		o.Registry, closeRegistry = r, stop
	}
	bounded, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	c, err := client.Dial(bounded, o)
	if err != nil {
		closeRegistry()
		return nil, nil, err
	}
	closeAll := func() error {
		defer closeRegistry()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.timeout)
		defer cancel()
		return c.Close(ctx)
	}
	return c, closeAll, nil
}

// ensemble is ZooKeeper as a directory.
type ensemble struct {
	*zk.Registry
	options zk.Options
}

// openZooKeeper opens a session that lasts until the returned function is called. It first looks
// whether anybody listens, so that a wrong address is told at once.
func openZooKeeper(ctx context.Context, zkhost string) (directory, func(), error) {
	options, err := zk.ParseURL(zkhost)
	if err != nil {
		return nil, nil, fmt.Errorf("--zkhost: %w", err)
	}
	if err := probe(ctx, options.Hosts); err != nil {
		return nil, nil, err
	}
	session, err := zk.Connect(options, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, fmt.Errorf("--zkhost: %w", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { _ = session.Run(ctx) }) // its end is ours; in between Ready tells
	stop := func() {
		cancel()
		running.Wait()
	}
	return &ensemble{session, options}, stop, nil
}

// probe returns nil when one of the hosts accepts a connection.
func probe(ctx context.Context, hosts []string) error {
	var refused []error
	for _, host := range hosts {
		dialer := net.Dialer{Timeout: 2 * time.Second}
		nc, err := dialer.DialContext(ctx, "tcp", host)
		if err == nil {
			return nc.Close()
		}
		refused = append(refused, err)
	}
	return fmt.Errorf("ZooKeeper at %s is not reachable: %w: start a broker with ./build.sh run, or name the right address with --zkhost",
		strings.Join(hosts, ","), errors.Join(refused...))
}

// String names the ensemble in error texts.
func (e *ensemble) String() string { return strings.Join(e.options.Hosts, ",") + e.options.Root }

// Topics lists the topics that a broker serves or a group is bound to, sorted.
func (e *ensemble) Topics(ctx context.Context) ([]string, error) {
	conn, _, err := zookeeper.Connect(e.options.Hosts, 10*time.Second, zookeeper.WithLogger(silent{}), zookeeper.WithLogInfo(false))
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	// The library's calls know no context: closing the connection ends them.
	stop := context.AfterFunc(ctx, conn.Close)
	defer func() {
		if stop() {
			conn.Close()
		}
	}()
	var topics []string
	for _, dir := range []string{registry.TopicsDir, registry.SubDir} {
		names, _, err := conn.Children(e.options.Root + dir)
		if err != nil && !errors.Is(err, zookeeper.ErrNoNode) {
			return nil, fmt.Errorf("list topics in %s at %s: %w", dir, e, errors.Join(err, ctx.Err()))
		}
		topics = append(topics, names...)
	}
	slices.Sort(topics)
	return slices.Compact(topics), nil
}

// silent keeps the library's log off the terminal.
type silent struct{}

func (silent) Printf(string, ...any) {}
