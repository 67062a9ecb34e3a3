package sequence

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store/memory"
)

const delayed = kite.KindDelayed

func later(kind kite.Kind, topic string, n int, due time.Time) kite.Item {
	i := item(kind, topic, n)
	i.DueMs = kite.UnixMs(due)
	return i
}

// waiting returns the commits of all that the lane knows to wait, due or not, as the journal has them.
func (r *rig) waiting() (items []kite.Item) {
	r.t.Helper()
	recovered := r.Recovered().Delayed
	for _, minute := range slices.Sorted(maps.Keys(recovered)) {
		err := r.spy.Read(kite.DelayStream(minute), recovered[minute], func(d *kite.Record) bool {
			ref := d.Ref
			if ref == 0 {
				ref = d.Position
			}
			if m := r.state.delayed[minute]; !m.committed.Contains(d.Seq) {
				items = append(items, kite.Item{Record: kite.Record{
					Kind: commit, ID: d.ID, Topic: d.Topic, DueMs: d.DueMs, Ref: ref, Body: kite.AppendPlace(nil, d.Seq),
				}})
			}
			return true
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return items
}

// TestDelayed follows messages that wait, plain and prepared ones, through every step, with a crash, a stop or
// nothing between any two of them.
func TestDelayed(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(*rig){
		"nothing": func(*rig) {}, "crash": (*rig).crash, "stop": (*rig).reopen,
		"checkpoint": func(r *rig) { r.checkpoint(0); r.crash() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newMMapRig(t, Options{})
			r.routes.all = []kite.Route{durable("trade", "s-a")}
			due := start.Add(100 * time.Second)
			if got := r.turn(later(message, "trade", 1, due))[0]; got.Kind != delayed || got.Seq != 1 || got.Outcome != kite.OutcomeCommitted {
				t.Fatalf("a message for later: %+v", got)
			}
			between(r)
			if got := r.turn(later(message, "trade", 1, due))[0]; !got.Repeat {
				t.Errorf("published again: %+v", got)
			}
			r.turn(later(prepared, "trade", 2, due), later(prepared, "trade", 3, due), later(message, "trade", 4, start))
			between(r)
			if got := r.turn(item(commit, "trade", 2))[0]; got.Kind != delayed || got.Seq != 2 || got.Ref == 0 || got.Verdict != kite.OK {
				t.Fatalf("a commit before the time: %+v", got)
			}
			between(r)
			if got := r.turn(item(commit, "trade", 2), item(rollback, "trade", 2)); !got[0].Repeat || got[1].Verdict != kite.TxConflict {
				t.Errorf("decided again: %+v", got)
			}
			if ids := r.read("trade"); !slices.Equal(ids, []kite.MessageID{id(4)}) {
				t.Fatalf("before the time the topic has %v", ids)
			}
			waiting := r.waiting()
			if got := r.turn(slices.Clone(waiting)...); len(got) != 2 || got[0].Verdict != kite.Busy || got[1].Verdict != kite.Busy {
				t.Fatalf("committed before the time: %+v", got)
			}
			r.clock = due
			between(r)
			if got := r.turn(slices.Clone(waiting[:1])...); got[0].Verdict != kite.OK || got[0].Seq != 2 {
				t.Fatalf("committed when it is due: %+v", got)
			}
			between(r)
			if got := r.turn(append(slices.Clone(waiting), waiting[1])...); !got[0].Repeat || got[1].Seq != 3 || !got[2].Repeat {
				t.Errorf("committed again, and the other twice: %+v", got)
			}
			between(r)
			if got := r.turn(append(slices.Clone(waiting), item(commit, "trade", 3))...); !got[0].Repeat || !got[1].Repeat || got[2].Kind != commit || got[2].Seq != 4 {
				t.Errorf("a commit after the time, and the others again: %+v", got)
			}
			between(r)
			if ids := r.read("trade"); !slices.Equal(ids, []kite.MessageID{id(4), id(1), id(2), id(3)}) {
				t.Errorf("the topic has %v", ids)
			}
			if len(r.state.delayed) != 0 || len(r.state.open) != 0 {
				t.Errorf("%d minutes, %d transactions are left", len(r.state.delayed), len(r.state.open))
			}
		})
	}
}

// TestDelayedKeepsBytes trims all that it may while a message waits, and then while its commit is unsettled.
func TestDelayedKeepsBytes(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{DedupeWindow: time.Second})
	r.routes.all = []kite.Route{durable("trade", "s-a")}
	due := start.Add(20 * 24 * time.Hour)
	r.turn(later(prepared, "trade", 1, due), later(message, "trade", 2, due))
	fill := func(from int) {
		for n := range 400 {
			r.turn(item(message, "noise", from+n))
		}
		r.clock = r.clock.Add(time.Hour)
		r.checkpoint(time.Millisecond)
		r.crash()
	}
	fill(1000)
	r.turn(item(commit, "trade", 1))
	fill(2000)
	r.clock = due
	if got := r.turn(r.waiting()...); len(got) != 2 {
		t.Fatalf("%d messages are due, want 2", len(got))
	}
	fill(3000)
	if ids := r.read("trade"); !slices.Equal(ids, []kite.MessageID{id(2), id(1)}) {
		t.Errorf("the topic has %v, want what was due in the order of the minute", ids)
	}
	left := 0
	if err := r.spy.Read("noise", 1, func(*kite.Record) bool { left++; return true }); err != nil || left > 800 {
		t.Errorf("%d messages of noise are left, %v: nothing was trimmed", left, err)
	}
}

// TestDelayedClockSetBack uses a minute again that was forgotten: its places go on, nobody is committed twice,
// and nobody early.
func TestDelayedClockSetBack(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{})
	due := start.Add(30 * time.Second)
	r.turn(later(message, "trade", 1, due), later(message, "trade", 2, due))
	r.clock = due
	first := r.waiting()
	r.turn(slices.Clone(first)...)
	r.crash()
	r.clock = start
	if got := r.turn(later(message, "trade", 3, due))[0]; got.Kind != delayed || got.Seq != 3 {
		t.Fatalf("in a minute that was there before: %+v", got)
	}
	r.crash()
	if got := r.turn(append(first, r.waiting()...)...); !got[0].Repeat || !got[1].Repeat || got[2].Verdict != kite.Busy {
		t.Errorf("committed again, and too early: %+v", got)
	}
	r.clock = due
	r.turn(r.waiting()...)
	if ids := r.read("trade"); len(ids) != 3 || ids[2] != id(3) {
		t.Errorf("the topic has %v", ids)
	}
}

