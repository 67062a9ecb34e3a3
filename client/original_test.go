package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/clienttest"
	"github.com/kiteq/kiteq/client/clienttest/original"
)

// old is an original broker that a registry names for topic trade.
type old struct {
	t        *testing.T
	broker   *original.Broker
	registry *clienttest.Registry
}

// setupOld also checks, when the test ends, that the client did nothing that it may not.
func setupOld(t *testing.T, o original.Options) *old {
	t.Helper()
	e := &old{t: t, registry: clienttest.NewRegistry()}
	o.Bindings = e.registry.Bindings
	var err error
	if e.broker, err = original.Listen(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.broker.Close()
		for e.broker.Faults.Len() > 0 {
			t.Errorf("the client sent %s", mustNext(t, &e.broker.Faults))
		}
	})
	e.registry.SetBrokers("trade", e.broker.Addr())
	return e
}

func (e *old) dial(change func(*client.Options)) *client.Client {
	e.t.Helper()
	return (&bundle{t: e.t, registry: e.registry}).dial(change)
}

// StoreAcks that come after the delivery, small opaques, and heartbeats in between: everything arrives
// once, and no ack is lost in the broker's one table.
func TestOldPublishAndDeliver(t *testing.T) {
	t.Parallel()
	e := setupOld(t, original.Options{Topics: []string{"trade"}})
	c := e.dial(func(o *client.Options) { o.HeartbeatEvery = 10 * time.Millisecond })
	got := subscribe(t, c)
	const messages = 300
	seen := map[string]bool{}
	for range messages {
		m := message()
		m.Properties = map[string]string{"k": "v"}
		if err := c.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		d := <-got
		if seen[d.ID] || string(d.Body) != "hello" || d.Properties["k"] != "v" || d.Created.IsZero() || d.Expires.IsZero() {
			t.Errorf("delivered %+v", d)
		}
		seen[d.ID] = true
		ack := mustNext(t, &e.broker.Acks)
		if !ack.Found || !ack.Ack.GetStatus() || ack.Ack.GetGroupId() != "g" || ack.Ack.GetTopic() != "trade" || ack.Ack.Feedback == nil {
			t.Fatalf("ack %+v", ack)
		}
		if p := mustNext(t, &e.broker.Published); p.Opaque < 0x8000_0000 || p.Header.Snappy != nil {
			t.Fatalf("published with opaque %#x and header %v", p.Opaque, p.Header)
		}
	}
	for range 3 {
		mustNext(t, &e.broker.Beats)
	}
	if n := e.broker.Stored(); n != 0 || e.broker.Stray() != 0 {
		t.Errorf("%d messages left at the broker, %d stray answers", n, e.broker.Stray())
	}
	if s := c.Stats(); s.Connects != 1 || s.Unsolicited != 0 || s.Malformed != 0 {
		t.Errorf("stats %+v", s)
	}
}

