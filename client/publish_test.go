package client_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/clienttest"
)

func TestPublishSendsWhatTheMessageSays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(func(o *client.Options) { o.SecretKey, o.WarmingUp = "secret", 3*time.Second })
	if got, want := mustNext(t, &b.broker.Connects), (clienttest.Connect{Group: "g", SecretKey: "secret", WarmingUpSec: 3}); got != want {
		t.Errorf("connected as %+v, want %+v", got, want)
	}
	expires := time.Now().Add(time.Hour)
	m := &client.Message{
		ID: "000102030405060708090a0b0c0d0eFF", Topic: "trade", Type: "pay", Body: []byte("body"), Text: true,
		Properties: map[string]string{"k": "v", "a": ""}, Expires: expires, DeliverLimit: 7,
	}
	before := *m
	if err := c.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*m, before) {
		t.Error("Publish changed the caller's message")
	}
	got := mustNext(t, &b.broker.Published)
	if got.ID != m.ID || got.Topic != "trade" || got.Type != "pay" || got.Group != "g" || string(got.Body) != "body" ||
		!got.Text || !got.Commit || got.Fly || got.DeliverLimit != 7 || !reflect.DeepEqual(got.Properties, m.Properties) {
		t.Errorf("published %+v", got)
	}
	if d := got.ExpiredTime - expires.Unix(); d != 0 && d != 1 {
		t.Errorf("expires %d s after what was asked", d)
	}
	if age := time.Now().Unix() - got.CreateTime; age < 0 || age > 60 {
		t.Errorf("created %d s ago", age)
	}
	if got.Opaque < 0x8000_0000 {
		t.Errorf("opaque %#x, want 0x80000000 or more", got.Opaque)
	}
	if want := []string{"trade g"}; !slices.Equal(b.registry.Producers(), want) {
		t.Errorf("producers %v, want %v", b.registry.Producers(), want)
	}
}

func TestPublishFillsInDefaults(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(nil)
	m := message()
	m.Fly = true
	p := c.PublishAsync(t.Context(), m)
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := mustNext(t, &b.broker.Published)
	if m.ID != "" || len(got.ID) != 32 || got.ID != p.ID() {
		t.Errorf("id %q sent, %q told, %q in the caller's message", got.ID, p.ID(), m.ID)
	}
	if got.ExpiredTime != -1 || got.DeliverLimit != client.MaxDeliverLimit || got.Text || !got.Fly || got.Properties != nil {
		t.Errorf("published %+v", got)
	}
}

func TestPublishInvalid(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(nil)
	tests := []struct {
		name   string
		change func(*client.Message)
		code   client.Code
		text   string
	}{
		{"id", func(m *client.Message) { m.ID = "xyz" }, client.Invalid, `"xyz"`},
		{"topic", func(m *client.Message) { m.Topic = "a/b" }, client.Invalid, `"a/b"`},
		{"other topic", func(m *client.Message) { m.Topic = "other" }, client.Invalid, "Options.Topics [trade]"},
		{"no type", func(m *client.Message) { m.Type = "" }, client.Invalid, "1 to 255"},
		{"long type", func(m *client.Message) { m.Type = strings.Repeat("x", 256) }, client.Invalid, "1 to 255"},
		{"limit", func(m *client.Message) { m.DeliverLimit = 101 }, client.Invalid, "101"},
		{"expired", func(m *client.Message) { m.Expires = time.Unix(1, 0) }, client.Expired, "1970"},
		{"large", func(m *client.Message) { m.Body = make([]byte, client.MaxMessage) }, client.TooLarge, "at most"},
		{"properties", func(m *client.Message) {
			m.Properties = map[string]string{"k": strings.Repeat("v", client.MaxMessage)}
		}, client.TooLarge, "at most"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := message()
			tt.change(m)
			err := c.Publish(t.Context(), m)
			if client.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v of code %v, want code %v and %q", err, client.CodeOf(err), tt.code, tt.text)
			}
		})
	}
}

