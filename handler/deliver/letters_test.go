package deliver

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// discarded compares which dead letters were discarded, by whom and why.
func (r *rig) discarded(want ...string) {
	r.t.Helper()
	r.lane.mu.Lock()
	defer r.lane.mu.Unlock()
	if !slices.Equal(r.lane.discards, want) {
		r.t.Errorf("discarded %q, want %q", r.lane.discards, want)
	}
}

// dies brings n messages to s-a's dead letters.
func (r *rig) dies(n int) {
	r.t.Helper()
	r.publish("trade", n, message{limit: 2, expire: time.Hour})
	for range 2 {
		r.nack("s-a", r.take()...)
	}
}

// TestRequeue delivers a dead letter again, to its group only, though it has expired; an ack discards it.
func TestRequeue(t *testing.T) {
	t.Parallel()
	for name, order := range map[string]kite.Ordering{"plain": kite.OrderNone, "by topic": kite.OrderByTopic} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, Options{}, func(t *testing.T, r *rig) {
				route := fanout("trade", "s-a")
				route.Bindings[0].Order = order
				r.route(route, fanout("trade", "s-b"))
				r.join("s-a", "a1", 1)
				r.dies(1)
				pass(2 * time.Hour)
				r.order(kite.ActionRequeue, "s-a", 1)
				sent := r.take()
				if len(sent) != 1 || sent[0].body != "trade 1" {
					t.Fatalf("sent %v", bodies(sent))
				}
				r.crash() // it is begun again
				r.join("s-a", "a1", 1)
				r.join("s-b", "b1", 9)
				sent = r.take()
				if len(sent) != 1 || sent[0].to.name != "a1" {
					t.Fatalf("after a crash %d were sent", len(sent))
				}
				r.nack("s-a", sent...)
				sent = r.take()
				r.ack("s-a", sent...)
				r.discarded("s-a 1 by broker: delivered after requeue")
				r.publish("trade", 1, message{})
				r.ack("s-a", r.take()...)
				pass(time.Second)
				r.crash()
				r.join("s-a", "a1", 9)
				r.expect("it is over")
			})
		})
	}
}

// TestRequeueDies: a requeued dead letter dies at its limit as a new one, which takes the old one's place in
// one entry.
func TestRequeueDies(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 1)
		stored := kite.UnixMs(time.Now())
		r.dies(1)
		pass(time.Minute)
		r.order(kite.ActionRequeue, "s-a", 1)
		r.nack("s-a", r.take()...)
		r.lane.set(func() { r.lane.err = kite.Errorf(kite.Busy, "full") })
		r.nack("s-a", r.take()...)
		r.expect("it waits for the lane")
		r.lane.set(func() { r.lane.err = nil })
		pass(2 * time.Second)
		r.expect("it died")
		const why = "s-a 1 after 2: deliver limit 2 reached, last: nack: no"
		r.dead(why, why)
		r.discarded("s-a 1 by broker: died again after requeue")
		for _, l := range r.lane.letters {
			if l.PublishedMs != stored || l.Feedback != "nack: no" || string(l.Payload) != "trade 1" {
				t.Errorf("published %d (want %d), feedback %q, payload %q", l.PublishedMs, stored, l.Feedback, l.Payload)
			}
		}
		stats, err := r.d.Stats(t.Context())
		if err != nil || stats[0].Letters != 1 || stats[0].Requeued != 0 {
			t.Errorf("%+v, %v", stats, err)
		}
	})
}

// TestRequeueBound: requeued dead letters take a part of the window only, and who is discarded is forgotten,
// waiting or in flight.
func TestRequeueBound(t *testing.T) {
	t.Parallel()
	run(t, Options{Window: 8}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		a1 := r.join("s-a", "a1", 99)
		r.dies(6)
		for letter := range kite.Seq(6) {
			r.order(kite.ActionRequeue, "s-a", letter+1)
		}
		sent := r.take()
		if len(sent) != 2 {
			t.Fatalf("%d are under way, want a quarter of the window", len(sent))
		}
		r.publish("trade", 9, message{})
		if rest := r.take(); len(rest) != 6 {
			t.Errorf("%d messages beside them, want 6", len(rest))
		}
		r.order(kite.ActionDiscard, "s-a", 1) // in flight
		r.order(kite.ActionDiscard, "s-a", 6) // waiting
		r.ack("s-a", sent[0])
		next := r.take()
		if len(next) != 1 {
			t.Fatalf("%d in its place", len(next))
		}
		for sent = append(sent[1:], next...); len(sent) > 0; sent = r.take() {
			r.ack("s-a", sent...)
		}
		r.lane.mu.Lock()
		got := strings.Join(r.lane.discards, "\n")
		r.lane.mu.Unlock()
		for letter := 2; letter <= 5; letter++ {
			if !strings.Contains(got, fmt.Sprintf("s-a %d by broker", letter)) {
				t.Errorf("%d was not delivered: %s", letter, got)
			}
		}
		if strings.Contains(got, "s-a 1 by broker") || strings.Contains(got, "s-a 6 by broker") {
			t.Errorf("discarded ones were delivered: %s", got)
		}
		stats, err := r.d.Stats(t.Context())
		if err != nil || stats[0].Requeued != 0 || stats[0].Letters != 0 || a1.holds() != 6 {
			t.Errorf("%+v, %v; the member holds %d", stats, err, a1.holds())
		}
	})
}

// TestRetire discards dead letters when their time is over, also of groups that are not bound any more.
func TestRetire(t *testing.T) {
	t.Parallel()
	run(t, Options{DeadRetention: time.Hour}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 9)
		r.dies(1)
		pass(30 * time.Minute)
		r.dies(1)
		r.discarded()
		pass(32 * time.Minute)
		r.discarded("s-a 1 by broker: kept for 1h0m0s")
		r.routes = nil
		r.heads = map[string]kite.Seq{"trade": 2, "trade/s-a": 2}
		r.restart()
		pass(32 * time.Minute)
		r.discarded("s-a 1 by broker: kept for 1h0m0s", "s-a 2 by broker: kept for 1h0m0s")
	})
}

// TestFeedback says in the dead letter what the last delivery came to, however it ended.
func TestFeedback(t *testing.T) {
	t.Parallel()
	for want, fail := range map[string]func(r *rig, m *member){
		"nack: no":                func(r *rig, _ *member) { r.nack("s-a", r.take()...) },
		"no answer within 5s":     func(*rig, *member) { pass(6 * time.Second) },
		"the connection was lost": func(r *rig, m *member) { r.leave("s-a", m) },
		"":                        func(*rig, *member) {},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			run(t, Options{Retry: map[string][]time.Duration{"s-a": {2 * time.Hour}}}, func(t *testing.T, r *rig) {
				r.route(fanout("trade", "s-a"))
				if m := r.join("s-a", "a1", 9); want == "" {
					r.leave("s-a", m)
					r.publish("trade", 1, message{expire: time.Hour})
				} else {
					r.publish("trade", 1, message{expire: time.Hour})
					fail(r, m)
				}
				pass(3 * time.Hour)
				r.join("s-a", "a2", 9)
				if len(r.lane.letters) != 1 || r.lane.letters[0].Reason != "expired" || r.lane.letters[0].Feedback != want {
					t.Errorf("%+v", r.lane.letters)
				}
			})
		})
	}
}
