package storetest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// testFaults lets the n-th operation of a scenario go wrong, for every n and every Mode, and then
// opens what is left: what was synced is there, no batch is there by half, and nothing that nobody
// appended.
func testFaults(t *testing.T, e Env) {
	if e.OpenFaulty == nil {
		t.Skip("this journal has no operations to go wrong")
	}
	for _, mode := range []Mode{Before, Torn, After} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			for n := int64(1); ; n++ {
				fault := &Fault{N: n, Mode: mode}
				s := &scenario{env: e, fault: fault, m: newModel()}
				s.run(t)
				s.verify(t)
				if t.Failed() {
					t.Fatalf("operation %d went wrong %s", n, mode)
				}
				if !fault.Fired() {
					t.Logf("%d operations", n-1)
					return
				}
			}
		})
	}
}

// scenario is the life of a journal: filled over several units, killed, recovered, filled,
// checkpointed, trimmed, closed. It ends at the first error.
type scenario struct {
	env    Env
	fault  *Fault
	m      *model
	dir    string
	synced int // batches that Sync has covered
	floor  kite.Seq
	failed error
}

func (s *scenario) run(t *testing.T) {
	s.dir = t.TempDir()
	for life := range 3 {
		j, err := s.env.OpenFaulty(t, s.dir, s.fault)
		if err != nil {
			s.note(t, "open", err)
			return
		}
		s.live(t, j, life)
		if life == 1 {
			s.dir = s.env.crash(t, s.dir)
		}
		if err := j.Close(); err != nil && s.failed == nil {
			s.note(t, "close", err)
		}
		if s.failed != nil {
			return
		}
	}
}

// live is one life of the scenario.
func (s *scenario) live(t *testing.T, j store.Journal, life int) {
	err := j.Replay(func(*kite.Record) error { return nil })
	if err != nil {
		t.Errorf("replay: %v", err)
		return
	}
	for i := 0; i < 2*s.env.UnitBytes && s.failed == nil; i += 2 * 1024 {
		batch := []*kite.Record{s.m.message("a", 1024), s.m.prepared("b", 512), s.m.message("b", 512)}
		if !s.append(t, j, batch) {
			return
		}
		if i%4096 == 0 && !s.sync(t, j) {
			return
		}
		if i%8192 == 0 && !s.append(t, j, []*kite.Record{s.m.commit(batch[1])}) {
			return
		}
	}
	if life == 0 || !s.sync(t, j) {
		return
	}
	if err := j.Checkpoint(func(func(*kite.Record) bool) {}); err != nil {
		s.poisoned(t, j, "checkpoint", err)
		return
	}
	if life == 2 {
		s.floor = s.m.nextSeq["a"]
		needs := store.Needs{BeforeMs: late, Floors: map[string]kite.Seq{"a": s.floor, "b": s.m.nextSeq["b"]}}
		if _, err := j.Trim(needs); err != nil {
			s.note(t, "trim", err)
		}
	}
}

func (s *scenario) append(t *testing.T, j store.Journal, batch []*kite.Record) bool {
	err := j.Append(batch)
	s.m.keep(batch) // it may be there in either case
	if err != nil {
		s.poisoned(t, j, "append", err)
	}
	return err == nil
}

func (s *scenario) sync(t *testing.T, j store.Journal) bool {
	if err := j.Sync(j.Class()); err != nil {
		s.poisoned(t, j, "sync", err)
		return false
	}
	s.synced = len(s.m.batches)
	return true
}

// poisoned checks what a journal does after a failed write or sync.
func (s *scenario) poisoned(t *testing.T, j store.Journal, op string, err error) {
	s.note(t, op, err)
	if errors.Is(err, store.ErrFull) {
		t.Errorf("%s: %v where a fault is no lack of room", op, err)
	}
	r := s.m.prepared("a", 1)
	for call, err := range map[string]error{
		op: err, "err": j.Err(), "append": j.Append([]*kite.Record{r}), "sync": j.Sync(j.Class()),
		"checkpoint": j.Checkpoint(func(func(*kite.Record) bool) {}),
	} {
		if !errors.Is(err, kite.Unavailable) {
			t.Errorf("%s after a failed %s: %v, want code unavailable", call, op, err)
		}
	}
}

func (s *scenario) note(t *testing.T, op string, err error) {
	if !s.fault.Fired() {
		t.Errorf("%s without a fault: %v", op, err)
	}
	s.failed = fmt.Errorf("%s: %w", op, err)
}

// verify opens what is left, without faults. Replay gives what follows a checkpoint only, so the
// streams are what is compared; in the first two lives there is none and Replay is compared, too.
func (s *scenario) verify(t *testing.T) {
	j, err := s.env.Open(t, s.dir)
	if err != nil {
		t.Errorf("open after %v: %v", s.failed, err)
		return
	}
	defer func() { _ = j.Close() }()
	if err := j.Replay(func(*kite.Record) error { return nil }); err != nil {
		t.Errorf("replay after %v: %v", s.failed, err)
	}
	ends := map[string]kite.Seq{}
	for stream, records := range s.m.streams {
		got, err := read(j, stream, max(s.floor, 1))
		if err != nil {
			t.Errorf("read %s after %v: %v", stream, s.failed, err)
		}
		for _, r := range got {
			want := records[r.Seq-1]
			if r.ID != want.ID || r.Position != want.Position || string(r.Body) != string(want.Body) {
				t.Errorf("read %s after %v: seq %d is %s at %d, want %s at %d", stream, s.failed, r.Seq, r.ID, r.Position, want.ID, want.Position)
			}
			ends[stream] = r.Seq
		}
	}
	s.whole(t, ends)
}

// whole checks that the streams end between two batches, at or behind the last synced one.
func (s *scenario) whole(t *testing.T, ends map[string]kite.Seq) {
	want := map[string]kite.Seq{}
	if len(s.m.batches) == 0 {
		return
	}
	for i, batch := range s.m.batches {
		for _, r := range batch {
			if stream := store.Stream(r); stream != "" && r.Seq > 0 {
				want[stream] = r.Seq
			}
		}
		if i+1 >= s.synced && fmt.Sprint(want) == fmt.Sprint(ends) {
			return
		}
	}
	if s.synced == 0 && len(ends) == 0 {
		return
	}
	t.Errorf("after %v the streams end at %v, which is not the end of a batch from %d of %d on", s.failed, ends, s.synced, len(s.m.batches))
}
