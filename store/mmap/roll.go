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

// The order of a roll is what recovery relies on: the old segment is durable before the new file
// exists, so only the last file of a journal can have a torn tail. The new file is durable with the
// first Sync after it, directory entry included.

// room makes the open segment one that takes size more bytes.
func (j *Journal) room(size int64) error {
	if j.open != nil && j.open.end+size <= int64(len(j.open.data)) {
		return nil
	}
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.open != nil {
		if err := j.sealLocked(); err != nil {
			return err
		}
	}
	return j.createLocked(max(int64(j.o.SegmentBytes), segmentHeader+size))
}

// sealLocked makes the open segment durable, gives it its index and closes its file.
func (j *Journal) sealLocked() error {
	if err := j.syncLocked(); err != nil {
		return err
	}
	seg := j.open
	j.idCount = seg.ids.table.count // what the next one will likely have
	if err := seg.file.Truncate(seg.end); err != nil {
		j.log.Warn("give unused disk space back", "file", seg.path, "err", err)
	}
	if err := seg.file.Close(); err != nil {
		return j.fail("close "+seg.path, err)
	}
	j.retire(seg)
	j.saveIndex(seg)
	j.later(func() { j.saveIDs(seg) })
	return nil
}

// retire turns the places of the open segment, or of one being scanned, into its index.
func (j *Journal) retire(seg *segment) {
	index := buildIndex(seg, j.late)
	clear(j.late)
	j.mu.Lock()
	defer j.mu.Unlock()
	seg.index, seg.file = index, nil
	at := uint32(0)
	for i := range seg.holds {
		st := seg.holds[i].stream
		n := uint32(len(st.open))
		seg.holds[i].newest = st.first + kite.Seq(n) - 1
		st.parts = append(st.parts, part{seg: seg, first: st.first, count: n, at: at})
		at += n
		st.open = recycle(st.open)
	}
	if j.open == seg {
		j.open = nil
	}
}

// recycle empties places for the next segment, where the stream will likely have as many.
func recycle(places []uint32) []uint32 {
	const keep = 4096
	if cap(places) > keep {
		return nil
	}
	return places[:0]
}

// saveIndex writes the index to its file and maps it. The file is derived: when it cannot be
// written the index stays in memory and the next Open rebuilds it.
func (j *Journal) saveIndex(seg *segment) {
	mapping, err := j.writeDerived(numbered(j.o.Dir, seg.number, indexExt), seg.index)
	if err != nil {
		j.log.Warn("write the index of a segment", "file", seg.path, "err", err)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	seg.index, seg.mapped = mapping, true
}

// writeDerived makes a file of b and maps it.
func (j *Journal) writeDerived(path string, b []byte) ([]byte, error) {
	file, err := j.fs.Create(path + tempExt)
	if err != nil {
		return nil, err
	}
	var mapping []byte
	_, err = file.WriteAt(b, 0)
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

// createLocked makes the next segment the open one. When the disk has no room for it nothing has
// changed and the error is store.ErrFull.
func (j *Journal) createLocked(size int64) error {
	seg := &segment{number: 1, epoch: rand.Uint32(), sequence: j.sequence, fs: j.fs, end: segmentHeader}
	if n := len(j.segments); n > 0 {
		seg.number, seg.base = j.segments[n-1].number+1, j.segments[n-1].limit()
	}
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
	seg.refs.Store(1)
	j.dirDirty = true
	j.mu.Lock()
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