// TestDelayedFull refuses messages for later in a full journal, and takes the decisions: the one that makes a
// prepared message wait, and the commits of those that are due.
func TestDelayedFull(t *testing.T) {
	t.Parallel()
	r := newRig(t, mustMemory(t, memory.Options{MaxMessages: 2}), Options{})
	due := start.Add(time.Minute)
	r.turn(later(prepared, "trade", 1, due), later(message, "trade", 2, due))
	got := r.turn(later(message, "trade", 3, due), item(commit, "trade", 1))
	if got[0].Verdict != kite.Busy || !got[0].Published() || got[1].Verdict != kite.OK || got[1].Kind != delayed || got[1].Seq != 2 {
		t.Errorf("in a full journal: %+v", got)
	}
	r.clock = due
	if got := r.turn(append(r.waiting(), item(message, "trade", 4))...); got[0].Seq != 1 || got[1].Seq != 2 || got[2].Verdict != kite.Busy {
		t.Errorf("due in a full journal: %+v", got)
	}
}

// TestDelayedKeepsNote knows who committed a message that waits, over a crash and when its time has come, and
// nothing of one that was committed when nobody wrote that down.
func TestDelayedKeepsNote(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{DedupeWindow: time.Hour})
	due := start.Add(time.Minute)
	r.turn(later(prepared, "trade", 1, due), later(prepared, "trade", 2, due))
	noted := item(commit, "trade", 1)
	noted.Body = kite.AppendNote(nil, "operator ann", "the row is there")
	r.turn(noted, item(commit, "trade", 2)) // the second as in a journal of before
	expect := func(when string) {
		t.Helper()
		r.crash()
		got := r.turn(item(commit, "trade", 1), item(rollback, "trade", 1), item(commit, "trade", 2))
		for i, want := range []string{"operator ann", "operator ann", ""} {
			if note := kite.DecodeNote(got[i].Body); note.By != want || got[i].TimeMs != kite.UnixMs(start) {
				t.Errorf("%s, decision %d: %+v at %d, want %q", when, i, note, got[i].TimeMs, want)
			}
		}
		if !got[0].Repeat || got[1].Verdict != kite.TxConflict || !got[2].Repeat {
			t.Errorf("%s: %+v", when, got)
		}
	}
	expect("while they wait")
	r.clock = due
	r.turn(r.waiting()...)
	expect("when their time has come")
	var bodies []string
	if err := r.spy.Read("trade", 1, func(m *kite.Record) bool { bodies = append(bodies, string(m.Body[:5])); return true }); err != nil || !slices.Equal(bodies, []string{"body ", "body "}) {
		t.Errorf("delivered would be %q: %v", bodies, err)
	}
}
