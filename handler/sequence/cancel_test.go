package sequence

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

func cancelling(n int) kite.Item {
	body := kite.AppendOrder(nil, &kite.Order{Action: kite.ActionCancel, Note: kite.Note{By: "operator ann", Reason: "sold out"}})
	return kite.Item{Outcome: kite.OutcomeCommitted, Record: kite.Record{Kind: kite.KindOrder, ID: id(n), Body: body}}
}

// TestCancel ends the wait of messages, plain and prepared ones, with a crash, a stop or nothing between any two
// steps: none of them is ever committed, and what comes later to their minute has places of its own.
func TestCancel(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(*rig){
		"nothing": func(*rig) {}, "crash": (*rig).crash, "stop": (*rig).reopen,
		"checkpoint": func(r *rig) { r.checkpoint(0); r.crash() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newMMapRig(t, Options{Retention: time.Millisecond})
			due := start.Add(1000 * time.Second)
			r.turn(later(message, "trade", 1, due), later(message, "trade", 2, due), later(prepared, "trade", 3, due))
			r.turn(item(commit, "trade", 3))
			between(r)
			stale := r.waiting() // who keeps the time has them in memory
			if len(stale) != 3 || r.Delayed() != 3 {
				t.Fatalf("%d wait, %d are counted", len(stale), r.Delayed())
			}
			got := r.turn(cancelling(1), cancelling(3), cancelling(3), cancelling(9))
			if got[0].Verdict != kite.OK || got[0].Repeat || got[0].Seq != 1 || got[0].DueMs != kite.UnixMs(due) || got[0].Topic != "trade" ||
				got[1].Verdict != kite.OK || got[1].Repeat || got[1].Seq != 3 || got[2].Verdict != kite.OK || !got[2].Repeat || got[3].Verdict != kite.TxUnknown {
				t.Fatalf("%+v", got)
			}
			between(r)
			if left := r.waiting(); len(left) != 1 || left[0].ID != id(2) || r.Delayed() != 1 {
				t.Fatalf("%+v wait, %d are counted", left, r.Delayed())
			}
			r.turn(cancelling(2))
			between(r)
			if r.Delayed() != 0 || len(r.state.emptied) != 1 {
				t.Errorf("%d wait, emptied %v", r.Delayed(), r.state.emptied)
			}
			// The minute is still to come: its places go on, or the stale ones would be taken for these.
			r.clock = r.clock.Add(time.Second)
			r.checkpoint(0)
			if got := r.turn(later(message, "trade", 4, due))[0]; got.Seq != 4 || len(r.state.emptied) != 0 {
				t.Fatalf("to an emptied minute: %+v, emptied %v", got, r.state.emptied)
			}
			between(r)
			r.clock = due
			for _, item := range r.turn(slices.Clone(stale)...) {
				if !item.Repeat || item.Verdict != kite.OK {
					t.Errorf("committed after it was cancelled: %+v", item)
				}
			}
			r.turn(r.waiting()...)
			if ids := r.read("trade"); !slices.Equal(ids, []kite.MessageID{id(4)}) {
				t.Errorf("the topic has %v", ids)
			}
			between(r)
			if got := r.turn(cancelling(4))[0]; got.Verdict != kite.TxConflict || got.Seq != 1 || got.TimeMs != kite.UnixMs(due) {
				t.Errorf("cancelled too late: %+v", got)
			}
			if len(r.state.delayed) != 0 || len(r.state.emptied) != 0 || r.Delayed() != 0 {
				t.Errorf("%d minutes are left, %v emptied, %d wait", len(r.state.delayed), r.state.emptied, r.Delayed())
			}
		})
	}
}

// TestCancelInOneTurn cancels what the same turn stores, and what the same turn commits, in both orders.
func TestCancelInOneTurn(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{})
	due := start.Add(100 * time.Second)
	got := r.turn(later(message, "trade", 1, due), cancelling(1), later(message, "trade", 1, due), later(message, "trade", 2, due), later(message, "trade", 3, due))
	if got[1].Verdict != kite.OK || got[1].Repeat || !got[2].Repeat {
		t.Errorf("%+v", got)
	}
	r.clock = due
	waiting := r.waiting()
	got = r.turn(waiting[0], cancelling(2), cancelling(3), waiting[1])
	if got[0].Verdict != kite.OK || got[1].Verdict != kite.TxConflict || got[2].Verdict != kite.OK || !got[3].Repeat {
		t.Errorf("%+v", got)
	}
	if ids := r.read("trade"); !slices.Equal(ids, []kite.MessageID{id(2)}) {
		t.Errorf("the topic has %v", ids)
	}
}

// TestEmptiedMinutes are forgotten when they have passed, by the next message that waits.
func TestEmptiedMinutes(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{})
	for n := range 5 {
		r.turn(later(message, "trade", n+1, start.Add(time.Duration(5-n)*time.Hour)), cancelling(n+1))
	}
	if len(r.state.emptied) != 5 || !slices.IsSorted(r.state.emptied) {
		t.Fatalf("emptied %v", r.state.emptied)
	}
	r.crash()
	r.clock = start.Add(3 * time.Hour)
	r.turn(later(message, "trade", 9, r.clock.Add(30*time.Minute)))
	if len(r.state.emptied) != 3 || len(r.state.delayed) != 4 { // that of now may still get something
		t.Errorf("emptied %v, %d minutes", r.state.emptied, len(r.state.delayed))
	}
}

// TestWaiting lists minutes in pieces, and what is gone in them.
func TestWaiting(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{})
	for n := range 6 {
		r.turn(later(message, "trade", n+1, start.Add(time.Duration(n/2)*time.Hour+time.Minute)))
	}
	r.turn(cancelling(3))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	var heads []kite.Seq
	for from := int64(0); ; {
		all, err := r.Waiting(t.Context(), from, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range all {
			heads = append(heads, w.Head)
			if gone := w.Minute == kite.Minute(kite.UnixMs(start.Add(time.Hour+time.Minute))); w.Gone.Contains(1) != gone || w.Gone.Contains(2) {
				t.Errorf("%+v", w)
			}
			from = w.Minute + 1
		}
		if len(all) < 2 {
			break
		}
	}
	if !slices.Equal(heads, []kite.Seq{2, 2, 2}) {
		t.Errorf("heads %v", heads)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestCancelKeepsPlaces trims all that it may after everything in a minute was cancelled: the journal goes on with
// the places that the lane gives.
func TestCancelKeepsPlaces(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{DedupeWindow: time.Second})
	due := start.Add(20 * 24 * time.Hour)
	r.turn(later(message, "trade", 1, due), later(message, "trade", 2, due), cancelling(1), cancelling(2))
	for n := range 400 {
		r.turn(item(message, "noise", 1000+n))
	}
	r.clock = r.clock.Add(time.Hour)
	r.checkpoint(time.Millisecond)
	r.crash()
	if got := r.turn(later(message, "trade", 3, due))[0]; got.Seq != 3 || got.Verdict != kite.OK {
		t.Errorf("to an emptied minute: %+v", got)
	}
	r.clock = due
	r.turn(r.waiting()...)
	if ids := r.read("trade"); !slices.Equal(ids, []kite.MessageID{id(3)}) {
		t.Errorf("the topic has %v", ids)
	}
}
