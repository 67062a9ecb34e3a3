package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

func testOrder(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	last := kite.Position(0)
	for i := range 60 {
		var batch []*kite.Record
		for k := range 1 + i%7 {
			batch = append(batch, m.message(fmt.Sprintf("topic-%d", (i+k)%3), 10*i))
		}
		m.mustAppend(t, j, batch...)
		for _, r := range batch {
			if r.Position <= last {
				t.Fatalf("position %d after %d: positions grow", r.Position, last)
			}
			last = r.Position
		}
		if i%10 == 0 {
			mustSync(t, j)
		}
	}
	m.check(t, j)
	if err := j.Append(nil); err != nil {
		t.Errorf("append of an empty batch: %v", err)
	}
	m.check(t, j)
}

func testDensity(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	m.mustAppend(t, j, m.message("a", 1), m.message("a", 1))
	for name, seqs := range map[string][]kite.Seq{
		"gap": {4}, "repeat": {2}, "gap inside": {3, 5}, "repeat inside": {3, 3}, "back": {3, 2},
	} {
		var batch []*kite.Record
		for _, seq := range seqs {
			r := m.prepared("a", 1)
			r.Kind, r.Seq = kite.KindMessage, seq
			batch = append(batch, r)
		}
		if err := j.Append(batch); !errors.Is(err, kite.Invalid) {
			t.Errorf("%s: append of seq %d after 2: %v, want code invalid", name, seqs, err)
		}
	}
	m.check(t, j)
	m.mustAppend(t, j, m.message("a", 1))
	m.check(t, j)
}

