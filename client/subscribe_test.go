package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/clienttest"
)

func stored(topic, messageType, body string) clienttest.Published {
	return clienttest.Published{
		ID: client.NewID(), Topic: topic, Type: messageType, Group: "p-publisher", Body: []byte(body),
		Commit: true, DeliverLimit: 3, ExpiredTime: 2_000_000_000, CreateTime: 1_700_000_000,
	}
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(nil)
	got := make(chan *client.Delivery, 1)
	_, err := c.Subscribe(t.Context(), []client.Binding{client.Direct("trade", "pay")}, func(_ context.Context, d *client.Delivery) error {
		got <- d
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	compressed := true
	p := stored("trade", "pay", "body")
	p.Text, p.Properties, p.Snappy = true, map[string]string{"k": "v"}, &compressed
	p.Body = []byte("BAxib2R5") // the snappy block of "body", in base64
	opaque := mustDeliver(t, b, p)
	d := <-got
	want := client.Delivery{
		ID: p.ID, Topic: "trade", Type: "pay", Group: "p-publisher", Body: []byte("body"), Text: true,
		Properties: p.Properties, Created: time.Unix(1_700_000_000, 0), Expires: time.Unix(2_000_000_000, 0),
		DeliverLimit: 3, Snappy: true, Broker: b.broker.Addr(),
	}
	if fmt.Sprintf("%+v", *d) != fmt.Sprintf("%+v", want) {
		t.Errorf("delivered\n%+v, want\n%+v", *d, want)
	}
	ack := mustNext(t, &b.broker.Acks)
	if ack != (clienttest.Ack{Opaque: opaque, ID: p.ID, Topic: "trade", Type: "pay", Group: "p-publisher", OK: true}) {
		t.Errorf("acked %+v", ack)
	}
}

func mustDeliver(t *testing.T, b *bundle, p clienttest.Published) uint32 {
	t.Helper()
	opaque, err := b.broker.Deliver("g", p)
	if err != nil {
		t.Fatal(err)
	}
	return opaque
}

// Subscriptions of one client are told apart by topic and type, whatever their kind.
func TestDispatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.registry.SetBrokers("stock", b.broker.Addr())
	c := b.dial(nil)
	subscribe := func(name string, bindings ...client.Binding) *client.Subscription {
		s, err := c.Subscribe(t.Context(), bindings, func(context.Context, *client.Delivery) error { return errors.New(name) })
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	subscribe("direct", client.Direct("trade", "pay"))
	subscribe("regx", client.Regx("trade", `^refund-\d+$`), client.Direct("trade", "pay"))
	stock := subscribe("stock", client.Fanout("stock"))
	const nobody = "no subscription"
	tests := []struct{ topic, messageType, want string }{
		{"trade", "pay", "direct"},
		{"trade", "refund-12", "regx"},
		{"trade", "refund-x", nobody},
		{"stock", "anything", "stock"},
		{"stock", "pay", "stock"},
		{"other", "pay", nobody},
	}
	check := func(topic, messageType, want string) {
		t.Helper()
		opaque := mustDeliver(t, b, stored(topic, messageType, ""))
		if ack := mustNext(t, &b.broker.Acks); ack.OK || ack.Opaque != opaque || !strings.Contains(ack.Feedback, want) {
			t.Errorf("%s/%s: %+v, want a nack that says %q", topic, messageType, ack, want)
		}
	}
	for _, tt := range tests {
		check(tt.topic, tt.messageType, tt.want)
	}
	stock.Stop()
	check("stock", "pay", nobody)

	if got := b.registry.Bindings("trade")["g"]; len(got) != 2 {
		t.Errorf("bound on trade: %+v, want the pattern and, once, the type", got)
	}
	if err := c.Unbind(t.Context(), "trade"); err != nil || len(b.registry.Bindings("trade")) != 0 {
		t.Errorf("unbind: %v, left %v", err, b.registry.Bindings("trade"))
	}
}

func TestHandlerFailures(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(nil)
	_, err := c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, func(_ context.Context, d *client.Delivery) error {
		switch d.Type {
		case "error":
			return errors.New("no stock")
		case "panic":
			panic("boom")
		case "long":
			return errors.New(strings.Repeat("x", 10_000))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		messageType string
		ok          bool
		feedback    string
	}{
		{"error", false, "no stock"},
		{"panic", false, "the handler panicked: boom"},
		{"long", false, strings.Repeat("x", 512)},
		{"good", true, ""},
	} {
		mustDeliver(t, b, stored("trade", tt.messageType, ""))
		if ack := mustNext(t, &b.broker.Acks); ack.OK != tt.ok || ack.Feedback != tt.feedback {
			t.Errorf("%s: acked %v with %.40q (%d bytes)", tt.messageType, ack.OK, ack.Feedback, len(ack.Feedback))
		}
	}
	if s := c.Stats(); s.Delivered != 4 || s.Nacked != 3 {
		t.Errorf("stats %+v", s)
	}
}

// Reading goes on while every handler is busy, and what does not fit in the queue is refused.
func TestBusyHandlers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(func(o *client.Options) { o.Concurrency = 2 })
	var mu sync.Mutex
	running, most := 0, 0
	entered, release := make(chan struct{}, 10_000), make(chan struct{})
	_, err := c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, func(context.Context, *client.Delivery) error {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		entered <- struct{}{}
		<-release
		mu.Lock()
		running--
		mu.Unlock()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mustDeliver(t, b, stored("trade", "x", ""))
	mustDeliver(t, b, stored("trade", "x", ""))
	<-entered
	<-entered
	const queued = 8192
	for range queued + 3 {
		mustDeliver(t, b, stored("trade", "x", ""))
	}
	for range 3 {
		if ack := mustNext(t, &b.broker.Acks); ack.OK || !strings.Contains(ack.Feedback, "busy") {
			t.Errorf("acked %+v, want busy", ack)
		}
	}
	if err := c.Publish(t.Context(), message()); err != nil {
		t.Errorf("publish while handlers are busy: %v", err)
	}
	close(release)
	for range queued + 2 {
		if ack := mustNext(t, &b.broker.Acks); !ack.OK {
			t.Errorf("acked %+v, want true", ack)
		}
	}
	if most != 2 {
		t.Errorf("%d handlers ran at a time, want 2", most)
	}
}

func TestSubscribeInvalid(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(nil)
	good := func(context.Context, *client.Delivery) error { return nil }
	other := client.Direct("trade", "pay")
	other.Group = "somebody"
	tests := []struct {
		name     string
		bindings []client.Binding
		handler  client.Handler
		text     string
	}{
		{"no handler", []client.Binding{client.Fanout("trade")}, nil, "handler is nil"},
		{"no bindings", nil, good, "no bindings"},
		{"pattern", []client.Binding{client.Regx("trade", "(")}, good, `"("`},
		{"topic", []client.Binding{client.Fanout("a/b")}, good, `"a/b"`},
		{"group", []client.Binding{other}, good, "leave Group empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := c.Subscribe(t.Context(), tt.bindings, tt.handler)
			if !errors.Is(err, client.Invalid) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want Invalid and %q", err, tt.text)
			}
		})
	}
}

func TestSubscribeRegistryDown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(nil)
	down := errors.New("no session")
	b.registry.SetDown(down)
	good := func(context.Context, *client.Delivery) error { return nil }
	if _, err := c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, good); !errors.Is(err, down) {
		t.Errorf("got %v, want %v", err, down)
	}
	b.registry.SetDown(nil)
	// The failed one is not left behind.
	mustDeliver(t, b, stored("trade", "x", ""))
	if ack := mustNext(t, &b.broker.Acks); ack.OK {
		t.Errorf("acked %+v by a subscription that failed", ack)
	}
}

