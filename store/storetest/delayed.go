package storetest

import (
	"errors"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

const (
	dueMs   = startMs + 3_600_000
	minute  = dueMs / 60_000
	dueLate = dueMs + 60_000
)

// testDelayed reads messages by the minute in which they are due, as they were appended, and by their topic
// once they are committed: those with bytes of their own and those that were prepared before.
func testDelayed(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	own, prepared := m.delayed("a", 40, dueMs), m.prepared("b", 50)
	prepared.DueMs = dueMs
	m.mustAppend(t, j, own, prepared, m.delayed("b", 1, dueLate), m.delayed("b", 1, dueMs))
	m.mustAppend(t, j, m.message("a", 3), m.waits(prepared, dueMs))
	m.check(t, j)
	if got := mustRead(t, j, kite.DelayStream(minute), 1); len(got) != 3 {
		t.Fatalf("%d messages are due in the minute, want 3", len(got))
	}
	if got := mustRead(t, j, "a", 1); len(got) != 1 {
		t.Fatalf("topic a has %d messages before one is due, want 1", len(got))
	}
	m.mustAppend(t, j, m.commit(own), m.commit(prepared))
	m.check(t, j)
	for topic, want := range map[string]*kite.Record{"a": own, "b": prepared} {
		got := mustRead(t, j, topic, 1)
		if last := got[len(got)-1]; last.Kind != kite.KindMessage || last.ID != want.ID || last.ExpiresMs != want.ExpiresMs {
			t.Errorf("the last message of %s is %s %s, want the one that was due, %s", topic, last.Kind, last.ID, want.ID)
		}
	}
	for name, bad := range map[string]*kite.Record{
		"no time":        {Kind: kite.KindDelayed, Topic: "a", Seq: 9},
		"ref to nowhere": {Kind: kite.KindDelayed, Topic: "a", Seq: 4, DueMs: dueMs, Ref: 1 << 50},
		"gap":            {Kind: kite.KindDelayed, Topic: "a", Seq: 5, DueMs: dueMs},
	} {
		if err := j.Append([]*kite.Record{bad}); !errors.Is(err, kite.Invalid) {
			t.Errorf("append of a delayed record, %s: %v, want code invalid", name, err)
		}
	}
	m.check(t, j)
}

// testDelayedTrimmed keeps bytes as long as the delayed record or the commit that leads to them is needed, and
// forgets a minute with its last record: it may begin anew.
func testDelayedTrimmed(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	stream := kite.DelayStream(minute)
	p := m.prepared("tx", 100)
	m.mustAppend(t, j, p)
	m.fill(t, j, e, "filler")
	d := m.waits(p, dueMs)
	m.mustAppend(t, j, d)
	m.fill(t, j, e, "filler")
	trim := func(floors map[string]kite.Seq) {
		t.Helper()
		mustCheckpoint(t, j)
		mustTrim(t, j, store.Needs{BeforeMs: late, Floors: floors})
	}
	trim(map[string]kite.Seq{stream: 1})
	m.forget("filler")
	m.floors[stream] = 1
	m.check(t, j)
	if got := mustLoad(t, j, p.Position); got.ID != p.ID {
		t.Fatalf("the bytes of a message that waits are gone")
	}
	c := m.commit(p)
	m.mustAppend(t, j, c)
	m.fill(t, j, e, "other")
	trim(map[string]kite.Seq{"tx": 1})
	m.forget("other")
	m.forget(stream)
	m.floors["tx"] = 1
	m.check(t, j)
	if got := mustRead(t, j, stream, 1); len(got) > 1 {
		t.Errorf("%d messages in a minute that nobody needs", len(got))
	}
	trim(nil)
	m.fill(t, j, e, "more")
	trim(nil)
	if first, next := j.Bounds(stream); first != 1 || next != 1 {
		t.Fatalf("bounds of a minute that passed: %d to %d, want it to be forgotten", first, next)
	}
	m.forget("more")
	m.forget("tx")
	m.nextSeq[stream] = 0
	again := m.delayed("tx", 10, dueMs)
	m.mustAppend(t, j, again)
	trim(map[string]kite.Seq{stream: 1})
	m.check(t, j)
}

// testReopenDelayed closes the journal around all that becomes of a minute: also one that was forgotten after
// the newest checkpoint, and then began anew.
func testReopenDelayed(t *testing.T, e Env) {
	dir, m := t.TempDir(), newModel()
	stream := kite.DelayStream(minute)
	reopen := func(j store.Journal) store.Journal {
		t.Helper()
		if j != nil {
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
		j, err := e.Open(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		mustReplay(t, j, nil)
		m.check(t, j)
		return j
	}
	j := reopen(nil)
	first := m.delayed("a", 10, dueMs)
	m.mustAppend(t, j, first, m.delayed("a", 10, dueMs))
	j = reopen(j)
	m.fill(t, j, e, "filler")
	m.fill(t, j, e, "filler")
	m.mustAppend(t, j, m.commit(first), m.delayed("b", 10, dueMs))
	j = reopen(j)
	m.fill(t, j, e, "filler")
	mustCheckpoint(t, j)
	mustTrim(t, j, store.Needs{BeforeMs: late})
	if first, next := j.Bounds(stream); first != 1 || next != 1 {
		t.Fatalf("bounds of a minute that passed: %d to %d, want it to be forgotten", first, next)
	}
	for _, gone := range []string{"filler", "a", stream} {
		m.forget(gone)
	}
	m.floors[stream], m.nextSeq[stream] = 1, 0
	j = reopen(j)
	m.mustAppend(t, j, m.delayed("b", 10, dueMs))
	j = reopen(j)
	m.mustAppend(t, j, m.delayed("b", 10, dueMs))
	m.check(t, j)
	j = reopen(j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
