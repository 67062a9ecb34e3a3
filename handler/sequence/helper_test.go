package sequence

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/memory"
	"github.com/kiteq/kiteq/store/mmap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is when the tests' clock begins.
var start = time.UnixMilli(1_700_000_000_000) //nolint:gochecknoglobals // constant

func mustMemory(tb testing.TB, o memory.Options) store.Journal {
	tb.Helper()
	j, err := memory.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return j
}

func mustMMap(tb testing.TB, dir string) store.Journal {
	tb.Helper()
	j, err := mmap.Open(mmap.Options{Dir: dir, SegmentBytes: 16 << 10}.WithDefaults(), slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	return j
}

// spy is a journal that tells what was appended to it and fails when it is told to.
type spy struct {
	store.Journal
	appended []kite.Kind
	appends  int
	syncs    int
	synced   []kite.Class // what each of them was asked for

	failAppend, failSync int // the n-th call fails; 0: none
	poison               error
}

var errDisk = kite.Errorf(kite.Unavailable, "the disk is gone")

func (s *spy) Append(batch []*kite.Record) error {
	if s.appends++; s.poison == nil && s.appends == s.failAppend {
		s.poison = errDisk
	}
	if s.poison != nil {
		return s.poison
	}
	err := s.Journal.Append(batch)
	if err == nil {
		for _, r := range batch {
			s.appended = append(s.appended, r.Kind)
		}
	}
	return err
}

func (s *spy) Sync(class kite.Class) error {
	s.synced = append(s.synced, class)
	if s.syncs++; s.poison == nil && s.syncs == s.failSync {
		s.poison = errDisk
	}
	return errors.Join(s.poison, s.Journal.Sync(class))
}

func (s *spy) Err() error { return errors.Join(s.poison, s.Journal.Err()) }

// rig is a lane that a test drives turn by turn, on a clock that the test sets.
type rig struct {
	*Lane
	t      testing.TB
	spy    *spy
	on     storage // what spy has, for a rig that can be opened again
	place  string
	clock  time.Time
	routes *routes
}

type routes struct {
	unknown  bool
	all      []kite.Route
	unserved []string
}

func (r *routes) Loaded() bool            { return !r.unknown }
func (r *routes) Routes() []kite.Route    { return r.all }
func (r *routes) Knows(topic string) bool { return !slices.Contains(r.unserved, topic) }

func newRig(t testing.TB, j store.Journal, o Options) *rig {
	t.Helper()
	r := &rig{t: t, spy: &spy{Journal: j}, clock: start, routes: &routes{}}
	r.open(o)
	t.Cleanup(func() {
		if err := r.spy.Close(); err != nil {
			t.Errorf("close the journal: %v", err)
		}
	})
	return r
}

func newMMapRig(t testing.TB, o Options) *rig { return newRigOn(t, mmapStorage(), o) }

func newRigOn(t testing.TB, on storage, o Options) *rig {
	t.Helper()
	place := t.TempDir()
	r := newRig(t, on.open(t, place), o)
	r.on, r.place = on, place
	return r
}

func (r *rig) open(o Options) {
	r.t.Helper()
	l, err := Open(o.WithDefaults(), r.spy, r.routes, slog.New(slog.DiscardHandler))
	if err != nil {
		r.t.Fatal(err)
	}
	l.now = func() time.Time { return r.clock }
	r.Lane = l
}

// reopen ends the lane as a stop does, and opens a new one on its journal.
func (r *rig) reopen() {
	r.t.Helper()
	r.checkpoint(r.options.Load().Retention)
	if err := r.spy.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.spy.Journal = r.on.open(r.t, r.place)
	r.open(*r.options.Load())
}

// crash opens a new lane on what a kill would leave: no checkpoint of the last turns. The journal of before is
// open until then, as that of a broker that was only taken for dead.
func (r *rig) crash() {
	r.t.Helper()
	old := r.spy.Journal
	r.place = r.on.crash(r.t, r.place)
	r.spy.Journal = r.on.open(r.t, r.place)
	if err := old.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open(*r.options.Load())
}

// turn handles the items in one turn and returns them with their verdicts.
func (r *rig) turn(items ...kite.Item) []kite.Item {
	b := &kite.Batch{Items: items}
	r.handle([]*kite.Batch{b})
	return b.Items
}

func id(n int) (id kite.MessageID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

func item(kind kite.Kind, topic string, n int) kite.Item {
	r := kite.Record{Kind: kind, ID: id(n), Topic: topic}
	if kind == kite.KindMessage || kind == kite.KindPrepared {
		r.Command, r.Limit, r.Type, r.Group = 0x11, 100, []byte("pay"), []byte("p-trade")
		r.Body = binary.BigEndian.AppendUint64([]byte("body "), uint64(n))
	}
	return kite.Item{Record: r}
}

func progress(topic, group string, p kite.Progress) kite.Item {
	return kite.Item{Record: kite.Record{
		Kind: kite.KindProgress, Topic: topic, Group: []byte(group), Body: kite.AppendProgress(nil, &p),
	}}
}

func dead(topic, group string, seq kite.Seq) kite.Item {
	letter := kite.DeadLetter{Seq: seq, Attempts: 3, Command: 0x11, Reason: "nack", Payload: []byte("body")}
	return kite.Item{Record: kite.Record{
		Kind: kite.KindDead, Topic: topic, Group: []byte(group), Body: kite.AppendDeadLetter(nil, &letter),
	}}
}

// picture is a state in a form that can be compared: without what only costs memory.
type picture struct {
	Heads     map[string]kite.Seq
	Open      map[kite.MessageID]Undecided
	Standings map[flowKey]kite.Progress
	Delayed   []kite.Record
	Emptied   []int64
	Waiting   int
}

func (s *State) picture() picture {
	p := picture{
		Heads: maps.Clone(s.heads), Open: map[kite.MessageID]Undecided{},
		Standings: map[flowKey]kite.Progress{}, Emptied: slices.Clone(s.emptied), Waiting: s.waiting,
	}
	for id, open := range s.open {
		p.Open[id] = *open
	}
	for key, standing := range s.standings {
		progress := standing.Progress()
		progress.Settled = slices.Clone(progress.Settled)
		if len(progress.Settled) == 0 {
			progress.Settled = nil
		}
		p.Standings[key] = progress
	}
	s.delays(func(r *kite.Record) bool {
		p.Delayed = append(p.Delayed, *r)
		return true
	})
	return p
}

// read returns the ids of the topic's messages in order.
func (r *rig) read(topic string) (ids []kite.MessageID) {
	r.t.Helper()
	next := kite.Seq(0)
	err := r.spy.Read(topic, 1, func(m *kite.Record) bool {
		if next++; m.Seq != next {
			r.t.Errorf("topic %s: seq %d comes where %d should", topic, m.Seq, next)
		}
		ids = append(ids, m.ID)
		return true
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return ids
}
