package embedded_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/kiteq/kiteq/internal/zktest"
	"github.com/kiteq/kiteq/registry/embedded"
	"github.com/kiteq/kiteq/registry/registrytest"
)

// TestConformance runs the suite of every registry over this server, as internal/zktest does over a real
// ZooKeeper.
func TestConformance(t *testing.T) {
	t.Parallel()
	server := &process{t: t, options: embedded.Options{
		Addr: "127.0.0.1:0", Dir: t.TempDir(),
		MinSessionTimeout: zktest.MinSession, MaxSessionTimeout: zktest.MaxSession,
	}}
	server.start()
	server.options.Addr = server.Addr()
	t.Cleanup(func() { server.stop() })
	registrytest.Run(t, func(t *testing.T) registrytest.Env { return zktest.Env(t, server) })
}

// process is a server that can be stopped and started again at its address.
type process struct {
	t       *testing.T
	options embedded.Options
	addr    string
	stop    func()
}

func (p *process) Addr() string { return p.addr }

func (p *process) start() {
	p.t.Helper()
	server, err := embedded.Listen(p.options, slog.New(slog.DiscardHandler))
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr = server.Addr()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	p.stop = func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	}
}

// Restart implements zktest.ZooKeeper.
func (p *process) Restart() {
	p.stop()
	p.start()
}

// Wipe implements zktest.ZooKeeper.
func (p *process) Wipe() {
	p.stop()
	p.options.Dir = p.t.TempDir()
	p.start()
}
