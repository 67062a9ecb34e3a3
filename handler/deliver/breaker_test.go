package deliver

import (
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// open tells whether the breaker of s-a is open.
func (r *rig) breakerOpen() bool {
	r.t.Helper()
	stats, err := r.d.Stats(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return slices.ContainsFunc(stats, func(f FlowStats) bool { return f.Group == "s-a" && f.BreakerOpen })
}

// failing refuses everything for so long, and returns how much was sent.
func (r *rig) failing(d time.Duration) (sent []delivery) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		now := r.take()
		sent = append(sent, now...)
		r.nack("s-a", now...)
		pass(100 * time.Millisecond)
	}
	return sent
}

// TestBreaker: a group that can process nothing for hours loses nothing, is asked ever more seldom by one
// message at a time, in turns, and gets everything when it can again.
func TestBreaker(t *testing.T) {
	t.Parallel()
	for name, order := range map[string]kite.Ordering{"plain": kite.OrderNone, "by key": kite.OrderByKey} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pauses := map[string][]time.Duration{"s-a": {500 * time.Millisecond}}
			run(t, Options{Window: 40, Retry: pauses}, func(t *testing.T, r *rig) {
				route := fanout("trade", "s-a")
				if route.Bindings[0].Order = order; order == kite.OrderByKey {
					route.Bindings[0].OrderKey = "key"
				}
				r.route(route)
				r.join("s-a", "a1", 5)
				for n := range 60 {
					r.publish("trade", 1, message{limit: 12, key: string(rune('a' + n%50))})
				}
				r.failing(5 * time.Second)
				if !r.breakerOpen() {
					t.Fatal("the breaker is closed after 5s of failures")
				}
				r.failing(2 * time.Minute)
				probes := r.failing(3 * time.Hour)
				if n := len(probes); n < 350 || n > 370 {
					t.Errorf("%d probes in 3 hours, want one every 30s", n)
				}
				tried := map[kite.Seq]int{}
				for _, d := range probes {
					tried[d.seq]++
				}
				if len(tried) < 30 {
					t.Errorf("only %d different messages were probes", len(tried))
				}
				r.dead()
				pass(time.Minute)
				for sent := r.take(); len(sent) > 0; sent = r.take() {
					r.ack("s-a", sent...)
					if r.breakerOpen() {
						t.Fatal("an ack leaves it open")
					}
					pass(time.Second)
				}
				r.settled("s-a", 61)
			})
		})
	}
}

// TestBreakerPoison: some messages that fail for ever open no breaker, and die at their limit; nor does a
// burst, or a lost connection.
func TestBreakerPoison(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 99)
		r.publish("trade", 2, message{limit: 30})
		r.failing(5 * time.Minute)
		if r.breakerOpen() {
			t.Error("two bad messages opened it")
		}
		r.failing(time.Hour)
		if len(r.lane.letters) != 2 {
			t.Errorf("%d are dead, want both", len(r.lane.letters))
		}
		r.publish("trade", 50, message{})
		r.nack("s-a", r.take()...)
		if r.breakerOpen() {
			t.Error("a burst opened it")
		}
		r.ack("s-a", r.take()...)
		pass(time.Minute)
		r.publish("trade", 50, message{})
		for range 3 {
			for _, m := range slices.Clone(r.hub.groups["s-a"]) {
				r.leave("s-a", m)
			}
			r.take()
			r.join("s-a", "a2", 99)
			pass(time.Second)
		}
		if r.breakerOpen() {
			t.Error("lost connections opened it")
		}
	})
}

// TestBreakerOff never opens.
func TestBreakerOff(t *testing.T) {
	t.Parallel()
	run(t, Options{BreakerAfter: -1}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 99)
		r.publish("trade", 50, message{})
		r.failing(time.Minute)
		if r.breakerOpen() {
			t.Error("it is open")
		}
	})
}

// TestBreakerProbeLost: a probe whose connection is lost, or that is not answered, is followed by another.
func TestBreakerProbeLost(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		a1 := r.join("s-a", "a1", 30)
		r.publish("trade", 60, message{})
		r.failing(7 * time.Second)
		if !r.breakerOpen() {
			t.Fatal("the breaker is closed")
		}
		r.take()
		pass(3 * time.Second)
		if n := len(r.take()); n > 1 {
			t.Fatalf("%d probes at once", n)
		}
		r.leave("s-a", a1)
		r.join("s-a", "a2", 30)
		pass(3 * time.Second)
		if n := len(r.take()); n != 1 {
			t.Fatalf("%d probes after the connection was lost", n)
		}
		pass(30 * time.Second) // not answered
		sent := r.take()
		if len(sent) == 0 {
			t.Fatal("no probe after one that was not answered")
		}
		r.ack("s-a", sent[0])
		if r.breakerOpen() || len(r.take()) == 0 {
			t.Error("a late ack does not close it")
		}
	})
}

// TestBreakerFresh: hopeless messages in great number do not hide that others would be taken.
func TestBreakerFresh(t *testing.T) {
	t.Parallel()
	for name, order := range map[string]kite.Ordering{"plain": kite.OrderNone, "by key": kite.OrderByKey} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, Options{Retry: map[string][]time.Duration{"s-a": {500 * time.Millisecond}}}, func(t *testing.T, r *rig) {
				route := fanout("trade", "s-a")
				if route.Bindings[0].Order = order; order == kite.OrderByKey {
					route.Bindings[0].OrderKey = "key"
				}
				r.route(route)
				r.join("s-a", "a1", 30)
				for n := range 25 {
					r.publish("trade", 1, message{key: string(rune('a' + n))})
				}
				r.failing(10 * time.Second)
				r.publish("trade", 1, message{key: "good"})
				tried := func(d delivery) bool { return d.seq == 26 }
				if !slices.ContainsFunc(r.failing(90*time.Second), tried) {
					t.Error("the good one was not tried")
				}
			})
		})
	}
}
