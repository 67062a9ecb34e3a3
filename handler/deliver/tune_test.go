package deliver

import (
	"testing"
	"time"
)

// TestTune widens a window, shortens the time for an answer and changes the pauses of a group while it delivers.
func TestTune(t *testing.T) {
	t.Parallel()
	run(t, Options{Shards: 2, Window: 2, AckTimeout: time.Minute}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 10)
		r.publish("trade", 5, message{})
		sent := r.expect("by the window", 1, 2)

		o := r.options
		o.Window, o.AckTimeout = 4, time.Second
		o.Retry = map[string][]time.Duration{"s-a": {3 * time.Second}}
		o.Shards, o.BindSkew = 7, time.Hour // of no effect
		r.d.Tune(o)
		pass(0)
		r.expect("by the wider one", 3, 4)
		r.nack("s-a", sent[0])
		r.expect("not before its new pause")
		pass(2 * time.Second)
		r.expect("the others were not answered in time, and pause, too")
		pass(1001 * time.Millisecond)
		r.expect("again", 1)
		if stats, err := r.d.Stats(t.Context()); err != nil || len(stats) != 1 || stats[0].Failed != 4 {
			t.Errorf("%+v, %v; want 4 failed", stats, err)
		}
		pass(1 * time.Second)
		if n := len(r.take()); n != 3 { // the one with the old timeout among them
			t.Errorf("%d more were sent again, want 3", n)
		}
	})
}

// TestTuneWatermark gives the new one to groups without one of their own.
func TestTuneWatermark(t *testing.T) {
	t.Parallel()
	run(t, Options{Watermark: 2}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 100)
		r.publish("trade", 50, message{})
		r.expect("half a second's", 1)
		o := r.options
		o.Watermark = 80
		r.d.Tune(o)
		pass(500 * time.Millisecond)
		if n := len(r.take()); n < 40 {
			t.Errorf("%d in half a second of a watermark of 80", n)
		}
	})
}

// TestTotals counts what was sent for the first time by how long it had waited.
func TestTotals(t *testing.T) {
	t.Parallel()
	run(t, Options{Shards: 3}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.publish("trade", 3, message{})
		pass(2 * time.Second)
		r.join("s-a", "a1", 10)
		sent := r.expect("what has waited", 1, 2, 3)
		r.publish("trade", 1, message{})
		r.expect("what has not", 4)
		r.nack("s-a", sent[0])
		r.expect("again, which is not counted", 1)
		got := r.d.Totals()
		if got.Waited.Count() != 4 || got.Waited.Counts[0] != 1 || got.Waited.Sum != 6*time.Second {
			t.Errorf("%+v", got)
		}
		r.fly("lost", -time.Hour)
		if got = r.d.Totals(); got.Dropped != 1 {
			t.Errorf("%d dropped, want 1", got.Dropped)
		}
	})
}
