package client

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// link keeps one connection to one broker alive: it connects, serves, and when that ends connects
// again, each time with a new conn. What outlives a connection is here.
type link struct {
	addr    string
	options *Options
	in      inbound
	count   *counters
	log     *slog.Logger
	changed func() // told whenever live or failure changed

	work    gauge // publishes, deliveries, checks and transactions under way
	live    atomic.Pointer[conn]
	retired chan struct{} // closed when the broker left the registry

	mu      sync.Mutex
	failure error // of the last attempt; nil while live
}

// Pauses between attempts to connect.
const (
	connectPauseMin = 100 * time.Millisecond
	connectPauseMax = 10 * time.Second
	// steadyAfter is how long a connection must have lived for the next pause to be short again.
	steadyAfter = 10 * time.Second
)

func newLink(addr string, o *Options, in inbound, count *counters, changed func()) *link {
	return &link{
		addr: addr, options: o, in: in, count: count, changed: changed,
		log: o.Log.With("component", "client", "broker", addr), retired: make(chan struct{}),
	}
}

// run serves until ctx ends, or until the link is retired and its work is done.
func (l *link) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var leaving sync.WaitGroup
	leaving.Go(func() {
		defer cancel()
		l.leave(ctx)
	})
	defer leaving.Wait()
	defer cancel()
	pauses := backoff{min: connectPauseMin, max: connectPauseMax}
	for ctx.Err() == nil {
		started := time.Now()
		err := l.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		l.fail(err)
		if time.Since(started) >= steadyAfter {
			pauses.reset()
		}
		_ = pause(ctx, pauses.next())
	}
}

// leave returns when the link has no reason to live: ctx ended, or the broker left the registry and
// what was under way with it is done or late.
func (l *link) leave(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-l.retired:
	}
	ctx, cancel := context.WithTimeout(ctx, l.options.DrainTimeout)
	defer cancel()
	if l.work.idle(ctx) != nil {
		l.log.Warn("broker left the registry, work with it is given up", "work", l.work.value())
	}
}

// serve makes one connection and reads from it until it fails.
func (l *link) serve(ctx context.Context) error {
	c, err := l.connect(ctx)
	if err != nil {
		return err
	}
	l.count.connects.Add(1)
	l.log.Info("connected")
	var parts sync.WaitGroup
	parts.Go(c.write)
	parts.Go(c.pulse)
	stop := context.AfterFunc(ctx, c.finish)
	defer stop()
	l.fail(nil)
	l.live.Store(c)
	l.changed()

	err = c.read(l.in)
	l.live.CompareAndSwap(c, nil)
	c.fail(err)
	parts.Wait()
	l.changed()
	return err
}

// connect dials and introduces the client.
func (l *link) connect(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.options.ConnectTimeout)
	defer cancel()
	nc, err := l.options.dial(ctx, l.addr)
	if err != nil {
		return nil, err
	}
	c := newConn(l, nc)
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	err = c.handshake(l.options)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = kite.Errorf(kite.Unavailable, "broker %s did not finish the handshake within %s", l.addr, l.options.ConnectTimeout)
		}
		return nil, err
	}
	return c, nil
}

// fail remembers why there is no connection, or forgets it with nil.
// Only the first since the last success is worth a Warn.
func (l *link) fail(err error) {
	l.mu.Lock()
	first := l.failure == nil
	l.failure = err
	l.mu.Unlock()
	if err == nil {
		return
	}
	level := slog.LevelDebug
	if first {
		level = slog.LevelWarn
	}
	l.log.Log(context.Background(), level, "no connection, trying again", "err", err)
	l.changed()
}

// conn returns the live connection, or nil.
func (l *link) conn() *conn {
	c := l.live.Load()
	if c == nil {
		return nil
	}
	select {
	case <-c.down: // its reader has yet to notice
		return nil
	default:
		return c
	}
}

// why returns why there is no connection, or nil.
func (l *link) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}
