package storetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// state is what a lane would keep: a pure function of the records applied to it.
type state struct {
	Heads map[string]kite.Seq
	Open  map[kite.MessageID]kite.Position
	Times map[kite.MessageID]int64
}

func newState() *state {
	return &state{map[string]kite.Seq{}, map[kite.MessageID]kite.Position{}, map[kite.MessageID]int64{}}
}

func (s *state) apply(r *kite.Record) {
	if stream := store.Stream(r); stream != "" {
		s.Heads[stream] = r.Seq
	}
	switch r.Kind {
	case kite.KindHead:
		s.Heads[r.Topic+string(r.Group)] = r.Seq
		return
	case kite.KindPrepared:
		s.Open[r.ID] = r.Position
		if r.Ref != 0 {
			s.Open[r.ID] = r.Ref
		}
	case kite.KindCommit, kite.KindRollback:
		delete(s.Open, r.ID)
	}
	s.Times[r.ID] = r.TimeMs
}

// records are what a checkpoint of the state holds.
func (s *state) records(yield func(*kite.Record) bool) {
	for stream, seq := range s.Heads {
		if !yield(&kite.Record{Kind: kite.KindHead, Topic: stream, Seq: seq}) {
			return
		}
	}
	for id, ms := range s.Times {
		r := &kite.Record{Kind: kite.KindRollback, ID: id, TimeMs: ms}
		if pos, ok := s.Open[id]; ok {
			r.Kind, r.Ref = kite.KindPrepared, pos
		}
		if !yield(r) {
			return
		}
	}
}

