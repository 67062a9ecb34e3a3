package mmap

import (
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// Journal is the journal in one directory. Open makes it.
//
// Three parties touch it: the lane, which alone writes; readers, which take a run of places and a
// reference to their segment under mu and then read the mapping without any lock; and Run, which
// syncs beside them. Append encodes the batch into one buffer and writes it with one pwrite behind
// the last one; only then, under mu, do its records get into the index, all of them at once. So a
// reader sees whole batches, and what it sees is in the file.
//
// Where two locks nest, syncing is taken before mu.
type Journal struct {
	o    Options
	fs   FS
	log  *slog.Logger
	lock io.Closer

	mu       sync.RWMutex
	segments []*segment // by base; the open one is the last
	open     *segment   // nil until the first Append after the last one was sealed
	streams  map[string]*stream
	closed   bool

	// syncing is held while files are forced to the disk, so that the one failing fdatasync is seen
	// before anybody else can take the next one's success for its own.
	syncing  sync.Mutex
	dirDirty bool          // files were created since the directory was synced
	durable  atomic.Uint64 // the position up to which everything is on the disk

	poison atomic.Pointer[kite.Error]
	walks  sync.Pool // of *walk, owned by one Read or Load at a time
	worker worker

	mending mending

	// Of the lane.
	replayed  bool
	appended  bool   // something since Open: Close leaves a mark
	sequence  uint64 // of the next batch
	turn      uint64 // of Append
	buf       []byte // the batch being written
	key       []byte // the name of a stream
	plan      []*stream
	idCount   int                     // of the segment that was sealed last
	late      map[lateCommit]kite.Seq // of the open segment
	restore   *checkpoint             // what Replay begins with; nil afterwards or when there is none
	covered   kite.Position           // what the newest checkpoint stands for
	snapshot  uint64                  // the number of the newest checkpoint file
	snapshots []uint64                // the numbers of all, in the order they go
}

var _ store.Journal = (*Journal)(nil)

// errClosed is what a closed journal answers.
var errClosed = errors.New("the journal is closed")

// Class names the durability that Sync gives.
func (j *Journal) Class() kite.Class {
	if j.o.Sync == SyncAlways {
		return kite.ClassSynced
	}
	return kite.ClassWritten
}

// Err returns why the journal is poisoned, or nil.
func (j *Journal) Err() error {
	if e := j.poison.Load(); e != nil {
		return e
	}
	return nil
}

// fail poisons the journal with its first failed write or sync.
func (j *Journal) fail(op string, err error) error {
	e := &kite.Error{Code: kite.Unavailable, Op: op, Err: err}
	if j.poison.CompareAndSwap(nil, e) {
		j.log.Error("journal poisoned", "err", e, "hint", "restart the broker when the disk is well")
	}
	return j.poison.Load()
}

// usable returns nil, or why nothing may be written.
func (j *Journal) usable() error {
	if j.closed {
		return &kite.Error{Code: kite.Unavailable, Err: errClosed}
	}
	return j.Err()
}

// Sync forces what was appended to the disk in class synced; in class written it only reports a
// poisoned journal.
func (j *Journal) Sync() error {
	if err := j.usable(); err != nil || j.o.Sync != SyncAlways {
		return err
	}
	return j.sync()
}

// sync is one fdatasync, and one of the directory when it has a new file.
func (j *Journal) sync() error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	return j.syncLocked()
}

func (j *Journal) syncLocked() error {
	if err := j.Err(); err != nil {
		return err
	}
	j.mu.RLock()
	seg := j.open
	var end kite.Position
	if seg != nil {
		end = seg.limit()
	}
	j.mu.RUnlock()
	if seg == nil || uint64(end) <= j.durable.Load() {
		return nil
	}
	if err := seg.file.Sync(); err != nil {
		return j.fail("sync "+seg.path, err)
	}
	if j.dirDirty {
		if err := j.fs.SyncDir(j.o.Dir); err != nil {
			return j.fail("sync the directory "+j.o.Dir, err)
		}
		j.dirDirty = false
	}
	j.durable.Store(uint64(end))
	return nil
}

// Bounds returns the first Seq that Read can find and the one after the newest; both are 1 for a
// stream that never had a record.
func (j *Journal) Bounds(name string) (first, next kite.Seq) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	st := j.streams[name]
	if st == nil {
		return 1, 1
	}
	return st.bounds()
}

// Close syncs and releases the journal. Run and all readers must have returned. What a poisoned
// journal has not synced stays as it is.
func (j *Journal) Close() error {
	if j.closed {
		return nil
	}
	j.finishJobs()
	err := j.Err()
	if err == nil {
		err = j.mark()
	}
	return errors.Join(err, j.release())
}

// mark syncs and leaves an empty batch behind, which proves that everything before it was durable:
// damage to the last batch then is told from a torn write.
func (j *Journal) mark() error {
	if err := j.sync(); err != nil || !j.appended {
		return err
	}
	if j.open == nil || j.open.end+batchHeader > int64(len(j.open.data)) {
		return nil
	}
	at := j.open.end
	if _, err := j.open.file.WriteAt(j.encode(nil, batchHeader), at); err != nil {
		return j.fail("append to "+j.open.path, err)
	}
	j.publish(nil, at+batchHeader)
	return j.sync()
}

// release gives everything back that Open took.
func (j *Journal) release() error {
	j.mu.Lock()
	j.closed = true
	segments, open := j.segments, j.open
	j.segments, j.open, j.streams = nil, nil, map[string]*stream{}
	j.mu.Unlock()
	for _, seg := range segments {
		seg.release()
	}
	var err error
	if open != nil {
		err = open.file.Close()
	}
	if j.restore != nil {
		j.restore.release(j.fs)
		j.restore = nil
	}
	return errors.Join(err, j.lock.Close())
}