// A delivery may carry the opaque of a publish that awaits its answer: the two do not meet.
func TestOpaqueCollision(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(nil)
	_, err := c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, func(context.Context, *client.Delivery) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	b.broker.OnPublish(func(clienttest.Published) clienttest.Answer { return clienttest.Silence() })
	pending := c.PublishAsync(t.Context(), message())
	p := mustNext(t, &b.broker.Published)
	if err := b.broker.Frame("g", p.Opaque, 0x11, p.Payload()); err != nil {
		t.Fatal(err)
	}
	if ack := mustNext(t, &b.broker.Acks); !ack.OK || ack.Opaque != p.Opaque {
		t.Errorf("acked %+v, want opaque %#x", ack, p.Opaque)
	}
	select {
	case <-pending.Done():
		t.Error("the delivery ended the publish")
	default:
	}
	if err := b.broker.Frame("g", p.Opaque, 0x04, clienttest.StoreAckPayload(p.ID, true, "")); err != nil {
		t.Fatal(err)
	}
	if err := pending.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// Frames that nobody waits for are ignored, and opaque 0 is echoed as 0.
func TestUnsolicited(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(nil)
	_, err := c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, func(context.Context, *client.Delivery) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	payload := stored("trade", "x", "").Payload()
	for _, f := range []struct {
		opaque  uint32
		command uint8
		payload []byte
	}{
		{7, 0x04, clienttest.StoreAckPayload(client.NewID(), true, "")},
		{0, 0x03, []byte{0x08, 0x00, 0x12, 0x00}}, // unauthorized
		{9, 0x01, []byte{0x08, 0x01}},             // the broker's own heartbeat
		{1, 0x7f, nil},
		{2, 0x11, []byte("junk")},
		{3, 0x06, []byte("junk")},
		{4, 0x04, []byte("junk")},
		{5, 0x01, []byte("junk")},
		{0, 0x11, payload},
	} {
		if err := b.broker.Frame("g", f.opaque, f.command, f.payload); err != nil {
			t.Fatal(err)
		}
	}
	if ack := mustNext(t, &b.broker.Acks); !ack.OK || ack.Opaque != 0 {
		t.Errorf("acked %+v, want opaque 0", ack)
	}
	if s := c.Stats(); s.Unsolicited != 4 || s.Malformed != 4 || s.Connects != 1 {
		t.Errorf("stats %+v, want 4 unsolicited, 4 malformed, 1 connect", s)
	}
}