func TestPublishLargest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(nil)
	m := message()
	m.Body = bytes.Repeat([]byte("x"), client.MaxMessage-300)
	for range 2 { // the second one with buffers that have grown
		if err := c.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if got := mustNext(t, &b.broker.Published); !bytes.Equal(got.Body, m.Body) {
			t.Errorf("%d bytes arrived, want %d", len(got.Body), len(m.Body))
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		feedback string
		code     client.Code
	}{
		{"UnSupport Topic Message!", client.NotServed},
		{"Invalid MessageId For UUID!", client.Invalid},
		{"Expired Message!", client.Expired},
		{"FLY MUST BE COMMITTED !", client.Invalid},
		{"Unauthorized,Connection broken!", client.Unauthorized},
		{"whatever", client.Internal},
		{"", client.Internal},
	}
	for _, tt := range tests {
		t.Run(tt.feedback, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.broker.OnPublish(func(clienttest.Published) clienttest.Answer { return clienttest.Refuse(tt.feedback) })
			err := b.dial(nil).Publish(t.Context(), message())
			if client.CodeOf(err) != tt.code {
				t.Errorf("got %v of code %v, want code %v", err, client.CodeOf(err), tt.code)
			}
			if n := b.broker.Published.Len(); n != 1 {
				t.Errorf("sent %d times, want once", n)
			}
		})
	}
}

func TestRetrySameID(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		first clienttest.Answer
	}{
		{"timeout", clienttest.Silence()},
		{"connection lost", clienttest.Hangup()},
		{"busy", clienttest.Refuse("Store Result KiteQ OverFlow [127.0.0.1:13800]")},
		{"not stored", clienttest.Refuse("Store Result false Cost:3")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			c := b.dial(func(o *client.Options) { o.AckTimeout = 50 * time.Millisecond })
			answers := []clienttest.Answer{tt.first, tt.first, clienttest.Accept()}
			b.broker.OnPublish(func(clienttest.Published) clienttest.Answer {
				next := answers[0]
				if len(answers) > 1 { // on a slow machine the last answer may come late, and the message again
					answers = answers[1:]
				}
				return next
			})
			if err := c.Publish(t.Context(), message()); err != nil {
				t.Fatal(err)
			}
			first := mustNext(t, &b.broker.Published)
			for range 2 {
				if again := mustNext(t, &b.broker.Published); again.ID != first.ID || again.Opaque == first.Opaque {
					t.Errorf("repeated as %s/%#x, first was %s/%#x", again.ID, again.Opaque, first.ID, first.Opaque)
				}
			}
		})
	}
}

func TestPublishGoesElsewhere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := mustListen(t)
	b.registry.SetBrokers("trade", b.broker.Addr(), other.Addr())
	b.broker.OnPublish(func(clienttest.Published) clienttest.Answer { return clienttest.Refuse("UnSupport Topic Message!") })
	c := b.dial(nil)
	mustNext(t, &b.broker.Connects)
	mustNext(t, &other.Connects)
	for range 1000 { // the choice is random: a thousand times the same broker is no chance
		if err := c.Publish(t.Context(), message()); err != nil {
			t.Fatal(err)
		}
		mustNext(t, &other.Published)
		if b.broker.Published.Len() > 0 {
			return
		}
	}
	t.Error("the first broker was never chosen: the choice is not random")
}

// The broker that may have stored the message knows its id: the repeat goes there while it is alive.
func TestRetryPrefersTheSameBroker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := mustListen(t)
	b.registry.SetBrokers("trade", b.broker.Addr(), other.Addr())
	c := b.dial(nil)
	mustNext(t, &b.broker.Connects)
	mustNext(t, &other.Connects)
	for range 10 {
		var asked atomic.Bool
		answer := func(clienttest.Published) clienttest.Answer {
			if asked.Swap(true) {
				return clienttest.Accept()
			}
			return clienttest.Refuse("Store Result KiteQ OverFlow [here]")
		}
		b.broker.OnPublish(answer)
		other.OnPublish(answer)
		if err := c.Publish(t.Context(), message()); err != nil {
			t.Fatal(err)
		}
		if n := b.broker.Published.Len(); n != 0 && n != 2 {
			t.Fatalf("%d attempts at one broker, %d at the other", n, other.Published.Len())
		}
		for range b.broker.Published.Len() {
			mustNext(t, &b.broker.Published)
		}
	}
}

