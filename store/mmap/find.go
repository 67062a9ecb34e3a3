package mmap

import (
	"errors"
	"runtime/debug"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
)

// ids is a segment's part of the id index: the table until the file is there.
type ids struct {
	table *idTable
	file  *idFile
}

// any tells whether the segment has a record with an id.
func (s *ids) any() bool {
	return s.file == nil && s.table == nil || s.file != nil && s.file.count > 0 || s.table != nil && s.table.count > 0
}

// find appends the offsets of the records that may have the id.
func (s *ids) find(id kite.MessageID, offsets []uint32) []uint32 {
	switch {
	case s.file != nil:
		return s.file.find(s.file.key.hash(id), offsets)
	case s.table != nil:
		return s.table.find(s.table.key.hash(id), offsets)
	}
	return offsets
}

// Find visits the records that carry the id, newest first. See store.Journal. Segments whose records are
// all older than sinceMs are not looked at.
func (j *Journal) Find(id kite.MessageID, sinceMs int64, visit func(*kite.Record) bool) (err error) {
	w := j.walk()
	defer j.done(w, debug.SetPanicOnFault(true), &err)
	for next := -1; ; {
		next, err = j.candidates(w, id, sinceMs, next)
		if errors.Is(err, errUnsound) {
			if err := j.mendIDs(w.seg); err != nil {
				return err
			}
			w.drop()
			continue
		}
		if err != nil || w.seg == nil {
			return err
		}
		slices.Sort(w.offsets)
		for _, off := range slices.Backward(w.offsets) {
			if w.seg.gapped(w.seg.position(int64(off))) {
				continue
			}
			topic, err := w.seg.record(int64(off), &w.rec)
			if err != nil {
				return err
			}
			if w.rec.ID != id {
				continue
			}
			if w.rec.Topic = j.topic(topic); !visit(&w.rec) {
				return nil
			}
		}
		w.drop()
	}
}

// errUnsound says that the file of a segment's ids is not what was written.
var errUnsound = errors.New("the id index is damaged")

// candidates looks into the segments from the newest on, or from the one before number from, for one that
// may have the id. It fills the walk with the offsets there and takes a reference; w.seg stays nil when there
// is none. Files of ids live as long as their segment is in the list, so they are read under the lock.
func (j *Journal) candidates(w *walk, id kite.MessageID, sinceMs int64, from int) (number int, err error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.closed {
		return 0, &kite.Error{Code: kite.Unavailable, Op: "find message " + id.String(), Err: errClosed}
	}
	recent := j.recent.holds(id)
	for _, seg := range slices.Backward(j.segments) {
		if from >= 0 && seg.number >= uint64(from) || seg.newestMs < sinceMs || seg.fresh && !recent {
			continue
		}
		if file := seg.ids.file; file != nil && file.check() != nil {
			seg.acquire()
			w.seg = seg
			return from, errUnsound
		}
		if w.offsets = seg.ids.find(id, w.offsets[:0]); len(w.offsets) > 0 {
			seg.acquire()
			w.seg = seg
			return int(seg.number), nil
		}
	}
	return 0, nil
}

// mendIDs makes a damaged id index anew. The caller holds a reference to the segment.
func (j *Journal) mendIDs(seg *segment) error {
	j.mending.Lock()
	defer j.mending.Unlock()
	j.mu.RLock()
	file := seg.ids.file
	j.mu.RUnlock()
	if file == nil || file.check() == nil {
		return nil // somebody was faster
	}
	j.log.Warn("id index damaged, it is rebuilt", "file", numbered(j.o.Dir, seg.number, idsExt))
	table, err := seg.scanIDs()
	if err != nil {
		return err
	}
	j.mu.Lock()
	seg.ids = ids{table: table}
	j.mu.Unlock()
	if err := j.fs.Unmap(file.data); err != nil {
		return err
	}
	j.saveIDs(seg)
	return nil
}

// scanIDs reads the ids of a sealed segment from its records.
func (s *segment) scanIDs() (*idTable, error) {
	t := newIDTable(0)
	var rec kite.Record
	end, _, stop, err := s.scan(segmentHeader, s.sequence, func(off int64, h batch) error {
		return h.records(s.data[off:], &rec, func(at int64, _ []byte) error {
			if rec.ID != (kite.MessageID{}) {
				t.add(rec.ID, off+at)
			}
			return nil
		})
	})
	if err == nil && end < s.end {
		err = s.corrupt(end, stop)
	}
	return t, err
}

// saveIDs writes the ids of a sealed segment to their file and takes that in place of the table. The file
// is derived: when it cannot be written the table stays and the next Open rebuilds it.
func (j *Journal) saveIDs(seg *segment) {
	j.mu.RLock()
	kept, table := slices.Contains(j.segments, seg), seg.ids.table
	j.mu.RUnlock()
	if !kept {
		return // it was trimmed while the job waited
	}
	path := numbered(j.o.Dir, seg.number, idsExt)
	mapping, err := j.writeDerived(path, buildIDs(seg, table), false)
	if err != nil {
		j.log.Warn("write the id index of a segment", "file", path, "err", err)
		return
	}
	file, err := openIDs(mapping, seg)
	if err != nil {
		panic("mmap: an id index that was just written: " + err.Error())
	}
	file.checked.Store(true)
	j.mu.Lock()
	kept = slices.Contains(j.segments, seg)
	if kept {
		seg.ids = ids{file: file}
	}
	j.mu.Unlock()
	if kept {
		return
	}
	// It was trimmed meanwhile. A file that stays is removed by the next Open.
	if err := errors.Join(j.fs.Unmap(mapping), j.fs.Remove(path)); err != nil {
		j.log.Warn("remove the id index of a trimmed segment", "file", path, "err", err)
	}
}