// testOwnership overwrites what was appended: the journal must have its own copy, and its records
// must show it to one visitor after the other.
func testOwnership(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	arena := make([]byte, 0, 1024)
	for range 20 {
		r := m.message("a", 100)
		arena = append(append(append(arena[:0], r.Type...), r.Group...), r.Body...)
		view := *r
		view.Type = arena[:len(r.Type)]
		view.Group = arena[len(r.Type):][:len(r.Group)]
		view.Body = arena[len(r.Type)+len(r.Group):]
		if err := j.Append([]*kite.Record{&view}); err != nil {
			t.Fatal(err)
		}
		r.Position = view.Position
		m.keep([]*kite.Record{r})
		clear(arena)
	}
	m.check(t, j)
	err := j.Read("a", 1, func(r *kite.Record) bool {
		*r = kite.Record{} // a visitor's record is its own
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	m.check(t, j)
}

func testStreams(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	m.mustAppend(t, j, m.message("a", 1), m.dead("a", "g"), m.dead("a", "h"), m.message("a.g", 1))
	m.mustAppend(t, j,
		m.dead("a", "g"), m.other(kite.KindProgress, "a"), m.other(kite.KindPark, "a"),
		m.prepared("a", 1), m.message("a", 1))
	m.check(t, j)
	for stream, want := range map[string]int{"a": 2, "a/g": 2, "a/h": 1, "a.g": 1, "": 0, "a/": 0, "b": 0} {
		if got := mustRead(t, j, stream, 1); len(got) != want {
			t.Errorf("read %q: %d records, want %d", stream, len(got), want)
		}
	}
}

func testRead(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	for range 300 {
		m.mustAppend(t, j, m.message("a", 50))
	}
	for _, c := range []struct {
		from kite.Seq
		take int
		want kite.Seq // the last visited
	}{{0, 1, 1}, {1, 1, 1}, {1, 200, 200}, {150, 2, 151}, {299, 9, 300}, {300, 1, 300}, {301, 1, 0}, {1 << 60, 1, 0}} {
		last, n := kite.Seq(0), 0
		err := j.Read("a", c.from, func(r *kite.Record) bool {
			last = r.Seq
			n++
			return n < c.take
		})
		if err != nil || last != c.want || n > c.take {
			t.Errorf("read %d from %d: ended at %d after %d, %v; want %d", c.take, c.from, last, n, err, c.want)
		}
	}
}

// testNested reads and loads inside a visit: the outer view must not change.
func testNested(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	m.mustAppend(t, j, m.message("a", 10), m.message("b", 20), m.message("a", 30))
	n := 0
	err := j.Read("a", 1, func(r *kite.Record) bool {
		outer := clone(r)
		if got := mustRead(t, j, "b", 1); len(got) != 1 {
			t.Errorf("inner read: %d records, want 1", len(got))
		}
		mustLoad(t, j, m.all[1].Position)
		if diff := cmp.Diff(outer, r); diff != "" {
			t.Errorf("the view changed (-before +after):\n%s", diff)
		}
		n++
		return true
	})
	if err != nil || n != 2 {
		t.Errorf("read: %d visits, %v; want 2", n, err)
	}
}

func testLoad(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	m.mustAppend(t, j, m.message("a", 1), m.prepared("b", 2000), m.other(kite.KindProgress, "a"))
	m.check(t, j)
	for _, pos := range []kite.Position{0, m.all[2].Position + 1<<40} {
		if err := j.Load(pos, func(*kite.Record) { t.Errorf("load %d: visited", pos) }); err == nil {
			t.Errorf("load %d: no error, want one: no record lies there", pos)
		}
	}
}

func testCommit(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	near, far := m.prepared("a", 40), m.prepared("a", 50)
	m.mustAppend(t, j, far)
	m.fill(t, j, e, "a")
	m.fill(t, j, e, "b")
	m.mustAppend(t, j, near)
	if got := len(mustRead(t, j, "a", 1)); got != len(m.streams["a"]) {
		t.Fatalf("read: %d records, want %d: prepared ones are not to be seen", got, len(m.streams["a"]))
	}
	m.mustAppend(t, j, m.message("a", 3), m.commit(far), m.message("a", 4), m.commit(near))
	m.check(t, j)
	got := mustRead(t, j, "a", m.nextSeq["a"]-2)
	if len(got) != 3 || got[0].ID != far.ID || string(got[0].Body) != string(far.Body) || got[0].ExpiresMs != far.ExpiresMs || got[0].TimeMs == far.TimeMs {
		t.Errorf("read the committed: %+v", got[0])
	}
	bad := m.commit(near)
	bad.Ref = 0
	if err := j.Append([]*kite.Record{bad}); !errors.Is(err, kite.Invalid) {
		t.Errorf("commit without a ref: %v, want code invalid", err)
	}
}

func testBounds(t *testing.T, e Env) {
	j, m := e.mustOpen(t, t.TempDir()), newModel()
	if first, next := j.Bounds("a"); first != next {
		t.Errorf("bounds of a stream without records: %d and %d, want equal ones", first, next)
	}
	m.mustAppend(t, j, m.prepared("a", 1))
	if first, next := j.Bounds("a"); first != next {
		t.Errorf("bounds of a stream with a prepared record: %d and %d, want equal ones", first, next)
	}
	m.mustAppend(t, j, m.message("a", 1), m.message("a", 1), m.dead("a", "g"))
	for stream, want := range map[string][2]kite.Seq{"a": {1, 3}, "a/g": {1, 2}} {
		if first, next := j.Bounds(stream); first != want[0] || next != want[1] {
			t.Errorf("bounds of %s: %d and %d, want %d", stream, first, next, want)
		}
	}
}

func testClass(t *testing.T, e Env) {
	j := e.mustOpen(t, t.TempDir())
	switch j.Class() {
	case kite.ClassMem, kite.ClassMySQL, kite.ClassSynced, kite.ClassWritten:
	default:
		t.Errorf("class %q: not one of kite's", j.Class())
	}
	m := newModel()
	m.mustAppend(t, j, m.message("a", 1))
	for _, class := range []kite.Class{kite.ClassMem, kite.ClassMySQL, kite.ClassSynced, kite.ClassWritten, "", j.Class()} {
		if err := j.Sync(class); err != nil && (class == j.Class() || !errors.Is(err, kite.Invalid)) {
			t.Errorf("sync for class %q in a journal of class %s: %v", class, j.Class(), err)
		}
	}
	if err := j.Sync(""); !errors.Is(err, kite.Invalid) {
		t.Errorf("sync for no class: %v, want code invalid", err)
	}
	m.mustAppend(t, j, m.message("a", 1)) // a class that cannot be had poisons nothing
	if err := j.Err(); err != nil {
		t.Errorf("err: %v, want nil", err)
	}
}

func testClosed(t *testing.T, e Env) {
	j, err := e.Open(t, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := newModel()
	mustReplay(t, j, func(*kite.Record) { t.Error("a new journal replays a record") })
	m.mustAppend(t, j, m.message("a", 1))
	for range 2 {
		if err := j.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	_, trimErr := j.Trim(store.Needs{})
	for call, err := range map[string]error{
		"append": j.Append([]*kite.Record{m.message("a", 1)}), "sync": j.Sync(j.Class()), "trim": trimErr,
		"checkpoint": j.Checkpoint(func(func(*kite.Record) bool) {}),
	} {
		if !errors.Is(err, kite.Unavailable) {
			t.Errorf("%s after close: %v, want code unavailable", call, err)
		}
	}
	if _, err := read(j, "a", 1); err == nil {
		t.Error("read after close: no error")
	}
}

func testFull(t *testing.T, e Env) {
	if e.OpenFull == nil {
		t.Skip("this journal has no bound of its own")
	}
	j, err := e.OpenFull(t, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	m := newModel()
	mustReplay(t, j, nil)
	for range 3 {
		for n := 0; err == nil; n++ {
			batch := []*kite.Record{m.message("a", 256), m.message("b", 256)}
			if err = j.Append(batch); err == nil {
				m.keep(batch)
			}
			if n > 100_000 {
				t.Fatal("100,000 batches and not full")
			}
		}
		m.nextSeq["a"]--
		m.nextSeq["b"]--
		if !errors.Is(err, store.ErrFull) || kite.CodeOf(err) != kite.Busy || j.Err() != nil {
			t.Fatalf("append to a full journal: %v, err %v; want ErrFull and a journal that goes on", err, j.Err())
		}
		m.check(t, j)
		m.floors = map[string]kite.Seq{"a": m.nextSeq["a"] + 1, "b": m.nextSeq["b"] - 1}
		mustCheckpoint(t, j)
		if trimmed := mustTrim(t, j, store.Needs{Floors: m.floors, BeforeMs: late}); trimmed.Units == 0 || trimmed.Bytes == 0 {
			t.Fatalf("trim of a full journal: %+v", trimmed)
		}
		err = nil
		m.mustAppend(t, j, m.message("a", 256), m.message("b", 256))
		m.check(t, j)
	}
}

// testRandom compares the journal with the model over random batches, checkpoints and trims.
func testRandom(t *testing.T, e Env) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	j, m := e.mustOpen(t, dir), newModel()
	var open []*kite.Record
	for range 400 {
		batch := m.random(rng, &open)
		m.mustAppend(t, j, batch...)
		open = undecided(open, batch)
		switch rng.IntN(40) {
		case 0:
			m.check(t, j)
		case 1:
			mustCheckpoint(t, j)
			m.trim(t, j, rng, open)
		case 2:
			mustSync(t, j)
		}
	}
	m.check(t, j)
	for _, p := range open {
		if diff := cmp.Diff(m.at[p.Position], mustLoad(t, j, p.Position), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("load an undecided record (-want +got):\n%s", diff)
		}
	}
}

// trim raises floors by chance and trims.
func (m *model) trim(tb testing.TB, j store.Journal, rng *rand.Rand, open []*kite.Record) {
	tb.Helper()
	for stream, records := range m.streams {
		floor := max(m.floors[stream], 1)
		m.floors[stream] = floor + kite.Seq(rng.Uint64N(uint64(len(records))+2-uint64(floor)))
		if _, minute := kite.DelayMinute(stream); minute { // known as long as its newest waits
			m.floors[stream] = min(m.floors[stream], kite.Seq(len(records)))
		}
	}
	needs := store.Needs{Floors: m.floors, BeforeMs: late}
	for _, p := range open {
		needs.Open = append(needs.Open, p.Position)
	}
	mustTrim(tb, j, needs)
}
