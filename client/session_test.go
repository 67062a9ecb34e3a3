package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/registry/embedded"
	"github.com/kiteq/kiteq/registry/zk"
)

// mustZooKeeper starts a ZooKeeper in this process, with a broker announced in it, and returns its
// address.
func mustZooKeeper(t *testing.T, broker string, topics ...string) string {
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
	if err := session.CreateTopics(t.Context(), topics); err != nil {
		t.Fatal(err)
	}
	if err := session.Announce(t.Context(), broker, topics); err != nil {
		t.Fatal(err)
	}
	return server.Addr()
}

func TestZooKeeper(t *testing.T) {
	t.Parallel()
	broker := mustListen(t)
	addr := mustZooKeeper(t, broker.Addr(), "trade")
	c, err := client.Dial(t.Context(), client.Options{ZKHost: "zk://" + addr, Group: "g", Topics: []string{"trade"}})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	_, err = c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, func(_ context.Context, d *client.Delivery) error {
		got <- d.ID
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	p := stored("trade", "x", "")
	if _, err := broker.Deliver("g", p); err != nil {
		t.Fatal(err)
	}
	if id := <-got; id != p.ID {
		t.Errorf("delivered %s, want %s", id, p.ID)
	}
	if err := c.Unbind(t.Context(), "trade"); err != nil {
		t.Error(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFileRegistry(t *testing.T) {
	t.Parallel()
	broker := mustListen(t)
	path := filepath.Join(t.TempDir(), "registry.yaml")
	const bindings = `bindings:
  - groupIds: ["g"]
    topic: "trade"
    messageType: "pay"
    bindType: "direct"
    persistent: true
`
	text := fmt.Sprintf("brokers:\n  - address: %q\n    topics: [\"trade\"]\n%s", broker.Addr(), bindings)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(t.Context(), client.Options{ZKHost: "file://" + path, Group: "g", Topics: []string{"trade"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), message()); err != nil {
		t.Error(err)
	}
	good := func(context.Context, *client.Delivery) error { return nil }
	if _, err := c.Subscribe(t.Context(), []client.Binding{client.Direct("trade", "pay")}, good); err != nil {
		t.Errorf("subscribe to what the file has: %v", err)
	}
	if _, err := c.Subscribe(t.Context(), []client.Binding{client.Direct("trade", "other")}, good); !errors.Is(err, client.Invalid) || !strings.Contains(err.Error(), path) {
		t.Errorf("subscribe to what the file has not: %v", err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := client.Dial(t.Context(), client.Options{ZKHost: "file://" + path + ".gone", Group: "g"}); err == nil || !strings.Contains(err.Error(), path+".gone") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestZooKeeperErrors(t *testing.T) {
	t.Parallel()
	addr := mustZooKeeper(t, "127.0.0.1:1", "stock")
	for _, tt := range []struct {
		host  string
		code  client.Code
		texts []string
	}{
		{"etcd://x", client.Invalid, []string{"etcd", "write zk://"}},
		{"127.0.0.1:1", client.Unavailable, []string{"127.0.0.1:1", "not reachable", "topic trade"}},
		{addr, client.Unavailable, []string{"no broker of topic trade", addr}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := client.Dial(ctx, client.Options{ZKHost: tt.host, Group: "g", Topics: []string{"trade"}})
		if !errors.Is(err, tt.code) {
			t.Errorf("%s: got %v, want code %v", tt.host, err, tt.code)
			continue
		}
		for _, text := range tt.texts {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %q is not in %v", tt.host, text, err)
			}
		}
	}
}
