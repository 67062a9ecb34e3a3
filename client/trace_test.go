package client_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kiteq/kiteq/client"
)

// recorder is a tracer that writes down what it is told.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

type marked struct{}

func (r *recorder) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r *recorder) Publish(_ context.Context, group string, m *client.Message) (map[string]string, func(error)) {
	r.note("publish %s %s %v", group, m.Topic, len(m.ID) == 32)
	return map[string]string{client.TraceParent: "00-a-b-01"}, func(err error) { r.note("published %v", err) }
}

func (r *recorder) Deliver(ctx context.Context, group string, d *client.Delivery) (context.Context, func(error)) {
	r.note("deliver %s %s", group, d.Properties[client.TraceParent])
	return context.WithValue(ctx, marked{}, "marked"), func(err error) { r.note("delivered %v", err) }
}

func (r *recorder) expect(t *testing.T, why string, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.lines, want) {
		t.Errorf("%s: %q, want %q", why, r.lines, want)
	}
	r.lines = nil
}

// TestTracer sees each publish and its end once, and each delivery; what it adds travels, and the caller's message
// stays as it was.
func TestTracer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tracer := &recorder{}
	c := b.dial(func(o *client.Options) { o.Tracer = tracer })
	m := message()
	m.Properties = map[string]string{"a": "1", client.TraceParent: "old"}
	if err := c.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	sent := mustNext(t, &b.broker.Published)
	if want := map[string]string{"a": "1", client.TraceParent: "00-a-b-01"}; !maps.Equal(sent.Properties, want) {
		t.Errorf("sent %v, want %v", sent.Properties, want)
	}
	if m.ID != "" || m.Properties[client.TraceParent] != "old" {
		t.Errorf("the caller's message was changed: %+v", m)
	}
	tracer.expect(t, "published", "publish g trade true", "published <nil>")

	p := c.PublishAsync(t.Context(), m)
	for range 2 { // the end is told once
		if err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	mustNext(t, &b.broker.Published)
	tracer.expect(t, "published async", "publish g trade true", "published <nil>")

	bad := message()
	bad.Type = ""
	err := c.Publish(t.Context(), bad)
	if err == nil {
		t.Fatal("published without a type")
	}
	tracer.expect(t, "refused", "publish g trade true", "published "+err.Error())
	if _, err = c.Prepare(t.Context(), bad); err == nil {
		t.Fatal("prepared without a type")
	}
	tracer.expect(t, "not prepared", "publish g trade true", "published "+err.Error())

	seen := make(chan any, 1)
	_, err = c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, func(ctx context.Context, d *client.Delivery) error {
		seen <- ctx.Value(marked{})
		if strings.Contains(string(d.Body), "no") {
			return errors.New("no stock")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"yes", "no"} {
		message := stored("trade", "x", body)
		message.Properties = map[string]string{client.TraceParent: body}
		mustDeliver(t, b, message)
		if got := <-seen; got != "marked" {
			t.Errorf("the handler's context has %v", got)
		}
		mustNext(t, &b.broker.Acks)
	}
	tracer.expect(t, "delivered", "deliver g yes", "delivered <nil>", "deliver g no", "delivered no stock")
}
