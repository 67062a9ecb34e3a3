package deliver

import (
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

func (r *rig) fly(body string, expire time.Duration) {
	r.d.Fly([]kite.Item{{Record: kite.Record{Command: 0x11, Topic: "trade", Type: []byte("pay"), Body: []byte(body), ExpiresMs: kite.UnixMs(time.Now().Add(expire))}}})
	pass(0)
}

func (r *rig) dropped() (n int64) {
	for _, s := range r.d.shards {
		n += s.dropped.Load()
	}
	return n
}

func bodies(sent []delivery) (all string) {
	for _, d := range sent {
		all += d.body + " "
	}
	return all
}

// TestFly sends a message that is not stored to whoever is there, three times, and then no more.
func TestFly(t *testing.T) {
	t.Parallel()
	run(t, Options{AckTimeout: time.Second}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"), kite.Route{Topic: "trade", Group: "s-b", Bindings: []kite.Binding{kite.Direct("s-b", "trade", "other")}}, fanout("trade", "s-off"))
		r.fly("lost", time.Hour)
		a := r.join("s-a", "a1", 10)
		r.join("s-b", "b1", 10)
		if sent := r.take(); len(sent) != 0 {
			t.Errorf("sent %q, which came while nobody was there", bodies(sent))
		}
		if n := r.dropped(); n != 2 {
			t.Errorf("%d dropped, want 2: for s-a and s-off", n)
		}
		r.fly("one", time.Hour)
		sent := r.take()
		if bodies(sent) != "one " || sent[0].to != a || sent[0].seq != 0 {
			t.Fatalf("sent %+v, want one to a1", sent)
		}
		r.nack("s-a", sent...) // second attempt
		if sent = r.take(); bodies(sent) != "one " {
			t.Fatalf("after a nack: %q", bodies(sent))
		}
		pass(time.Second) // timeout, third attempt
		third := r.take()
		if bodies(third) != "one " {
			t.Fatalf("after a timeout: %q", bodies(third))
		}
		before := r.dropped()
		r.nack("s-a", third...)
		pass(time.Minute)
		if extra := r.take(); len(extra) != 0 || r.dropped() != before+1 {
			t.Errorf("a fourth attempt: %q; %d dropped", bodies(extra), r.dropped()-before)
		}
		r.ack("s-a", sent...) // the late answer to the second gives its credit back
		if a.holds() != 0 {
			t.Errorf("%d credits held", a.holds())
		}
		r.dead()
	})
}

// TestFlyWaits keeps a message for credit, not longer than it lives, and beside stored ones.
func TestFlyWaits(t *testing.T) {
	t.Parallel()
	run(t, Options{AckTimeout: time.Hour}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		a := r.join("s-a", "a1", 1)
		r.publish("trade", 2, message{})
		sent := r.expect("as the credit allows", 1)
		r.fly("one", time.Hour)
		r.fly("old", time.Second)
		r.expect("no credit")
		pass(2 * time.Second)
		r.ack("s-a", sent...)
		sent = r.take()
		if bodies(sent) != "one " {
			t.Fatalf("sent %q, want the fly message", bodies(sent))
		}
		r.ack("s-a", sent...)
		r.expect("the old one is dropped, the stored one comes", 2)
		r.fly("late", time.Hour)
		r.leave("s-a", a)
		r.fly("gone", time.Hour)
		r.join("s-a", "a2", 5)
		if sent = r.take(); len(sent) != 2 || sent[0].body != "late" || sent[1].seq != 2 {
			t.Errorf("sent %q, want what waited and what is stored", bodies(sent))
		}
		if n := r.dropped(); n != 2 {
			t.Errorf("%d dropped, want old and gone", n)
		}
	})
}

// TestFlyBound drops, and counts, what has no room: in a flow, and on the way to it.
func TestFlyBound(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 0)
		items := make([]kite.Item, 100)
		for i := range items {
			items[i].Record = kite.Record{Topic: "trade", Body: []byte("x")}
		}
		for range flyWaiting / len(items) {
			r.d.Fly(items)
			pass(0)
		}
		if n := r.dropped(); n != 0 {
			t.Errorf("%d dropped while there is room", n)
		}
		for range 2 {
			r.d.Fly(items[:flyWaiting%len(items)])
			pass(0)
		}
		if n := r.dropped(); n != int64(flyWaiting%len(items)) {
			t.Errorf("%d dropped of a full flow", n)
		}
	})
	s := newShard(Options{}.WithDefaults(), nil, nil, nil, nil, nil, nil)
	s.bind([]kite.Route{fanout("trade", "s-a")})
	items := make([]kite.Item, flyWaiting)
	for i := range items {
		items[i].Topic = "trade"
	}
	s.flown(items[10:])
	s.flown(items[:30])
	if n := s.dropped.Load(); n != 20 || s.events.flying != flyWaiting {
		t.Errorf("%d dropped on the way, %d wait", n, s.events.flying)
	}
}
