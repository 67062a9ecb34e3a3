package mmap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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

	// Of the lane.
	replayed  bool
	appended  bool   // something since Open: Close leaves a mark
	sequence  uint64 // of the next batch
	turn      uint64 // of Append
	buf       []byte // the batch being written
	key       []byte // the name of a stream
	plan      []*stream
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

// Append writes the batch with one pwrite. See store.Journal.
//
// Errors of code Invalid (a record the layout cannot hold, a Seq out of order, a Ref to nowhere) and
// TooLarge (over Options.MaxBatchBytes) keep nothing of the batch, as does store.ErrFull when the
// disk has no room for the next segment.
func (j *Journal) Append(batch []*kite.Record) error {
	if err := j.usable(); err != nil || len(batch) == 0 {
		return err
	}
	size, err := j.prepare(batch)
	if err != nil {
		return err
	}
	if err := j.room(size); err != nil {
		return err
	}
	at := j.open.end
	b := j.encode(batch, size)
	if _, err := j.open.file.WriteAt(b, at); err != nil {
		return j.fail("append to "+j.open.path, err)
	}
	j.publish(batch, at+size)
	if cap(j.buf) > keepBuffer {
		j.buf = nil
	}
	return nil
}

// keepBuffer is the largest buffer that Append keeps for the next batch, bytes.
const keepBuffer = 8 << 20

// prepare checks the batch before anything of it is written, finds the streams of its records and
// returns its encoded size.
func (j *Journal) prepare(batch []*kite.Record) (size int64, err error) {
	j.turn++
	j.plan = j.plan[:0]
	size = batchHeader
	for _, r := range batch {
		if err := checkRecord(r); err != nil {
			return 0, err
		}
		st, err := j.place(r)
		if err != nil {
			return 0, err
		}
		j.plan = append(j.plan, st)
		size += recordSize(r)
	}
	if size = padded(size); size > int64(j.o.MaxBatchBytes) {
		return 0, kite.Errorf(kite.TooLarge, "append a batch of %d bytes: at most %s are allowed", size, j.o.MaxBatchBytes)
	}
	return size, nil
}

// place checks that r is the next of its stream and returns it, nil for a record of none.
func (j *Journal) place(r *kite.Record) (*stream, error) {
	if r.Kind == kite.KindCommit {
		if j.find(r.Ref) == nil {
			return nil, kite.Errorf(kite.Invalid, "commit of topic %s: nothing was prepared at position %d", r.Topic, r.Ref)
		}
	}
	key := j.streamKey(r.Kind, r.Topic, r.Group)
	if len(key) == 0 || r.Seq == 0 {
		return nil, nil
	}
	st := j.streams[string(key)]
	if st == nil {
		st = newStream(string(key))
		j.mu.Lock()
		j.streams[st.name] = st
		j.mu.Unlock()
	}
	if st.turn != j.turn {
		st.turn, st.pending = j.turn, st.next
	}
	if st.pending != 0 && r.Seq != st.pending || r.Seq > maxSeq {
		return nil, kite.Errorf(kite.Invalid, "append seq %d to %s: the next one is %d", r.Seq, st.name, st.pending)
	}
	st.pending = r.Seq + 1
	return st, nil
}

// streamKey is store.Stream without an allocation: the result is good until the next call.
func (j *Journal) streamKey(kind kite.Kind, topic string, group []byte) []byte {
	j.key = j.key[:0]
	switch kind {
	case kite.KindMessage, kite.KindCommit:
		j.key = append(j.key, topic...)
	case kite.KindDead:
		j.key = append(append(append(j.key, topic...), '/'), group...)
	}
	return j.key
}

// encode lays the batch out and gives its records their positions.
func (j *Journal) encode(records []*kite.Record, size int64) []byte {
	seg := j.open
	b := slices.Grow(j.buf[:0], int(size))[:batchHeader]
	clear(b)
	for _, r := range records {
		r.Position = seg.position(seg.end + int64(len(b)))
		b = appendRecord(b, r)
	}
	used := len(b)
	b = b[:size]
	clear(b[used:])
	sealBatch(b, batch{
		count:    len(records),
		position: seg.position(seg.end),
		sequence: j.sequence,
		durable:  kite.Position(j.durable.Load()),
	}, seg.epoch)
	j.buf = b
	return b
}

// publish lets readers see the batch that now lies up to end in the open segment.
func (j *Journal) publish(batch []*kite.Record, end int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, r := range batch {
		j.note(j.open, j.plan[i], r, int64(r.Position-j.open.base))
	}
	j.open.end = end
	j.sequence++
	j.appended = true
}

// note enters one record of the open segment, or of one being scanned as if it were.
func (j *Journal) note(seg *segment, st *stream, r *kite.Record, off int64) {
	seg.newestMs = max(seg.newestMs, r.TimeMs)
	if st == nil {
		return
	}
	st.add(seg, r.Seq, off)
	if r.Kind != kite.KindCommit || r.Ref >= seg.base {
		return
	}
	bytes := j.find(r.Ref)
	if bytes == nil {
		return
	}
	j.late[lateCommit{bytes, st}] = r.Seq
	bytes.keep(st, r.Seq)
}

// keep notes that the bytes of the stream's seq lie in s, its commit elsewhere.
func (s *segment) keep(st *stream, seq kite.Seq) {
	if s.late == nil {
		s.late = map[*stream]kite.Seq{}
	}
	s.late[st] = max(s.late[st], seq)
}

// find returns the segment in which pos lies, or nil. Readers call it under mu.
func (j *Journal) find(pos kite.Position) *segment {
	i, found := slices.BinarySearchFunc(j.segments, pos, compareBase)
	if !found {
		i--
	}
	if i < 0 || pos < j.segments[i].position(segmentHeader) || pos >= j.segments[i].limit() {
		return nil
	}
	return j.segments[i]
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

// Run syncs in the background when Options.Sync asks for it, and else just waits for ctx. It
// returns nil when ctx ends and the error when the journal is poisoned.
func (j *Journal) Run(ctx context.Context) error {
	if j.o.Sync <= 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(time.Duration(j.o.Sync))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := j.sync(); err != nil {
				return fmt.Errorf("sync in the background: %w", err)
			}
		}
	}
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
