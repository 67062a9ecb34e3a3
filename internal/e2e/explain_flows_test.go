package e2e

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/operate"
)

// TestExplainFlows reads where a message is while a group is at it, paused and moved by operators.
func TestExplainFlows(t *testing.T) {
	t.Parallel()
	zk := freeAddr(t)
	b := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "trade")
	b.Start()
	o := operator{t, b.admin}
	ctx := patient(t)
	release, refuse := make(chan struct{}), make(chan error, 100)
	consumer, err := client.Dial(ctx, client.Options{ZKHost: zk, Group: "s-books"})
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close(ctx)
	got := make(chan string, 100)
	handle := func(ctx context.Context, d *client.Delivery) error {
		got <- d.ID
		select {
		case err := <-refuse:
			return err
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if _, err := consumer.Subscribe(ctx, []client.Binding{client.Fanout("trade")}, handle); err != nil {
		t.Fatal(err)
	}
	if err := consumer.Ready(ctx, "trade"); err != nil {
		t.Fatal(err)
	}
	publisher, err := client.Dial(ctx, client.Options{ZKHost: zk, Group: "p-till", Topics: []string{"trade"}})
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close(ctx)
	publish := func() string {
		t.Helper()
		id := client.NewID()
		if err := publisher.Publish(ctx, &client.Message{ID: id, Topic: "trade", Type: "paid", Body: []byte("17")}); err != nil {
			t.Fatal(err)
		}
		return id
	}

	first := publish()
	o.expect(first, operate.InFlight, "s-books", "attempt 1 sent to 127.0.0.1:")
	for range 4 { // the fifth attempt is made after a pause
		refuse <- errors.New("no room for it")
	}
	o.expect(first, operate.Failed, "s-books", "attempt 4, sent to 127.0.0.1:", "no room for it")
	if armed := o.expect(first, operate.Armed, "s-books", "4 attempts failed"); armed.AtMs <= time.Now().UnixMilli() {
		t.Errorf("due at %d, which is over", armed.AtMs)
	}
	close(release)
	o.expect(first, operate.Settled, "s-books")

	var group operate.Group
	o.must("POST", "/groups/trade/s-books/pause", `{"by":"ann","reason":"the books are moved"}`, &group)
	if !group.Paused || group.Repeat {
		t.Errorf("%+v", group)
	}
	second := publish()
	o.expect(second, operate.Waiting, "s-books", "paused")
	for len(got) > 0 {
		<-got
	}
	o.must("POST", "/groups/trade/s-books/seek", `{"time":"2020-01-01T00:00:00Z","reason":"all again"}`, &group)
	o.must("POST", "/groups/trade/s-books/resume", "", &group)
	for _, want := range []string{first, second} {
		select {
		case id := <-got:
			if id != first && id != second {
				t.Errorf("got %s", id)
			}
		case <-ctx.Done():
			t.Fatalf("%s did not come", want)
		}
	}
	o.expect(second, operate.Settled, "s-books")
}
