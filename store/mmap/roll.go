package mmap

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// A roll is what Append does when the open segment has no room for the batch: it retires that one and
// creates the next. What else there is to do, sealing, is for the background, so that no publisher
// waits for it.
//
// In class synced a segment is retired only when it is durable; what of it is not yet is one batch
// at most. So only the last file of such a journal can have a torn tail. In class written up to a
// whole segment may be in memory only, and an fdatasync of that would stop the lane for as long as the
// disk needs; here it belongs to the sealing. A power cut then may take parts of several files, and
// recovery finds the place up to which all is there: nothing that lies behind it was ever durable,
// because segments are synced in their order.
//
// The index is written when its segment is durable. That makes its file a proof: what has an index was
// durable, and so was everything before it.

// maxRetired bounds the segments that wait for being sealed. With more the disk is slower than the
// publishers, and the lane has to wait for it sooner or later.
const maxRetired = 4

// room makes the open segment one that takes size more bytes.
//
// A batch that settles may take what the reserve had; one with messages needs the reserve to be whole.
func (j *Journal) room(size int64, settles bool) error {
	if !settles && !j.reserved() {
		return &kite.Error{Code: kite.Busy, Op: "append", Err: errSpent}
	}
	if j.open != nil && j.open.end+size <= int64(len(j.open.data)) {
		return nil
	}
	if j.open != nil {
		if err := j.roll(); err != nil {
			return err
		}
	}
	err := j.create(max(int64(j.o.SegmentBytes), segmentHeader+size))
	if errors.Is(err, store.ErrFull) && settles {
		if err := j.spend("what settles", j.reserveBytes()/2); err != nil {
			return err
		}
		err = j.create(max(j.reserveBytes()/spareSegments, segmentHeader+size))
	}
	return err
}

// roll retires the open segment and has it sealed.
func (j *Journal) roll() error {
	seg := j.open
	if j.o.Sync == SyncAlways {
		if err := j.force(seg); err != nil {
			return err
		}
	}
	j.idCount = seg.ids.table.count // what the next one will likely have
	j.retire(seg)
	j.mu.Lock()
	j.open = nil
	j.retired = append(j.retired, seg)
	behind := len(j.retired) > maxRetired
	j.mu.Unlock()
	if behind {
		if err := j.seal(); err != nil {
			return err
		}
	}
	j.later(func() { _ = j.seal() }) // a failure has poisoned the journal, and is told by that
	j.later(func() { j.saveIDs(seg) })
	return j.Err()
}

// seal makes the retired segments durable, in their order, gives each its index and closes its file.
func (j *Journal) seal() error {
	j.sealing.Lock()
	defer j.sealing.Unlock()
	return j.sealLocked()
}

func (j *Journal) sealLocked() error {
	for {
		j.mu.RLock()
		retired := j.retired
		j.mu.RUnlock()
		if len(retired) == 0 {
			return nil
		}
		seg := retired[0]
		if err := j.force(seg); err != nil {
			return err
		}
		if err := seg.file.Truncate(seg.end); err != nil {
			j.log.Warn("give unused disk space back", "file", seg.path, "err", err)
		}
		if err := seg.file.Close(); err != nil {
			return j.fail("close "+seg.path, err)
		}
		j.saveIndex(seg)
		j.mu.Lock()
		seg.file = nil
		j.retired = j.retired[1:]
		j.mu.Unlock()
	}
}

// retire turns the places of the open segment, or of one being scanned, into its index.
func (j *Journal) retire(seg *segment) {
	index := buildIndex(seg, j.late)
	clear(j.late)
	j.mu.Lock()
	defer j.mu.Unlock()
	seg.index = index
	at := uint32(0)
	for i := range seg.holds {
		st := seg.holds[i].stream
		n := uint32(len(st.open))
		seg.holds[i].newest = st.first + kite.Seq(n) - 1
		st.parts = append(st.parts, part{seg: seg, first: st.first, count: n, at: at})
		at += n
		st.open = st.recycle()
	}
}

// recycle empties the places for the next segment, where the stream will likely have as many. A minute will
// not: there are many of them, and each is filled once.
func (s *stream) recycle() []uint32 {
	const keep = 4096
	if _, minute := kite.DelayMinute(s.name); minute || cap(s.open) > keep {
		return nil
	}
	return s.open[:0]
}

// saveIndex writes the index to its file and maps it. The file is derived: when it cannot be
// written the index stays in memory and the next Open rebuilds it.
func (j *Journal) saveIndex(seg *segment) {
	mapping, err := j.writeDerived(numbered(j.o.Dir, seg.number, indexExt), seg.index, false)
	if err != nil {
		j.log.Warn("write the index of a segment", "file", seg.path, "err", err)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	seg.index, seg.mapped = mapping, true
}

// writeDerived makes a file of b, synced or not, and maps it.
func (j *Journal) writeDerived(path string, b []byte, synced bool) ([]byte, error) {
	file, err := j.fs.Create(path + tempExt)
	if err != nil {
		return nil, err
	}
	var mapping []byte
	_, err = file.WriteAt(b, 0)
	if err == nil && synced {
		err = file.Sync()
	}
	if err == nil {
		mapping, err = file.Map(int64(len(b)))
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = j.fs.Rename(path+tempExt, path)
	}
	if err == nil {
		return mapping, nil
	}
	if mapping != nil {
		err = errors.Join(err, j.fs.Unmap(mapping))
	}
	return nil, errors.Join(err, j.fs.Remove(path+tempExt))
}

// create makes the next segment the open one. When the disk has no room for it nothing has
// changed and the error is store.ErrFull.
func (j *Journal) create(size int64) error {
	seg := &segment{number: 1, epoch: rand.Uint32(), sequence: j.sequence, fs: j.fs, end: segmentHeader}
	if n := len(j.segments); n > 0 {
		seg.number, seg.base = j.segments[n-1].number+1, j.segments[n-1].limit()
	}
	seg.solid = j.durable.Load() >= uint64(seg.base)
	seg.path = numbered(j.o.Dir, seg.number, segmentExt)
	file, err := j.fs.Create(seg.path)
	if err != nil {
		return j.full("create "+seg.path, err)
	}
	if err := file.Allocate(size); err != nil {
		if err := errors.Join(file.Close(), j.fs.Remove(seg.path)); err != nil {
			return j.fail("remove "+seg.path, err)
		}
		return j.full("create "+seg.path, err)
	}
	if _, err = file.WriteAt(seg.putHeader(time.Now()), 0); err == nil {
		seg.data, err = file.Map(size)
	}
	if err != nil {
		return j.fail("begin "+seg.path, errors.Join(err, file.Close()))
	}
	seg.file = file
	seg.ids.table = newIDTable(j.idCount)
	seg.fresh = true
	seg.refs.Store(1)
	j.mu.Lock()
	j.dirDirty = true
	j.segments = append(j.segments, seg)
	j.open = seg
	j.mu.Unlock()
	j.log.Info("segment created", "file", seg.path, "bytes", size)
	return nil
}

// full tells a disk without room, which leaves the journal usable, from all other errors.
func (j *Journal) full(op string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &kite.Error{Code: kite.Busy, Op: op, Err: fmt.Errorf("%w: %w", store.ErrFull, err)}
	}
	return j.fail(op, err)
}
