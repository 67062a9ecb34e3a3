package sequence

import (
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store/memory"
)

// TestTuneAndStats: bounds change while the lane has work, and each turn is measured.
func TestTuneAndStats(t *testing.T) {
	t.Parallel()
	r := newRig(t, mustMemory(t, memory.Options{}), Options{MaxOpen: 1000, InboxItems: 1024})
	if got := r.turn(item(prepared, "trade", 1), item(prepared, "trade", 2)); got[1].Verdict != kite.OK {
		t.Fatal(got[1].Verdict)
	}
	o := *r.options.Load()
	o.MaxOpen, o.InboxItems, o.DedupeWindow, o.DeliverFirst = 2, 1, time.Second, true
	r.Tune(o)
	if got := r.turn(item(prepared, "trade", 3)); got[0].Verdict != kite.Busy {
		t.Errorf("a third transaction of 2: %v", got[0].Verdict)
	}
	if now := r.options.Load(); now.DedupeWindow == time.Second || now.DeliverFirst {
		t.Errorf("%+v: what cannot change has changed", now)
	}
	batch := func() *kite.Batch {
		return &kite.Batch{Arena: make([]byte, 7), Items: []kite.Item{item(message, "trade", 4)}}
	}
	if err := r.Submit(batch()); err != nil {
		t.Fatal(err)
	}
	if err := r.Submit(batch()); kite.CodeOf(err) != kite.Busy {
		t.Errorf("a second request of 1: %v", err)
	}
	s := r.Stats()
	if s.Waiting != 1 || s.WaitingBytes != 7 || s.Appended.Count() != 1 || s.Synced.Count() != 1 || s.Busy <= 0 {
		t.Errorf("%+v", s)
	}
}
