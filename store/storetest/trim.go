package storetest

import (
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// testTrim checks the three conditions of a unit, and that readers pass over what is gone.
func testTrim(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	m.fill(t, j, e, "a")
	m.fill(t, j, e, "b")
	newest := m.all[len(m.all)-1].TimeMs
	none := store.Needs{BeforeMs: late}
	if trimmed := mustTrim(t, j, none); trimmed.Units != 0 {
		t.Fatalf("trim before a checkpoint: %+v", trimmed)
	}
	mustCheckpoint(t, j)
	if trimmed := mustTrim(t, j, store.Needs{BeforeMs: startMs}); trimmed.Units != 0 {
		t.Fatalf("trim of what is too new: %+v", trimmed)
	}
	all := store.Needs{BeforeMs: late, Floors: map[string]kite.Seq{"a": 1, "b": 1}}
	if trimmed := mustTrim(t, j, all); trimmed.Units != 0 {
		t.Fatalf("trim of what is needed: %+v", trimmed)
	}
	m.check(t, j)
	m.fill(t, j, e, "c")
	trimmed := mustTrim(t, j, store.Needs{BeforeMs: newest + 1, Floors: map[string]kite.Seq{"b": 1}})
	if trimmed.Units == 0 || trimmed.Bytes == 0 {
		t.Fatalf("trim of what nobody needs: %+v", trimmed)
	}
	first, next := j.Bounds("a")
	if first == 1 || next != m.nextSeq["a"]+1 {
		t.Errorf("bounds of a trimmed stream: %d to %d", first, next)
	}
	m.floors["a"] = first
	m.check(t, j)
	if got := mustRead(t, j, "a", 1); len(got) > 0 && got[0].Seq != first {
		t.Errorf("read from 1: begins at %d, bounds say %d", got[0].Seq, first)
	}
	m.mustAppend(t, j, m.message("a", 1))
	m.check(t, j)
}

// testTrimHolds makes a hole: the unit in the middle goes, those around it stay.
func testTrimHolds(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	keeper := m.message("kept", 10)
	held := m.prepared("held", 10)
	m.mustAppend(t, j, keeper, m.message("holed", 10))
	m.fill(t, j, e, "filler")
	m.mustAppend(t, j, m.message("holed", 10))
	m.fill(t, j, e, "filler")
	m.mustAppend(t, j, held, m.message("holed", 10))
	m.fill(t, j, e, "filler")
	m.mustAppend(t, j, m.message("holed", 10), m.dead("holed", "g"))
	mustCheckpoint(t, j)
	trimmed := mustTrim(t, j, store.Needs{
		BeforeMs: late,
		Floors:   map[string]kite.Seq{"kept": 1, "holed/g": 1},
		Open:     []kite.Position{held.Position},
	})
	if trimmed.Units == 0 {
		t.Fatal("trim: no unit")
	}
	for pos, want := range map[kite.Position]kite.MessageID{keeper.Position: keeper.ID, held.Position: held.ID} {
		if got := mustLoad(t, j, pos); got.ID != want {
			t.Errorf("load %d: id %s, want %s", pos, got.ID, want)
		}
	}
	var seqs []kite.Seq
	for _, r := range mustRead(t, j, "holed", 1) {
		seqs = append(seqs, r.Seq)
	}
	if len(seqs) < 1 || len(seqs) > 3 || seqs[len(seqs)-1] != 4 {
		t.Errorf("read over a hole: seqs %d, want some to be gone and 4 the last", seqs)
	}
	if len(mustRead(t, j, "holed/g", 1)) != 1 || len(mustRead(t, j, "kept", 1)) != 1 {
		t.Error("what a floor names is gone")
	}
}

// testTrimCommit checks that the bytes of a transaction are kept for the Seq of its commit.
func testTrimCommit(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	p := m.prepared("tx", 100)
	m.mustAppend(t, j, p)
	m.fill(t, j, e, "filler")
	m.fill(t, j, e, "filler")
	m.mustAppend(t, j, m.commit(p), m.message("tx", 5))
	m.fill(t, j, e, "filler")
	mustCheckpoint(t, j)
	mustTrim(t, j, store.Needs{BeforeMs: late, Floors: map[string]kite.Seq{"tx": 1}})
	m.forget("filler")
	m.floors["tx"] = 1
	m.check(t, j)
	// Now the commit's bytes may go, while its record may share a unit with what is needed.
	mustTrim(t, j, store.Needs{BeforeMs: late, Floors: map[string]kite.Seq{"tx": 2}})
	first, next := j.Bounds("tx")
	m.floors["tx"] = 2
	m.check(t, j)
	got := mustRead(t, j, "tx", 1)
	if len(got) == 0 || got[0].Seq != first || next != 3 {
		t.Errorf("read after the bytes went: %d records, bounds %d to %d", len(got), first, next)
	}
}

// testTrimBytes removes what is too new for its bytes' sake, the oldest first, and nothing that is needed.
func testTrimBytes(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	m.fill(t, j, e, "kept")
	m.fill(t, j, e, "between")
	m.forget("between")
	for range 4 {
		m.fill(t, j, e, "a")
	}
	mustCheckpoint(t, j)
	needs := store.Needs{BeforeMs: startMs, Floors: map[string]kite.Seq{"kept": 1}}
	if trimmed := mustTrim(t, j, needs); trimmed.Units != 0 {
		t.Fatalf("trim without a limit of bytes: %+v", trimmed)
	}
	needs.MaxBytes = 1 << 40
	if trimmed := mustTrim(t, j, needs); trimmed.Units != 0 {
		t.Fatalf("trim below the limit of bytes: %+v", trimmed)
	}
	needs.MaxBytes = int64(5 * e.UnitBytes)
	if trimmed := mustTrim(t, j, needs); trimmed.Units == 0 {
		t.Fatalf("trim over the limit of bytes: %+v", trimmed)
	}
	first, next := j.Bounds("a")
	if first == 1 || next-first < kite.Seq(e.UnitBytes/512) {
		t.Errorf("bounds of a: %d to %d, want the oldest to be gone and the newest to stay", first, next)
	}
	m.floors["a"], m.floors["kept"] = first, 1
	m.check(t, j)
	needs.MaxBytes = 1
	mustTrim(t, j, needs)
	m.floors["a"], _ = j.Bounds("a")
	m.check(t, j)
}

func testTrimAll(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	for range 3 {
		m.fill(t, j, e, "a")
		m.fill(t, j, e, "b")
		m.mustAppend(t, j, m.dead("a", "g"))
		mustCheckpoint(t, j)
		mustTrim(t, j, store.Needs{BeforeMs: late})
		for _, stream := range []string{"a", "b", "a/g"} {
			first, next := j.Bounds(stream)
			if next != m.nextSeq[stream]+1 || first > next {
				t.Errorf("bounds of %s after all was trimmed: %d to %d, want ... to %d", stream, first, next, m.nextSeq[stream]+1)
			}
			m.floors[stream] = first
		}
		m.check(t, j)
	}
}
