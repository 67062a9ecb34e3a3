package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

// TestDrain takes a broker out of service and back: it is found, and takes publishes, before and after, and its
// deliveries go on meanwhile.
func TestDrain(t *testing.T) {
	t.Parallel()
	s, _ := start(t, testConfig(), Control{})
	ctx, note := t.Context(), kite.Note{By: "operator ann", Reason: "why"}
	c, err := client.Dial(ctx, client.Options{Group: "p-till", Topics: []string{"trade"}, Brokers: []string{s.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	publish := func() error {
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return c.Publish(bounded, &client.Message{Topic: "trade", Type: "paid", Body: []byte("x")})
	}
	found := func() []string {
		watching, enough := context.WithCancel(ctx)
		var seen []string
		if err := s.registry.WatchBrokers(watching, []string{"trade"}, func(b registry.Brokers) { seen = b["trade"]; enough() }); err != nil {
			t.Fatal(err)
		}
		return seen
	}
	if err := publish(); err != nil || len(found()) != 1 {
		t.Fatalf("before: %v, found %v", err, found())
	}
	b, err := s.Drain(ctx, true, note)
	if err != nil || b.Ready || b.Drain == nil || b.Drain.By != "operator ann" || len(found()) != 0 {
		t.Fatalf("%+v, %v, found %v", b, err, found())
	}
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "ann") {
		t.Errorf("readiness: %v", err)
	}
	eventually(t, 5*time.Second, func() string {
		if b, err := s.Status(ctx); err != nil || !b.Drain.Refusing {
			return "publishes are not refused yet"
		}
		return ""
	})
	if err := publish(); err == nil {
		t.Error("a draining broker takes publishes")
	}
	if again, err := s.Drain(ctx, true, kite.Note{By: "operator bob"}); err != nil || again.Drain.By != "operator ann" {
		t.Errorf("ordered again: %+v, %v", again.Drain, err)
	}
	if b, err = s.Drain(ctx, false, note); err != nil || !b.Ready || b.Drain != nil || len(found()) != 1 {
		t.Fatalf("%+v, %v, found %v", b, err, found())
	}
	if err := publish(); err != nil {
		t.Errorf("after: %v", err)
	}
}
