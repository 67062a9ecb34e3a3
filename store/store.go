package store

import (
	"errors"
	"fmt"

	"github.com/kiteq/kiteq/internal/kite"
)

// Journal keeps records in the order of Append and finds messages by topic and Seq.
//
// The lane is its only writer: Replay, Append, Sync, Checkpoint, Trim and Close are called by one
// goroutine at a time. Read, Load, Find and Bounds may run beside them in any number.
//
// A failed write or sync poisons the journal: that call and every later Append, Sync and Checkpoint
// return an error of code kite.Unavailable, and nothing is tried again. ErrFull is the exception:
// nothing of the batch was kept, and the journal goes on.
//
// A journal whose storage may be away and come back keeps the batch of Append and waits for it instead. Err
// says so meanwhile, and everything else is an error of code kite.Unavailable which poisons nothing.
type Journal interface {
	// Replay hands apply the records that rebuild the lane's state: those of the newest checkpoint,
	// then every later one in journal order. It is called once, before the first Append. The record
	// is a view, valid during the call. An error of apply ends it and is returned.
	Replay(apply func(*kite.Record) error) error

	// Append writes the batch as one entry: after a crash all of it is found or none. It sets the
	// Position of each record and keeps no reference to what they point to. Records with a Seq of
	// kinds message, commit, dead and delayed come in dense order for their stream (Stream), and Read
	// finds them when Append has returned. The Ref of a commit is the Position of a prepared or delayed
	// record of an earlier batch; the Ref of a delayed one, if it has one, that of a prepared record.
	Append(batch []*kite.Record) error

	// Sync makes everything appended so far at least as durable as the class says. One that the
	// journal cannot give is an error of code Invalid, which poisons nothing.
	Sync(class kite.Class) error

	// Read visits the stream's records in order, the first with from <= Seq, until visit returns
	// false or the newest is passed. A commit is visited as KindMessage with all of the record at its
	// Ref, and its own Seq and TimeMs. Records that Trim removed are passed over. The record is a view,
	// valid during visit.
	Read(stream string, from kite.Seq, visit func(*kite.Record) bool) error

	// Load visits the one record at pos. The record is a view, valid during visit.
	Load(pos kite.Position, visit func(*kite.Record)) error

	// Find visits the records that carry the id, newest first, until visit returns false: its message, or
	// what prepared, decided or parked it, and its dead letters. Records older than sinceMs (Unix ms) may be
	// left out, those that Trim removed are. The record is a view, valid during visit.
	Find(id kite.MessageID, sinceMs int64, visit func(*kite.Record) bool) error

	// Bounds returns the first Seq that Read can still find and the one that comes after the newest.
	// They are equal for a stream without records. A stream of delayed messages is forgotten with the
	// last of its records that Trim removes: its next is 1 again.
	Bounds(stream string) (first, next kite.Seq)

	// Checkpoint durably replaces what Replay begins with by the records that state yields, which
	// stand for everything appended before. Positions in their Ref stay valid. state may be asked twice.
	Checkpoint(state func(yield func(*kite.Record) bool)) error

	// Trim removes what nobody needs: a unit of storage goes when it is complete, older than
	// BeforeMs and covered by the newest checkpoint, and holds no record that Needs names. Of a unit that
	// holds few such records others may go. Needs is not kept, and what it names may only become less.
	Trim(needs Needs) (Trimmed, error)

	// Class names the durability that the journal was configured for. It gives that, and maybe others.
	Class() kite.Class

	// Err returns why the journal is poisoned, or that its storage is away, or nil.
	Err() error

	// Close syncs and releases the journal. Readers must have returned. A second Close is harmless.
	Close() error
}

// Needs is what Trim must keep.
type Needs struct {
	// Floors gives for each stream the lowest Seq that somebody may still read. A stream that is
	// not named needs nothing.
	Floors map[string]kite.Seq
	// Open are the positions of undecided prepared records.
	Open []kite.Position
	// BeforeMs is the time before which a unit's newest record must lie, Unix ms.
	BeforeMs int64
	// SeenMs is since when Find must know of every id, Unix ms; 0: it need not. A unit with records as young
	// stays, or of each id's newest record, dead letters and orders aside, Kind, ID and TimeMs do.
	SeenMs int64
	// MaxBytes ends the keeping of what nobody needs: while the journal holds more, its oldest units go
	// although they are newer than BeforeMs. 0 is no limit.
	MaxBytes int64
}

// Trimmed is what Trim removed.
type Trimmed struct {
	Units int
	Bytes int64
}

// ErrFull says that a bounded journal has no room; the batch was not kept.
var ErrFull = &kite.Error{Code: kite.Busy, Err: errors.New("the store is full")}

// ErrFenced says that another broker has taken the journal over; nothing of the batch was kept.
var ErrFenced = &kite.Error{Code: kite.Unavailable, Err: errors.New("another broker has taken this journal over")}

// ErrLocked says that another process has the journal open.
var ErrLocked = errors.New("the store is in use by another process")

// CorruptionError says where bytes are not what was written. Nothing was changed.
type CorruptionError struct {
	File   string
	Offset int64
	Err    error
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("%s is damaged at offset %d: %v", e.File, e.Offset, e.Err)
}

// Unwrap returns the cause.
func (e *CorruptionError) Unwrap() error { return e.Err }

// Stream names the dense sequence that a record belongs to: its topic, the dead letters of a group, or the
// messages that are due in a minute.
// It is empty for records without a place of their own.
func Stream(r *kite.Record) string {
	switch r.Kind {
	case kite.KindMessage, kite.KindCommit:
		return r.Topic
	case kite.KindDead:
		return kite.DeadStream(r.Topic, string(r.Group))
	case kite.KindDelayed:
		return kite.DelayStream(kite.Minute(r.DueMs))
	}
	return ""
}
