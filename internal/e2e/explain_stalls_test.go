package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/operate"
)

// TestExplainStalls reads why a message waits though its group is connected: for its key, for a member's
// credit, for the group's watermark, for the breaker. Each cause has a group of its own, by the type of its
// messages.
func TestExplainStalls(t *testing.T) {
	t.Parallel()
	zk := freeAddr(t)
	b := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "trade")
	stalls := config + "[delivery]\nbreaker_after = 2\nack_timeout = \"30s\"\n"
	if err := os.WriteFile(filepath.Join(b.dir, "kiteq.toml"), []byte(stalls), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Start()
	ctx := patient(t)
	publisher, err := client.Dial(ctx, client.Options{ZKHost: zk, Group: "p-till", Topics: []string{"trade"}})
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close(ctx)
	busy := func(ctx context.Context, _ *client.Delivery) error { // until the client is closed
		<-ctx.Done()
		return ctx.Err()
	}
	fails := func(context.Context, *client.Delivery) error { return errors.New("no database") }
	takes := func(context.Context, *client.Delivery) error { return nil }
	for _, c := range []struct {
		kind    string // of its messages, and the end of its group's name
		members int
		handle  client.Handler
		bound   func(*client.Binding)
		key     string
		n       int      // messages; the last one waits
		causes  []string // what it is told
	}{
		{"held", 2, busy, func(b *client.Binding) { b.Order = client.OrderByKey }, "account-7", 2, []string{"held behind seq ", "which has the same kiteq-key"}},
		{"credit", 1, busy, func(*client.Binding) {}, "", 2, []string{"no member can take more"}},
		{"watermark", 1, takes, func(b *client.Binding) { b.Watermark = 1 }, "", 40, []string{"over the group's watermark", "until "}},
		{"breaker", 1, fails, func(*client.Binding) {}, "", 3, []string{"the breaker is open", "since "}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			group := "s-" + c.kind
			for range c.members {
				consumer, err := client.Dial(ctx, client.Options{ZKHost: zk, Group: group, Credit: 1})
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					closing, cancel := context.WithCancel(ctx)
					cancel() // the handlers do not end before
					_ = consumer.Close(closing)
				}()
				binding := client.Direct("trade", c.kind)
				c.bound(&binding)
				if _, err := consumer.Subscribe(ctx, []client.Binding{binding}, c.handle); err != nil {
					t.Fatal(err)
				}
				if err := consumer.Ready(ctx, "trade"); err != nil {
					t.Fatal(err)
				}
			}
			var last string
			for range c.n {
				m := &client.Message{ID: client.NewID(), Topic: "trade", Type: c.kind, Body: []byte("17"), Properties: map[string]string{}}
				if c.key != "" {
					m.Properties["kiteq-key"] = c.key
				}
				if err := publisher.Publish(ctx, m); err != nil {
					t.Fatal(err)
				}
				last = m.ID
			}
			operator{t, b.admin}.expect(last, operate.Waiting, group, c.causes...)
		})
	}
}