// The broker's opaques meet those of publishes that wait for their answer, one after the other.
func TestOldOpaqueCollision(t *testing.T) {
	t.Parallel()
	e := setupOld(t, original.Options{})
	c := e.dial(func(o *client.Options) { o.AckTimeout = time.Minute })
	got := subscribe(t, c)
	e.broker.LoseAcks(1)
	waiting := c.PublishAsync(t.Context(), message())
	p := mustNext(t, &e.broker.Published)
	<-got
	mustNext(t, &e.broker.Acks)
	e.broker.CountFrom(p.Opaque)
	if err := c.Publish(t.Context(), message()); err != nil { // delivered under the opaque of the one that waits
		t.Fatal(err)
	}
	<-got
	if ack := mustNext(t, &e.broker.Acks); ack.Opaque != p.Opaque || !ack.Found {
		t.Errorf("ack %+v, want opaque %#x", ack, p.Opaque)
	}
	select {
	case <-waiting.Done():
		t.Error("the delivery was taken for the answer")
	default:
	}
	if err := e.broker.Frame("g", p.Opaque, 0x04, clienttest.StoreAckPayload(waiting.ID(), true, "Store Result true Cost:1")); err != nil {
		t.Fatal(err)
	}
	if err := waiting.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// The memory store takes an id again, those of mysql and file refuse it: the outcome is open then.
func TestOldPublishTimeout(t *testing.T) {
	t.Parallel()
	for _, refuse := range []bool{false, true} {
		t.Run(fmt.Sprintf("duplicates refused %v", refuse), func(t *testing.T) {
			t.Parallel()
			e := setupOld(t, original.Options{RefuseDuplicates: refuse})
			if err := e.registry.Bind(t.Context(), []client.Binding{bindingOf("s-away")}); err != nil {
				t.Fatal(err)
			}
			c := e.dial(func(o *client.Options) { o.AckTimeout = 30 * time.Millisecond })
			e.broker.LoseAcks(1)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			m := message()
			m.Compress = true
			err := c.Publish(ctx, m)
			first, again := mustNext(t, &e.broker.Published), mustNext(t, &e.broker.Published)
			if string(first.Payload) != string(again.Payload) || first.Opaque == again.Opaque {
				t.Errorf("sent %x under %#x, then %x under %#x", first.Payload, first.Opaque, again.Payload, again.Opaque)
			}
			switch {
			case !refuse && err != nil:
				t.Error(err)
			case refuse && (!errors.Is(err, client.Indeterminate) || e.broker.Stored() != 1):
				t.Errorf("got %v with %d stored, want Indeterminate and one", err, e.broker.Stored())
			}
		})
	}
}

// bindingOf is a durable binding of the group to all of trade.
func bindingOf(group string) client.Binding {
	b := client.Fanout("trade")
	b.Group = group
	return b
}

func TestOldRefusals(t *testing.T) {
	t.Parallel()
	e := setupOld(t, original.Options{Topics: []string{"message"}})
	err := e.dial(nil).Publish(t.Context(), message())
	if !errors.Is(err, client.NotServed) {
		t.Errorf("got %v, want NotServed", err)
	}
}

func TestOldTransactions(t *testing.T) {
	t.Parallel()
	failed := errors.New("duplicate key")
	tests := []struct {
		name    string
		atOnce  bool
		result  error
		checked client.Verdict // what the listener says when asked
		arrives bool
	}{
		{"commit", false, nil, client.Rollback, true},
		{"commit though asked at once", true, nil, client.Rollback, true},
		{"rollback", false, failed, client.Commit, false},
		{"rollback though asked at once", true, failed, client.Commit, false},
		{"unknown, the check commits", false, client.ErrUnknownOutcome, client.Commit, true},
		{"unknown, the check rolls back", true, client.ErrUnknownOutcome, client.Rollback, false},
		{"unknown, the check cannot tell", true, client.ErrUnknownOutcome, client.Unknown, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := setupOld(t, original.Options{CheckAtOnce: tt.atOnce})
			asked := make(chan client.Check, 1)
			c := e.dial(func(o *client.Options) {
				o.CheckListener = func(_ context.Context, k client.Check) client.Verdict { asked <- k; return tt.checked }
			})
			got := subscribe(t, c)
			m := message()
			m.Properties = map[string]string{"order": "17"}
			err := c.PublishTx(t.Context(), m, func(context.Context) error {
				if tt.atOnce { // answered while the transaction runs, whatever the listener would say
					if v := mustNext(t, &e.broker.Verdicts); v.Status != 0 || !v.Checked || len(asked) > 0 {
						t.Errorf("answered %+v", v)
					}
				}
				if len(got) > 0 {
					t.Error("delivered before the verdict")
				}
				return tt.result
			})
			if !errors.Is(err, tt.result) {
				t.Errorf("got %v, want %v", err, tt.result)
			}
			if errors.Is(tt.result, client.ErrUnknownOutcome) {
				e.broker.Recover()
				if k := <-asked; k.Properties["order"] != "17" || k.Type != "pay-succ" || len(k.ID) != 32 {
					t.Errorf("asked about %+v", k)
				}
			}
			decided := mustNext(t, &e.broker.Verdicts)
			if tt.arrives {
				if d := <-got; d.Properties["order"] != "17" { // it says commit=false still
					t.Errorf("delivered %+v", d)
				}
				mustNext(t, &e.broker.Acks)
			}
			left := 0
			if decided.Status == 0 {
				left = 1
			}
			if e.broker.Stored() != left || len(got) > 0 {
				t.Errorf("after verdict %+v: %d stored, want %d; %d delivered", decided, e.broker.Stored(), left, len(got))
			}
		})
	}
}

