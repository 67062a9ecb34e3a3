package sim

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/memory"
	"github.com/kiteq/kiteq/store/mmap"
	"github.com/kiteq/kiteq/store/mysql/mysqltest"
	"github.com/kiteq/kiteq/store/storetest"
)

// backend is a journal that a world runs on.
type backend struct {
	// open opens what place holds, as a broker does.
	open func(tb testing.TB, place string) store.Journal
	// crash returns a place that holds what place would if the process died now; the journal there is open.
	// Nothing is written to it any more. Nil: nothing outlives the process.
	crash func(tb testing.TB, place string) string
}

// backends are the journals that the histories run on, and how many of a hundred histories each gets.
func backends() []struct {
	name    string
	share   int
	prepare func(testing.TB) backend
} {
	return []struct {
		name    string
		share   int
		prepare func(testing.TB) backend
	}{
		{"mmap", 85, func(testing.TB) backend { return backend{openUnsynced, copyDir} }},
		{"memory", 12, func(testing.TB) backend { return backend{openMemory, nil} }},
		{"mysql", 3, func(tb testing.TB) backend {
			o := mysqltest.Options(tb, "sim")
			open := func(tb testing.TB, place string) store.Journal { return mysqltest.Open(tb, o, place) }
			return backend{open, func(_ testing.TB, place string) string { return place }} // its rows stay as they are
		}},
	}
}

func openMemory(tb testing.TB, _ string) store.Journal {
	j, err := memory.New(memory.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return j
}

func openMMap(tb testing.TB, place string) store.Journal {
	return mustOpen(tb, mmap.Options{Dir: place, SegmentBytes: 64 << 10}.WithDefaults())
}

// openUnsynced opens a journal that forces nothing to the disk: it is the process that dies, not the machine.
func openUnsynced(tb testing.TB, place string) store.Journal {
	o := mmap.Options{Dir: place, SegmentBytes: 16 << 10}.WithDefaults()
	o.FS = unsynced{o.FS}
	return mustOpen(tb, o)
}

func mustOpen(tb testing.TB, o mmap.Options) store.Journal {
	tb.Helper()
	j, err := mmap.Open(o, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	return j
}

func copyDir(tb testing.TB, place string) string {
	to := tb.TempDir()
	storetest.CopyDir(tb, place, to)
	return to
}

type unsynced struct{ mmap.FS }

func (f unsynced) SyncDir(string) error { return nil }

func (f unsynced) Create(path string) (mmap.File, error) { return unsyncedFile(f.FS.Create(path)) }
func (f unsynced) Open(path string) (mmap.File, error)   { return unsyncedFile(f.FS.Open(path)) }

func unsyncedFile(file mmap.File, err error) (mmap.File, error) {
	if err != nil {
		return nil, err
	}
	return lazy{file}, nil
}

type lazy struct{ mmap.File }

func (lazy) Sync() error { return nil }

// mortal is a journal whose process can be made to die at any of its writes: from then on nothing gets
// through, and left is what the next process finds.
type mortal struct {
	store.Journal
	die    func() (left string) // nil: it cannot
	until  atomic.Int64         // writes that it still lives; 0: for ever
	after  atomic.Bool          // the last of them is done
	orders atomic.Int64         // that operators gave about flows
	dead   atomic.Bool
	left   string
	diedMs int64
}

var errDead = kite.Errorf(kite.Unavailable, "the process is dead")

// kill ends the process now.
func (m *mortal) kill() {
	if !m.dead.Load() {
		m.left, m.diedMs = m.die(), kite.UnixMs(time.Now())
		m.dead.Store(true)
	}
}

// doom has the process die at the n-th write from now on, which is done before or not; 0: at none.
func (m *mortal) doom(n int64, after bool) {
	m.after.Store(after)
	m.until.Store(n)
}

// write is the one way to the journal of all that changes it.
func (m *mortal) write(do func() error) error {
	if m.dead.Load() {
		return errDead
	}
	if m.until.Add(-1) != 0 {
		return do()
	}
	if m.after.Load() {
		if err := do(); err != nil {
			return err
		}
	}
	m.kill()
	return errDead
}

// Append implements store.Journal.
func (m *mortal) Append(batch []*kite.Record) error {
	return m.write(func() error {
		err := m.Journal.Append(batch)
		for _, r := range batch {
			if err == nil && r.Kind == kite.KindOrder && r.Body[0] >= byte(kite.ActionPause) && r.Body[0] <= byte(kite.ActionSeek) {
				m.orders.Add(1)
			}
		}
		return err
	})
}

// Checkpoint implements store.Journal.
func (m *mortal) Checkpoint(state func(func(*kite.Record) bool)) error {
	return m.write(func() error { return m.Journal.Checkpoint(state) })
}

// Trim implements store.Journal.
func (m *mortal) Trim(needs store.Needs) (trimmed store.Trimmed, err error) {
	err = m.write(func() error {
		trimmed, err = m.Journal.Trim(needs)
		return err
	})
	return trimmed, err
}

// Err implements store.Journal.
func (m *mortal) Err() error {
	if m.dead.Load() {
		return errDead
	}
	return m.Journal.Err()
}