// testReplay compares what Replay hands out with what was appended, record by record.
func testReplay(t *testing.T, e Env) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir, m := t.TempDir(), newModel()
	var open []*kite.Record
	for range 4 {
		j, err := e.Open(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []*kite.Record
		mustReplay(t, j, func(r *kite.Record) { got = append(got, clone(r)) })
		if diff := diff(m.all, got); diff != "" {
			t.Fatalf("replay (-want +got):\n%s", clip(diff))
		}
		m.check(t, j)
		for range 60 {
			batch := m.random(rng, &open)
			m.mustAppend(t, j, batch...)
			open = undecided(open, batch)
		}
		if err := j.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}

func testReplayError(t *testing.T, e Env) {
	dir, m := t.TempDir(), newModel()
	j, err := e.Open(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	mustReplay(t, j, nil)
	m.mustAppend(t, j, m.message("a", 1), m.message("a", 1))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = e.Open(t, dir); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	stop, n := errors.New("stop"), 0
	err = j.Replay(func(*kite.Record) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("replay into an error: %v after %d records, want that error after 1", err, n)
	}
}

// testCheckpoint compares the state that a broker has with the one that Replay rebuilds: from a
// checkpoint and the tail, with and without Close, after Trim.
func testCheckpoint(t *testing.T, e Env) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir, m, live := t.TempDir(), newModel(), newState()
	var open []*kite.Record
	for round := range 6 {
		j, err := e.Open(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		again := newState()
		mustReplay(t, j, again.apply)
		if diff := cmp.Diff(live, again); diff != "" {
			t.Fatalf("round %d: state after replay (-live +replayed):\n%s", round, clip(diff))
		}
		m.check(t, j)
		for range 80 {
			batch := m.random(rng, &open)
			m.mustAppend(t, j, batch...)
			open = undecided(open, batch)
			for _, r := range batch {
				live.apply(r)
			}
			if rng.IntN(30) == 0 {
				if err := j.Checkpoint(live.records); err != nil {
					t.Fatalf("checkpoint: %v", err)
				}
				m.trim(t, j, rng, open)
			}
		}
		if round%2 == 0 {
			mustSync(t, j)
			dir = e.crash(t, dir)
		}
		if err := j.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}

func testReopen(t *testing.T, e Env) {
	dir, m := t.TempDir(), newModel()
	held := m.prepared("a", 9)
	for round := range 5 {
		j, err := e.Open(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		mustReplay(t, j, nil)
		m.check(t, j)
		switch round {
		case 0:
			m.mustAppend(t, j, held)
		case 2:
			m.mustAppend(t, j, m.commit(held))
		}
		m.fill(t, j, e, fmt.Sprint("topic-", round%2))
		m.mustAppend(t, j, m.dead("a", "g"))
		m.check(t, j)
		if err := j.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}

// testReopenTrimmed checks that a stream goes on where it was when none of its records is left.
func testReopenTrimmed(t *testing.T, e Env) {
	dir, m := t.TempDir(), newModel()
	j, err := e.Open(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	mustReplay(t, j, nil)
	held := m.prepared("held", 9)
	m.mustAppend(t, j, m.message("gone", 1), m.dead("gone", "g"))
	m.fill(t, j, e, "filler")
	m.mustAppend(t, j, held)
	m.fill(t, j, e, "filler")
	m.fill(t, j, e, "filler")
	m.mustAppend(t, j, m.commit(held))
	mustCheckpoint(t, j)
	mustTrim(t, j, store.Needs{BeforeMs: late, Floors: map[string]kite.Seq{"held": 1}})
	bounds := func(j store.Journal) map[string][2]kite.Seq {
		all := map[string][2]kite.Seq{}
		for stream := range m.nextSeq {
			first, next := j.Bounds(stream)
			all[stream] = [2]kite.Seq{first, next}
		}
		return all
	}
	before := bounds(j)
	if before["gone"] != [2]kite.Seq{2, 2} || before["gone/g"] != [2]kite.Seq{2, 2} {
		t.Fatalf("bounds of what was trimmed: %v", before)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = e.mustOpen(t, dir)
	if diff := cmp.Diff(before, bounds(j)); diff != "" {
		t.Fatalf("bounds after reopening (-before +after):\n%s", diff)
	}
	for stream, b := range before {
		m.floors[stream] = b[0]
	}
	m.forget("filler")
	m.check(t, j)
	m.mustAppend(t, j, m.message("gone", 1), m.dead("gone", "g"))
	m.check(t, j)
	// The bytes of the late commit are still known to be needed.
	mustCheckpoint(t, j)
	mustTrim(t, j, store.Needs{BeforeMs: late, Floors: map[string]kite.Seq{"held": 1, "gone": 2, "gone/g": 2}})
	m.check(t, j)
}

// testCrash lets the process die at random moments: what was synced is there, batches are whole,
// and nothing else appears.
func testCrash(t *testing.T, e Env) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir, m := t.TempDir(), newModel()
	var open []*kite.Record
	for range 6 {
		j, err := e.Open(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []*kite.Record
		mustReplay(t, j, func(r *kite.Record) { got = append(got, clone(r)) })
		synced := len(m.batches)
		for range rng.IntN(60) {
			batch := m.random(rng, &open)
			m.mustAppend(t, j, batch...)
			open = undecided(open, batch)
			if rng.IntN(3) > 0 {
				mustSync(t, j)
				synced = len(m.batches)
			}
		}
		dir = e.crash(t, dir)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		survivors(t, e, dir, m, synced)
		open = slices.DeleteFunc(open, func(r *kite.Record) bool { return m.at[r.Position] == nil })
	}
}

// survivors opens a crashed journal and checks that it holds the synced batches of the model, then
// perhaps some of the others in order, each of them whole, and nothing else. It makes the model
// forget the others.
func survivors(t *testing.T, e Env, dir string, m *model, synced int) {
	t.Helper()
	j, err := e.Open(t, dir)
	if err != nil {
		t.Fatalf("open after a crash: %v", err)
	}
	defer func() { _ = j.Close() }()
	var got []*kite.Record
	mustReplay(t, j, func(r *kite.Record) { got = append(got, clone(r)) })
	again := newModel()
	again.serial = m.serial
	for i, batch := range m.batches {
		if len(got) == 0 && i >= synced {
			break
		}
		if len(got) < len(batch) {
			t.Fatalf("batch %d of %d, %d of them synced: %d of its %d records are there", i, len(m.batches), synced, len(got), len(batch))
		}
		if diff := diff(batch, got[:len(batch)]); diff != "" {
			t.Fatalf("batch %d (-want +got):\n%s", i, clip(diff))
		}
		again.keep(got[:len(batch)])
		got = got[len(batch):]
	}
	if len(got) > 0 {
		t.Fatalf("%d records that nobody appended", len(got))
	}
	for stream, records := range again.streams {
		again.nextSeq[stream] = records[len(records)-1].Seq
	}
	again.check(t, j)
	*m = *again
	for _, stream := range slices.Sorted(maps.Keys(m.streams)) {
		if _, next := j.Bounds(stream); next != m.nextSeq[stream]+1 {
			t.Fatalf("bounds of %s after a crash: next is %d, want %d", stream, next, m.nextSeq[stream]+1)
		}
	}
}