func TestOldNacks(t *testing.T) {
	t.Parallel()
	e := setupOld(t, original.Options{})
	c := e.dial(nil)
	var attempts atomic.Int32
	_, err := c.Subscribe(t.Context(), []client.Binding{client.Direct("trade", "pay-succ")}, func(context.Context, *client.Delivery) error {
		switch attempts.Add(1) {
		case 1:
			return errors.New("no stock")
		case 2:
			panic("boom")
		case 3:
			return errors.New("still none")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"no stock", "boom", "still none"} {
		if ack := mustNext(t, &e.broker.Acks); ack.Ack.GetStatus() || !strings.Contains(ack.Ack.GetFeedback(), want) {
			t.Errorf("ack %+v, want a nack that says %q", ack, want)
		}
	}
	e.broker.Recover()
	if ack := mustNext(t, &e.broker.Acks); !ack.Ack.GetStatus() || e.broker.Stored() != 0 {
		t.Errorf("ack %+v, %d stored", ack, e.broker.Stored())
	}
}

// The broker's znode goes away and comes back, and its connections break in between.
func TestOldBrokerComesBack(t *testing.T) {
	t.Parallel()
	e := setupOld(t, original.Options{})
	c := e.dial(nil)
	got := subscribe(t, c)
	for range 3 {
		e.registry.SetBrokers("trade")
		e.broker.Drop()
		e.registry.SetBrokers("trade", e.broker.Addr())
		if err := c.Publish(t.Context(), message()); err != nil {
			t.Fatal(err)
		}
		// Sent on a connection that was just dropped, a delivery times out.
		for delivered := false; !delivered; {
			select {
			case <-got:
				delivered = true
			case <-time.After(50 * time.Millisecond):
				e.broker.Recover()
			}
		}
		mustNext(t, &e.broker.Acks)
	}
}

// Frames of the wrong kind with the opaque of a publish, and answers to nothing, change nothing.
func TestOldStrangeFrames(t *testing.T) {
	t.Parallel()
	e := setupOld(t, original.Options{})
	c := e.dial(func(o *client.Options) { o.AckTimeout = time.Minute })
	e.broker.LoseAcks(1)
	waiting := c.PublishAsync(t.Context(), message())
	p := mustNext(t, &e.broker.Published)
	frames := []struct {
		opaque  uint32
		command byte
		payload []byte
	}{
		{p.Opaque, 0x01, []byte{0x08, 0x01}},
		{p.Opaque, 0x03, []byte{0x08, 0x01, 0x12, 0x00}},
		{p.Opaque, 0x05, []byte("junk")},
		{p.Opaque, 0x7f, nil},
		{p.Opaque + 1, 0x04, clienttest.StoreAckPayload(waiting.ID(), false, "Expired Message!")},
		{1, 0x04, clienttest.StoreAckPayload(waiting.ID(), false, "Expired Message!")},
		{0, 0x03, []byte{0x08, 0x00, 0x12, 0x00}},
	}
	for _, f := range frames {
		if err := e.broker.Frame("g", f.opaque, f.command, f.payload); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.broker.Frame("g", p.Opaque, 0x04, clienttest.StoreAckPayload(waiting.ID(), true, "Store Result true Cost:1")); err != nil {
		t.Fatal(err)
	}
	if err := waiting.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Unsolicited != int64(len(frames)) || s.Connects != 1 {
		t.Errorf("stats %+v, want %d unsolicited", s, len(frames))
	}
}
