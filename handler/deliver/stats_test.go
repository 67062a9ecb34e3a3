package deliver

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// stats expects what the flows say, by topic and group.
func (r *rig) stats(why string, want ...FlowStats) {
	r.t.Helper()
	got, err := r.d.Stats(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	slices.SortFunc(got, func(a, b FlowStats) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Group, b.Group))
	})
	if !slices.Equal(got, want) {
		r.t.Errorf("%s: %+v, want %+v", why, got, want)
	}
}

// TestStats counts attempts as they are made and the backlog as it is settled, holes included.
func TestStats(t *testing.T) {
	t.Parallel()
	run(t, Options{Shards: 3}, func(t *testing.T, r *rig) {
		r.stats("without routes")
		r.route(fanout("trade", "s-a"), fanout("trade", "s-off"), volatile(fanout("trade", "s-v")))
		begin := kite.UnixMs(time.Now())
		a := FlowStats{Topic: "trade", Group: "s-a", Bound: true, Durable: true, OfflineMs: begin}
		off := FlowStats{Topic: "trade", Group: "s-off", Bound: true, Durable: true, OfflineMs: begin}
		v := FlowStats{Topic: "trade", Group: "s-v", Bound: true, OfflineMs: begin}
		r.stats("before anything", a, off, v)

		r.join("s-a", "a1", 3)
		r.publish("trade", 5, message{})
		sent := r.expect("by credit", 1, 2, 3)
		a.Acquired, a.Unsettled, a.Lag, a.InFlight, a.OldestMs, a.OfflineMs = 3, 5, 2, 3, begin, 0
		off.Unsettled, off.Lag, off.OldestMs = 5, 5, begin
		r.stats("three in flight", a, off, v)

		r.ack("s-a", sent[1]) // a hole: 1 is not settled yet
		r.expect("in its place", 4)
		a.Acquired, a.Unsettled, a.Lag = 4, 4, 1
		r.stats("one settled above the floor", a, off, v)

		r.nack("s-a", sent[0])
		r.expect("again", 1)
		a.Acquired, a.Failed = 5, 1
		r.stats("an attempt more", a, off, v)

		r.fly("one", time.Hour) // to those who are there: s-a has no credit left
		r.join("s-a", "a2", 1)
		if sent := bodies(r.take()); sent != "one " {
			t.Errorf("sent %q", sent)
		}
		a.Flown = 1
		r.stats("a fly message", a, off, v)

		r.route(fanout("trade", "s-off"))
		a.Bound, v.Bound = false, false
		r.stats("unbound", a, off, v)
	})
}

// TestStatsStopped: nobody waits for shards that no longer answer, or do not answer yet.
func TestStatsStopped(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.stop()
		r.stop = func() {}
		if _, err := r.d.Stats(t.Context()); !errors.Is(err, kite.Unavailable) {
			t.Errorf("stopped: %v, want code unavailable", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		idle := New(r.options, r.reader, r.lane, func() Courier { return &courier{hub: r.hub} }, r.lane.standing, nil, r.d.log)
		if _, err := idle.Stats(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("not started: %v, want a deadline", err)
		}
	})
}
