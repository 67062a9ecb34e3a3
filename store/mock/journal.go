package mock

import (
	"errors"
	"sync/atomic"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// Journal takes every record, says so and forgets it. Publishes are answered true and never delivered: the
// flows find nothing where the messages should be, and pass on. Transactions can be committed and rolled
// back, to no effect. Its memory does not grow.
type Journal struct {
	last     atomic.Uint64 // position given out
	replayed atomic.Bool
	closed   atomic.Bool
}

var _ store.Journal = (*Journal)(nil)

var (
	errClosed = &kite.Error{Code: kite.Unavailable, Err: errors.New("the journal is closed")}
	errGone   = &kite.Error{Code: kite.Invalid, Err: errors.New("the mock store keeps no message")}
)

// New returns a journal.
func New() *Journal { return &Journal{} }

// ParseURL accepts mock:// and nothing behind it.
func ParseURL(raw string) error {
	if raw != "mock://" {
		return kite.Errorf(kite.Invalid, "store %q: use mock:// alone, it has no parameters", raw)
	}
	return nil
}

// Replay finds nothing.
func (j *Journal) Replay(func(*kite.Record) error) error {
	switch {
	case j.closed.Load():
		return errClosed
	case j.last.Load() > 0 || j.replayed.Swap(true):
		return kite.Errorf(kite.Invalid, "replay the journal: it is done once, before the first append")
	}
	return nil
}

// Append gives each record a position.
func (j *Journal) Append(batch []*kite.Record) error {
	if j.closed.Load() {
		return errClosed
	}
	for _, r := range batch {
		if r.Kind == 0 {
			return kite.Errorf(kite.Invalid, "record without a kind")
		}
	}
	position := j.last.Add(uint64(len(batch))) - uint64(len(batch))
	for _, r := range batch {
		position++
		r.Position = kite.Position(position)
	}
	return nil
}

// Sync does nothing, which is enough for class mem.
func (j *Journal) Sync(class kite.Class) error {
	if class != kite.ClassMem {
		return kite.Errorf(kite.Invalid, "the mock store keeps nothing: it cannot make messages %s", class)
	}
	return j.open()
}

// Read finds nothing.
func (j *Journal) Read(string, kite.Seq, func(*kite.Record) bool) error { return j.open() }

// Load finds nothing, which is an error of code Invalid: whoever has a position expects a record there.
func (j *Journal) Load(kite.Position, func(*kite.Record)) error {
	if err := j.open(); err != nil {
		return err
	}
	return errGone
}

// Find finds nothing.
func (j *Journal) Find(kite.MessageID, int64, func(*kite.Record) bool) error { return j.open() }

// Bounds returns those of a stream without records.
func (j *Journal) Bounds(string) (first, next kite.Seq) { return 1, 1 }

// Checkpoint does nothing.
func (j *Journal) Checkpoint(func(yield func(*kite.Record) bool)) error { return j.open() }

// Trim has nothing to remove.
func (j *Journal) Trim(store.Needs) (store.Trimmed, error) { return store.Trimmed{}, j.open() }

// Class is mem: what was answered true is gone with the process, and here before.
func (j *Journal) Class() kite.Class { return kite.ClassMem }

// Err returns nil: there is nothing to fail.
func (j *Journal) Err() error { return nil }

// Close makes every later call but Bounds, Class, Err and Close an error of code Unavailable.
func (j *Journal) Close() error {
	j.closed.Store(true)
	return nil
}

func (j *Journal) open() error {
	if j.closed.Load() {
		return errClosed
	}
	return nil
}
