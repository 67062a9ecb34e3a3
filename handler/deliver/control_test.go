package deliver

import (
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestPause sends nothing while an operator holds the flow, and takes answers; also over a crash.
func TestPause(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"), fanout("trade", "s-b"))
		r.join("s-a", "a1", 2)
		r.publish("trade", 4, message{})
		sent := r.expect("by credit", 1, 2)
		r.order(kite.ActionPause, "s-a", 0)
		r.ack("s-a", sent[0])
		r.nack("s-a", sent[1])
		r.fly("one", time.Hour)
		pass(10 * time.Minute)
		r.expect("while paused")
		r.settled("s-a", 2)

		r.crash()
		r.join("s-a", "a1", 2)
		pass(time.Minute)
		r.expect("after a crash")
		r.join("s-b", "b1", 9)
		r.ack("s-b", r.expect("the other group", 1, 2, 3, 4)...)
		r.order(kite.ActionResume, "s-a", 0)
		r.expect("goes on", 2, 3)
	})
}

// TestPauseUnbound keeps what was ordered about a group that is not bound yet.
func TestPauseUnbound(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.publish("trade", 3, message{})
		r.order(kite.ActionPause, "s-a", 0)
		r.order(kite.ActionSeek, "s-a", 3)
		r.join("s-a", "a1", 9)
		r.route(fanout("trade", "s-a"))
		r.expect("paused before it was bound")
		r.order(kite.ActionResume, "s-a", 0)
		r.expect("from where it was moved", 3)
	})
}

// TestSeek moves a flow back and forth, with messages in flight, armed and late, ordered and not. What was
// out before is forgotten: its answers give their credit back and settle nothing.
func TestSeek(t *testing.T) {
	t.Parallel()
	for name, order := range map[string]kite.Ordering{"plain": kite.OrderNone, "by topic": kite.OrderByTopic} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, Options{Retry: map[string][]time.Duration{"s-a": {time.Minute}}}, func(t *testing.T, r *rig) {
				route := fanout("trade", "s-a")
				route.Bindings[0].Order = order
				r.route(route)
				a1 := r.join("s-a", "a1", 1)
				r.publish("trade", 6, message{})
				r.ack("s-a", r.expect("first", 1)...)
				r.nack("s-a", r.expect("second", 2)...)
				sent := r.take() // in an order, 3 waits behind the 2 that is armed

				r.order(kite.ActionSeek, "s-a", 1)
				if order == kite.OrderNone {
					r.expect("the member has no credit yet")
					if a1.holds() != 1 {
						t.Errorf("holds %d credits before it answered", a1.holds())
					}
				}
				r.ack("s-a", sent...) // of before: settles nothing
				for seq := kite.Seq(1); seq <= 6; seq++ {
					r.ack("s-a", r.expect("again, all of them", seq)...)
				}
				pass(2 * time.Minute)
				r.expect("the old retry is gone")
				r.settled("s-a", 7)
				if a1.holds() != 0 {
					t.Errorf("holds %d credits in the end", a1.holds())
				}

				r.order(kite.ActionSeek, "s-a", 5)
				r.crash()
				r.join("s-a", "a2", 9)
				sent = r.take()
				if len(sent) == 0 || sent[0].seq != 5 {
					t.Errorf("after a crash it went on with %v, want 5", seqs(sent))
				}
			})
		})
	}
}

// TestSeekSaves: progress of before a seek is not told again after it, though the lane refused it.
func TestSeekSaves(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 9)
		r.publish("trade", 3, message{})
		sent := r.expect("all", 1, 2, 3)
		r.lane.set(func() { r.lane.err = kite.Errorf(kite.Busy, "full") })
		r.ack("s-a", sent[:2]...)
		r.nack("s-a", sent[2])
		pass(time.Second)
		r.lane.set(func() { r.lane.err = nil })
		r.order(kite.ActionSeek, "s-a", 4)
		r.settled("s-a", 4)
		if s := r.lane.standing("trade", "s-a"); s.Turn != 1 || len(s.Retries) > 0 {
			t.Errorf("turn %d, retries %v", s.Turn, s.Retries)
		}
		r.publish("trade", 1, message{})
		r.take()
		r.order(kite.ActionSeek, "s-a", 1)
		r.settled("s-a", 1)
	})
}

// TestSeekSavesLate is the same for progress that the lane had when the seek came, and refuses after it.
func TestSeekSavesLate(t *testing.T) {
	t.Parallel()
	run(t, Options{Retry: map[string][]time.Duration{"s-a": {time.Minute}}}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 3)
		r.publish("trade", 3, message{})
		sent := r.expect("all", 1, 2, 3)
		r.lane.set(func() { r.lane.lost = true }) // it keeps its word for later
		r.nack("s-a", sent[2])
		pass(r.options.ProgressEvery)
		r.lane.set(func() { r.lane.lost = false })
		s := r.d.shards[0]
		refused := &kite.Batch{}
		for id := range s.saving {
			refused.Items = append(refused.Items, kite.Item{Opaque: id, Verdict: kite.Busy, Record: kite.Record{Kind: kite.KindProgress}})
		}
		if len(refused.Items) != 1 {
			t.Fatalf("%d progresses are with the lane, want 1", len(refused.Items))
		}
		r.order(kite.ActionSeek, "s-a", 1)
		s.journaled(refused)
		pass(time.Second)
		if got := r.lane.standing("trade", "s-a"); got.Turn != 1 || len(got.Retries) > 0 {
			t.Errorf("turn %d, retries %v of before the seek", got.Turn, got.Retries)
		}
	})
}
