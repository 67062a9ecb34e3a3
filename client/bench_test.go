package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/clienttest"
)

// BenchmarkPublishAsync measures the client with a scripted broker in the same process, over
// loopback: the broker's half of the time and of the allocations is in the figures.
func BenchmarkPublishAsync(b *testing.B) {
	broker, err := clienttest.Listen()
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	broker.Discard(true)
	c, err := client.Dial(b.Context(), client.Options{Brokers: []string{broker.Addr()}, Group: "g", Topics: []string{"trade"}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			b.Error(err)
		}
	}()
	m := &client.Message{Topic: "trade", Type: "pay-succ", Body: make([]byte, 256)}
	b.SetBytes(256)
	b.ReportAllocs()
	window := make([]*client.Pending, 512)
	for i := 0; b.Loop(); i++ {
		slot := &window[i%len(window)]
		if *slot != nil {
			if err := (*slot).Wait(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		*slot = c.PublishAsync(b.Context(), m)
	}
	for _, p := range window {
		if p != nil {
			if err := p.Wait(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
}
