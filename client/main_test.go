package client_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/clienttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is a broker, a registry that names it for topic trade, and clients of them.
type bundle struct {
	t        *testing.T
	broker   *clienttest.Broker
	registry *clienttest.Registry
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t, mustListen(t), clienttest.NewRegistry()}
	b.registry.SetBrokers("trade", b.broker.Addr())
	return b
}

func mustListen(t *testing.T) *clienttest.Broker {
	t.Helper()
	broker, err := clienttest.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	return broker
}

// dial returns a client of group "g" that publishes to trade, closed when the test ends.
func (b *bundle) dial(change func(*client.Options)) *client.Client {
	b.t.Helper()
	o := client.Options{Registry: b.registry, Group: "g", Topics: []string{"trade"}}
	if change != nil {
		change(&o)
	}
	c, err := client.Dial(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			b.t.Errorf("close: %v", err)
		}
	})
	return c
}

// mustNext takes the next element of what the broker received.
func mustNext[T any](t *testing.T, q *clienttest.Queue[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	item, err := q.Next(ctx)
	if err != nil {
		t.Fatalf("the broker received no %T: %v", item, err)
	}
	return item
}

func message() *client.Message {
	return &client.Message{Topic: "trade", Type: "pay-succ", Body: []byte("hello")}
}
