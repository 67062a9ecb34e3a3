package storetest

import (
	"slices"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

func mustFind(tb testing.TB, j store.Journal, id kite.MessageID, sinceMs int64) (got []*kite.Record) {
	tb.Helper()
	err := j.Find(id, sinceMs, func(r *kite.Record) bool {
		got = append(got, clone(r))
		return true
	})
	if err != nil {
		tb.Fatalf("find %s: %v", id, err)
	}
	return got
}

// checkIDs compares what is found under every id with the model; all of it is still there.
func (m *model) checkIDs(tb testing.TB, j store.Journal) {
	tb.Helper()
	want := map[kite.MessageID][]*kite.Record{}
	for _, r := range slices.Backward(m.all) {
		want[r.ID] = append(want[r.ID], r)
	}
	for id, want := range want {
		if id == (kite.MessageID{}) {
			continue
		}
		if diff := diff(want, mustFind(tb, j, id, 0)); diff != "" {
			tb.Fatalf("find %s (-want +got):\n%s", id, clip(diff))
		}
	}
}

// testFind follows ids through several units.
func testFind(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	m.mustAppend(t, j, m.message("a", 10), m.prepared("a", 10), m.prepared("b", 10), m.prepared("b", 10))
	committed, rolledBack, parked := m.all[1], m.all[2], m.all[3]
	m.fill(t, j, e, "filler")
	rollback, park, again := m.other(kite.KindRollback, "b"), m.other(kite.KindPark, "b"), m.other(kite.KindPark, "b")
	rollback.ID, park.ID, again.ID = rolledBack.ID, parked.ID, parked.ID
	m.mustAppend(t, j, rollback, park, m.commit(committed))
	letter := m.dead("a", "g")
	letter.ID = m.all[0].ID
	m.mustAppend(t, j, letter, again)
	m.fill(t, j, e, "filler")
	m.checkIDs(t, j)

	if got := mustFind(t, j, kite.MessageID{1, 2, 3}, 0); len(got) != 0 {
		t.Errorf("an id that never was has %d records", len(got))
	}
	n := 0
	err := j.Find(parked.ID, 0, func(r *kite.Record) bool {
		if n++; r.Position != again.Position {
			t.Errorf("the first of its records lies at %d, want the newest at %d", r.Position, again.Position)
		}
		return false
	})
	if err != nil || n != 1 {
		t.Errorf("%d visits, %v: a visitor that has enough gets no more", n, err)
	}
	if got := mustFind(t, j, parked.ID, again.TimeMs); len(got) == 0 || got[0].Position != again.Position {
		t.Error("what is as old as was asked for is left out")
	}
	for _, r := range mustFind(t, j, committed.ID, late) {
		if r.TimeMs > late {
			t.Errorf("a record of %d", r.TimeMs)
		}
	}
}

// testFindTrimmed asks for ids of which the older records, or all, were trimmed.
func testFindTrimmed(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	m.mustAppend(t, j, m.message("a", 10), m.prepared("a", 10))
	gone, prepared := m.all[0], m.all[1]
	m.fill(t, j, e, "a")
	commit := m.commit(prepared)
	m.mustAppend(t, j, commit, m.message("kept", 10))
	m.fill(t, j, e, "a")
	mustCheckpoint(t, j)
	if trimmed := mustTrim(t, j, store.Needs{BeforeMs: late, Floors: map[string]kite.Seq{"kept": 1}}); trimmed.Units == 0 {
		t.Fatal("nothing was trimmed")
	}
	if got := mustFind(t, j, gone.ID, 0); len(got) != 0 {
		t.Errorf("a trimmed message is found: %v", got[0].Kind)
	}
	// The commit may have gone with its stream, or stay for the unit's sake.
	if got := mustFind(t, j, prepared.ID, 0); len(got) > 0 && diff([]*kite.Record{commit}, got) != "" {
		diff := diff([]*kite.Record{commit}, got)
		t.Errorf("of a transaction whose beginning was trimmed (-want +got):\n%s", diff)
	}
	m.mustAppend(t, j, m.message("a", 10))
	newest := m.all[len(m.all)-1]
	if diff := diff([]*kite.Record{newest}, mustFind(t, j, newest.ID, 0)); diff != "" {
		t.Errorf("after the trim (-want +got):\n%s", diff)
	}
}

// testFindSeen trims all, but for what must be known of the ids.
func testFindSeen(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	m.fill(t, j, e, "a")
	m.mustAppend(t, j, m.prepared("a", 10))
	m.fill(t, j, e, "a")
	m.mustAppend(t, j, m.commit(m.all[len(m.all)/2]))
	m.fill(t, j, e, "a")
	letter := m.dead("a", "g") // says nothing about what became of the id
	letter.ID = m.all[len(m.all)-1].ID
	m.mustAppend(t, j, letter)
	since := m.all[len(m.all)/3].TimeMs
	for range 2 { // the second time for what was left
		mustCheckpoint(t, j)
		mustTrim(t, j, store.Needs{BeforeMs: late, SeenMs: since})
		newest := map[kite.MessageID]*kite.Record{}
		for _, r := range m.all {
			if r.Kind != kite.KindDead {
				newest[r.ID] = r
			}
		}
		for id, want := range newest {
			got := slices.DeleteFunc(mustFind(t, j, id, since), func(r *kite.Record) bool { return r.Kind == kite.KindDead })
			if want.TimeMs >= since && (len(got) == 0 || got[0].ID != id || got[0].Kind != want.Kind || got[0].TimeMs != want.TimeMs) {
				t.Fatalf("of %s %s, which must be known, there is %v", want.Kind, id, got)
			}
		}
		m.mustAppend(t, j, m.message("a", 10))
	}
}