func TestSilentBrokerIsLeft(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := mustListen(t)
	b.registry.SetBrokers("trade", b.broker.Addr(), other.Addr())
	b.broker.OnPublish(func(clienttest.Published) clienttest.Answer { return clienttest.Silence() })
	c := b.dial(func(o *client.Options) { o.AckTimeout = 20 * time.Millisecond })
	mustNext(t, &b.broker.Connects)
	mustNext(t, &other.Connects)
	for range 5 {
		if err := c.Publish(t.Context(), message()); err != nil {
			t.Fatal(err)
		}
		mustNext(t, &other.Published)
	}
}

func TestPublishContextEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(func(o *client.Options) { o.AckTimeout = 20 * time.Millisecond })
	b.broker.OnPublish(func(clienttest.Published) clienttest.Answer { return clienttest.Silence() })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	m := message()
	m.ID = client.NewID()
	err := c.Publish(ctx, m)
	if !errors.Is(err, client.Indeterminate) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), m.ID) {
		t.Errorf("got %v, want Indeterminate, the deadline and the id", err)
	}
	if b.broker.Published.Len() < 2 {
		t.Error("it was not repeated")
	}
	if s := c.Stats(); s.Timeouts == 0 || s.Published < 2 || s.Acked != 0 {
		t.Errorf("stats %+v", s)
	}
}

// A refusal after an attempt that may have been stored does not make it certain.
func TestDoubtStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(func(o *client.Options) { o.AckTimeout = 20 * time.Millisecond })
	answers := []clienttest.Answer{clienttest.Silence(), clienttest.Refuse("Expired Message!")}
	b.broker.OnPublish(func(clienttest.Published) clienttest.Answer {
		next := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		return next
	})
	if err := c.Publish(t.Context(), message()); !errors.Is(err, client.Indeterminate) || !strings.Contains(err.Error(), "Expired Message!") {
		t.Errorf("got %v, want Indeterminate and the refusal", err)
	}
}

func TestNoBrokerLeft(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(nil)
	b.registry.SetBrokers("trade")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := c.Publish(ctx, message())
	// The first attempt may still have met the broker that was leaving.
	if err != nil && (!errors.Is(err, client.Unavailable) || !strings.Contains(err.Error(), "no broker of topic trade in registry memory")) {
		t.Errorf("got %v", err)
	}
	if err := c.Publish(ctx, message()); !errors.Is(err, client.Unavailable) {
		t.Errorf("got %v, want Unavailable", err)
	}
	b.registry.SetBrokers("trade", b.broker.Addr())
	if err := c.Publish(t.Context(), message()); err != nil {
		t.Errorf("the broker is back: %v", err)
	}
}

func TestPublishAsyncIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(func(o *client.Options) { o.MaxPending = 4 })
	b.broker.OnPublish(func(clienttest.Published) clienttest.Answer { return clienttest.Silence() })
	for range 4 {
		c.PublishAsync(t.Context(), message())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p := c.PublishAsync(ctx, message())
	select {
	case <-p.Done():
	default:
		t.Fatal("a fifth publish was sent")
	}
	if err := p.Wait(ctx); !errors.Is(err, client.Unavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want Unavailable and the deadline", err)
	}
	for range 4 {
		mustNext(t, &b.broker.Published)
	}
	if b.broker.Published.Len() != 0 {
		t.Error("a fifth publish arrived")
	}
	b.broker.Drop() // let go of the four
}

func TestPipelining(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(nil)
	var pending []*client.Pending
	for range 5000 {
		pending = append(pending, c.PublishAsync(t.Context(), message()))
	}
	for _, p := range pending {
		if err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-p.Done():
		default:
			t.Fatal("not done after Wait")
		}
	}
	if s := c.Stats(); s.Acked != 5000 || s.Published != 5000 {
		t.Errorf("stats %+v, want 5000 published and acked", s)
	}
}
