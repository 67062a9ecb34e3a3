package remember_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/zktest"
	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/registry/embedded"
	"github.com/kiteq/kiteq/registry/registrytest"
	"github.com/kiteq/kiteq/registry/remember"
	"github.com/kiteq/kiteq/registry/zk"
)

// zooKeeper is an embedded server that is never restarted.
type zooKeeper struct{ *embedded.Server }

func (zooKeeper) Restart() { panic("not needed") }
func (zooKeeper) Wipe()    { panic("not needed") }

func serve(t *testing.T) zooKeeper {
	t.Helper()
	s, err := embedded.Listen(embedded.Options{
		Addr: "127.0.0.1:0", Dir: t.TempDir(), MinSessionTimeout: zktest.MinSession, MaxSessionTimeout: zktest.MaxSession,
	}, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run the server: %v", err)
		}
	})
	return zooKeeper{s}
}

func logger(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// TestConformance: with a memory that is not needed, a registry promises what it promises without.
func TestConformance(t *testing.T) {
	t.Parallel()
	server := serve(t)
	registrytest.Run(t, func(t *testing.T) registrytest.Env {
		e := zktest.Env(t, server)
		open := e.Open
		e.Open = func(t *testing.T, timeout time.Duration) *registrytest.Session {
			s := open(t, timeout)
			s.Registry = remember.New(s.Registry, filepath.Join(t.TempDir(), "bindings.json"), time.Hour, logger(t))
			return s
		}
		e.Restart, e.Wipe = nil, nil
		return e
	})
}

// TestAway: a second run begins while nothing answers, with what the first one saw, and goes on with what
// changed meanwhile.
func TestAway(t *testing.T) {
	t.Parallel()
	server := serve(t)
	link := zktest.NewProxy(t, server.Addr())
	consumer := zktest.OpenRegistry(t, zk.Options{Hosts: []string{server.Addr()}, Spacing: -1})
	path := filepath.Join(t.TempDir(), "bindings.json")
	bind := func(group string) {
		t.Helper()
		if err := consumer.Bind(t.Context(), []kite.Binding{kite.Fanout(group, "trade")}); err != nil {
			t.Fatal(err)
		}
	}
	run := func() (pictures chan registry.Bindings, stop func()) {
		broker := zktest.OpenRegistry(t, zk.Options{Hosts: []string{link.Addr()}, Spacing: -1})
		r := remember.New(broker, path, 500*time.Millisecond, logger(t))
		ctx, cancel := context.WithCancel(t.Context())
		pictures, ended := make(chan registry.Bindings, 16), make(chan error, 1)
		go func() {
			ended <- r.WatchBindings(ctx, []string{"trade"}, func(p registry.Bindings) { pictures <- p })
		}()
		return pictures, func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	next := func(pictures chan registry.Bindings) (names string) {
		t.Helper()
		select {
		case p := <-pictures:
			for _, g := range p["trade"] {
				names += g.Group + " "
			}
		case <-time.After(registrytest.Patience):
			t.Fatal("no picture")
		}
		return names
	}
	bind("s-a")
	pictures, stop := run()
	if got := next(pictures); got != "s-a " {
		t.Fatalf("the first run sees %q, want s-a", got)
	}
	stop()
	link.Cut()
	bind("s-b")
	pictures, stop = run()
	defer stop()
	if got := next(pictures); got != "s-a " {
		t.Errorf("without the registry the second run begins with %q, want s-a", got)
	}
	link.Heal()
	if got := next(pictures); got != "s-a s-b " {
		t.Errorf("when the registry is back it is %q, want s-a and s-b", got)
	}
}
