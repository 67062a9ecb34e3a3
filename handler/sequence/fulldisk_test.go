package sequence

import (
	"log/slog"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store/mmap"
)

// TestFullDisk fills a file system of 8 MiB, a real one: publishes are busy, what settles is not, then there is
// room again, and nothing that was answered is lost, also when the broker starts anew in between.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		dir := smallDisk(t, 8<<20)
		open := func() *rig {
			j, err := mmap.Open(mmap.Options{Dir: dir, SegmentBytes: 1 << 20}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			return newRig(t, j, Options{DedupeWindow: time.Second}) // what is remembered by its id holds its segment
		}
		r := open()
		again := func() {
			clock := r.clock.Add(time.Minute)
			if restarted {
				if err := r.spy.Close(); err != nil {
					t.Fatal(err)
				}
				routes := r.routes
				r = open()
				r.routes.all = routes.all
			}
			r.clock = clock
		}
		r.routes.all = []kite.Route{durable("trade", "s-a")}
		answered, n := kite.Seq(0), 0
		for round := range 3 {
			for range 20_000 {
				n++
				it := item(message, "trade", n)
				it.Body = make([]byte, 1500)
				if got := r.turn(it); got[0].Verdict != kite.OK {
					if got[0].Verdict != kite.Busy {
						t.Fatalf("publish %d: %v", n, got[0].Verdict)
					}
					break
				}
				answered++
			}
			again()
			r.published(t, answered)
			for floor := kite.Seq(1); floor <= answered; floor += 50 {
				got := r.turn(item(message, "trade", n), progress("trade", "s-a", kite.Progress{Floor: floor}))
				if got[1].Verdict != kite.OK {
					t.Fatalf("round %d: settling up to %d: %v", round, floor, got[1].Verdict)
				}
				if got[0].Verdict == kite.OK && !got[0].Repeat {
					answered++
				}
			}
			r.turn(progress("trade", "s-a", kite.Progress{Floor: answered + 1}))
			again()
			n++
			if got := r.turn(item(message, "trade", n)); got[0].Verdict != kite.OK {
				t.Fatalf("round %d: publish after all was settled: %v", round, got[0].Verdict)
			}
			answered++
		}
		if answered < 5000 {
			t.Errorf("%d messages went through 8 MiB in three rounds", answered)
		}
	}
}

// published checks that the journal ends with the last answered message, and has all that it ought to.
func (r *rig) published(t *testing.T, answered kite.Seq) {
	t.Helper()
	first, next := r.spy.Bounds("trade")
	seq := first
	err := r.spy.Read("trade", first, func(got *kite.Record) bool {
		if got.Seq != seq {
			return false
		}
		seq++
		return true
	})
	if err != nil || seq != next || next != answered+1 {
		t.Fatalf("messages %d to %d can be read, want %d to %d, %v", first, seq-1, first, answered, err)
	}
}
