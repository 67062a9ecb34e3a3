package compat_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	client "github.com/kiteq/kiteq/client/compat"

	"github.com/kiteq/kiteq/client/clienttest"
	"github.com/kiteq/kiteq/client/clienttest/original"
	"github.com/kiteq/kiteq/internal/kite"
	kiteregistry "github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/registry/embedded"
	"github.com/kiteq/kiteq/registry/zk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is an original broker that a registry file names for topic trade.
type bundle struct {
	t        *testing.T
	broker   *original.Broker
	bindings *clienttest.Registry // what the broker knows
	uri      string
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, bindings: clienttest.NewRegistry()}
	b.broker = mustListen(t, original.Options{Bindings: b.bindings.Bindings})
	path := filepath.Join(t.TempDir(), "registry.yaml")
	text := fmt.Sprintf("brokers:\n  - address: %q\n    topics: [trade]\nbindings: []\n", b.broker.Addr())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.uri = "file://" + path
	return b
}

// mustListen returns a broker; when the test ends, its client may not have done anything wrong.
func mustListen(t *testing.T, o original.Options) *original.Broker {
	t.Helper()
	broker, err := original.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		broker.Close()
		for broker.Faults.Len() > 0 {
			t.Errorf("the client sent %s", mustNext(t, &broker.Faults))
		}
	})
	return broker
}

// bind makes the broker know a durable binding of the group to all of trade.
func (b *bundle) bind(group string) {
	b.t.Helper()
	if err := b.bindings.Bind(b.t.Context(), []kite.Binding{kite.Fanout(group, "trade")}); err != nil {
		b.t.Fatal(err)
	}
}

// start starts a client of the group that publishes to trade.
func (b *bundle) start(group string, change func(*client.KiteQClient)) *client.KiteQClient {
	b.t.Helper()
	k := client.NewKiteQClient(context.Background(), b.uri, group, "secret")
	k.SetTopics([]string{"trade"})
	if change != nil {
		change(k)
	}
	b.t.Cleanup(k.Destroy)
	if err := k.Start(); err != nil {
		b.t.Fatal(err)
	}
	return k
}

func mustNext[T any](t *testing.T, q *clienttest.Queue[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	item, err := q.Next(ctx)
	if err != nil {
		t.Fatalf("the broker received no %T: %v", item, err)
	}
	return item
}

// mustZooKeeper starts a ZooKeeper in this process and returns its URI, and a session with it.
func mustZooKeeper(t *testing.T) (string, kiteregistry.Registry) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	server, err := embedded.Listen(embedded.Options{Addr: "127.0.0.1:0"}, log)
	if err != nil {
		t.Fatal(err)
	}
	options, err := zk.ParseURL(server.Addr())
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
	t.Cleanup(func() { cancel(); running.Wait() })
	return "zk://" + server.Addr(), session
}
