package zktest

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"testing"
	"time"

	libzk "github.com/go-zookeeper/zk"

	"github.com/kiteq/kiteq/registry/registrytest"
	"github.com/kiteq/kiteq/registry/zk"
)

// ZooKeeper is a server of the ZooKeeper protocol: a Server, or one that a package tests as such.
// It grants the session timeouts MinSession to MaxSession.
type ZooKeeper interface {
	Addr() string
	// Restart stops the server without a word to its clients and starts it at the same address with
	// the data it had.
	Restart()
	// Wipe is a Restart that loses the data.
	Wipe()
}

// Env makes the environment of registrytest over a server. Each has a chroot of its own, so that
// several may use the server together.
func Env(t *testing.T, server ZooKeeper) registrytest.Env {
	root := "/" + strings.ToLower(rand.Text())
	const gap = 500 * time.Millisecond
	return registrytest.Env{
		Root:    root,
		Gap:     gap,
		Short:   time.Second,
		Long:    MaxSession,
		Restart: server.Restart,
		Wipe:    server.Wipe,
		Open: func(t *testing.T, timeout time.Duration) *registrytest.Session {
			t.Helper()
			proxy := NewProxy(t, server.Addr())
			reg := OpenRegistry(t, zk.Options{
				Hosts: []string{proxy.Addr()}, Root: root, SessionTimeout: timeout, Spacing: time.Millisecond, GapOnLeftover: gap,
			})
			return &registrytest.Session{Registry: reg, Cut: proxy.Cut, Heal: proxy.Heal}
		},
		Raw: func(t *testing.T) *libzk.Conn { return Raw(t, server.Addr()) },
	}
}

// OpenRegistry connects a registry and runs it until the test ends.
func OpenRegistry(t *testing.T, o zk.Options) *zk.Registry {
	t.Helper()
	reg, err := zk.Connect(o, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- reg.Run(context.WithoutCancel(t.Context())) }()
	t.Cleanup(func() {
		if err := reg.Close(); err != nil {
			t.Errorf("close the registry: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("run the registry: %v", err)
		}
	})
	return reg
}

// Raw opens a session of the plain library until the test ends. It waits until there is one.
func Raw(t *testing.T, addr string) *libzk.Conn {
	t.Helper()
	connected := make(chan struct{}, 1)
	conn, events, err := libzk.Connect([]string{addr}, MaxSession,
		libzk.WithLogger(silent{}),
		libzk.WithEventCallback(func(e libzk.Event) {
			if e.State == libzk.StateHasSession {
				select {
				case connected <- struct{}{}:
				default:
				}
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		for range events {
		}
	})
	select {
	case <-connected:
	case <-time.After(startPatience):
		t.Fatalf("no session with ZooKeeper at %s", addr)
	}
	return conn
}

// silent drops the library's lines.
type silent struct{}

func (silent) Printf(string, ...any) {}
