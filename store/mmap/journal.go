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
// Where locks nest, they are taken in the order sealing, syncing, mu.
type Journal struct {
	o    Options
	fs   FS
	log  *slog.Logger
	lock io.Closer

	mu       sync.RWMutex
	segments []*segment // by base; the open one is the last
	open     *segment   // nil until the first Append after the last one was retired
	retired  []*segment // no longer open and not yet sealed, in order
	dirDirty bool       // files were created since the directory was synced
	streams  map[string]*stream
	recent   recent
	closed   bool

	sealing sync.Mutex // held by who seals, so that segments are sealed in order
	// syncing is held while files are forced to the disk, so that the one failing fdatasync is seen
	// before anybody else can take the next one's success for its own.
	syncing sync.Mutex
	durable atomic.Uint64 // the position up to which everything is on the disk

	poison atomic.Pointer[kite.Error]
	walks  sync.Pool // of *walk, owned by one Read or Load at a time
	worker worker

	mending sync.Mutex // one mendIDs at a time

	compacting atomic.Bool // a job for it is queued or under way
	noHoles    atomic.Bool // the file system cannot punch them

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
	reserve   int64                   // what the reserve has now, bytes
	snapshot  uint64                  // the number of the newest checkpoint file
	snapshots []uint64                // the numbers of all, in the order they go
}

var _ store.Journal = (*Journal)(nil)

// errClosed is what a closed journal answers.
var errClosed = errors.New("the journal is closed")

// Space returns how much of the journal's file system is free, and how large that is, bytes: errors.ErrUnsupported
// when it cannot be asked.
func (j *Journal) Space() (free, size int64, err error) {
	if disk, ok := j.fs.(interface {
		Space(dir string) (free, size int64, err error)
	}); ok {
		return disk.Space(j.o.Dir)
	}
	return 0, 0, errors.ErrUnsupported
}

// Class names the durability that Options.Sync asks for.
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

// Sync forces what was appended to the disk for class synced, whatever Options.Sync says; for class
// written there is nothing to do.
func (j *Journal) Sync(class kite.Class) error {
	if err := j.usable(); err != nil {
		return err
	}
	switch {
	case class == kite.ClassWritten:
		return nil
	case class != kite.ClassSynced:
		return kite.Errorf(kite.Invalid, "the mmap store cannot make messages %s: it knows synced and written", class)
	case j.o.Sync == SyncAlways && j.open != nil: // a segment is retired only when it is durable: the open one is all there is
		return j.force(j.open)
	}
	return j.sync()
}

// sync makes everything durable, in its order: the retired segments, which are sealed by that, then
// the open one.
func (j *Journal) sync() error {
	j.sealing.Lock()
	defer j.sealing.Unlock()
	for {
		if err := j.sealLocked(); err != nil {
			return err
		}
		j.mu.RLock()
		seg, rolled := j.open, len(j.retired) > 0
		j.mu.RUnlock()
		switch {
		case rolled: // the lane has gone on to the next one in the meantime
		case seg == nil:
			return j.Err()
		default:
			return j.force(seg)
		}
	}
}

// force makes the segment durable up to where it ends now: one fdatasync, and one of the directory
// when it has a new file. Everything before the segment must be durable.
func (j *Journal) force(seg *segment) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if err := j.Err(); err != nil {
		return err
	}
	j.mu.Lock()
	end := uint64(seg.limit())
	if end <= j.durable.Load() {
		j.mu.Unlock()
		return nil
	}
	dirDirty := j.dirDirty
	j.dirDirty = false
	j.mu.Unlock()
	if err := seg.file.Sync(); err != nil {
		return j.fail("sync "+seg.path, err)
	}
	if dirDirty {
		if err := j.fs.SyncDir(j.o.Dir); err != nil {
			return j.fail("sync the directory "+j.o.Dir, err)
		}
	}
	j.durable.Store(end)
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
	segments := j.segments
	j.segments, j.open, j.retired, j.streams = nil, nil, nil, map[string]*stream{}
	j.mu.Unlock()
	var err error
	for _, seg := range segments {
		if seg.file != nil {
			err = errors.Join(err, seg.file.Close())
		}
		seg.release()
	}
	if j.restore != nil {
		j.restore.release(j.fs)
		j.restore = nil
	}
	return errors.Join(err, j.lock.Close())
}
