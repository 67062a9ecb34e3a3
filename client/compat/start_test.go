package compat

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/compat/registry"
	kiteregistry "github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/registry/embedded"
	"github.com/kiteq/kiteq/registry/zk"
)

// A program that ignores Start's error has its bindings as soon as there is a registry.
func TestStartBeforeTheRegistry(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()

	k := NewKiteQClient(t.Context(), "zk://"+addr, "s-early", "")
	k.patience = 100 * time.Millisecond
	defer k.Destroy()
	k.SetTopics([]string{"trade"})
	k.SetBindings([]*registry.Binding{registry.Bind_Direct("", "trade", "pay", 7, true)})
	if err := k.Start(); !errors.Is(err, client.Unavailable) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("start without a registry: %v", err)
	}

	log := slog.New(slog.DiscardHandler)
	server, err := embedded.Listen(embedded.Options{Addr: addr}, log)
	if err != nil {
		t.Skipf("the port was taken meanwhile: %v", err)
	}
	options, err := zk.ParseURL(addr)
	if err != nil {
		t.Fatal(err)
	}
	session, err := zk.Connect(options, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = server.Run(ctx) })
	running.Go(func() { _ = session.Run(ctx) })
	found := make(chan kiteregistry.GroupBindings, 16)
	running.Go(func() {
		_ = session.WatchBindings(ctx, []string{"trade"}, func(all kiteregistry.Bindings) {
			for _, g := range all["trade"] {
				found <- g
			}
		})
	})
	defer running.Wait()
	defer cancel()
	select {
	case g := <-found:
		if g.Group != "s-early" || len(g.Bindings) != 1 || g.Bindings[0].MessageType != "pay" || g.Bindings[0].Watermark != 7 || !g.Bindings[0].Durable {
			t.Errorf("bound %+v", g)
		}
	case <-time.After(30 * time.Second):
		t.Error("the bindings were never published")
	}
}
