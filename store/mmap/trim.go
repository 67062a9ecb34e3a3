package mmap

import (
	"fmt"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// Trim unlinks segments that nobody needs, and has those compacted in which only little is needed. See
// store.Journal. A reader that is in one of them keeps it mapped until it is done; the disk gets the
// space back then. What compacting gives back is not in the result: it is done in the background.
//
// An unlink that fails poisons nothing: the segment stays, and the next Trim tries again.
func (j *Journal) Trim(needs store.Needs) (store.Trimmed, error) {
	var t store.Trimmed
	if err := j.usable(); err != nil {
		return t, err
	}
	unneeded, claims := j.sift(needs)
	var gone []*segment
	var failed error
	for _, seg := range unneeded {
		if failed = j.fs.Remove(seg.path); failed != nil {
			break
		}
		gone = append(gone, seg)
		t.Units++
		t.Bytes += seg.size() + j.removeIndex(seg)
		j.removeIDs(seg)
	}
	if len(gone) > 0 {
		j.forget(gone)
		j.log.Info("journal trimmed", "units", t.Units, "bytes", t.Bytes)
		if err := j.fs.SyncDir(j.o.Dir); err != nil {
			return t, j.fail("sync the directory "+j.o.Dir, err)
		}
		if err := j.restock(); err != nil {
			return t, err
		}
	}
	if failed != nil {
		return t, fmt.Errorf("trim the journal: %w", failed)
	}
	j.compactLater(claims)
	return t, j.Err()
}

// sift returns the segments that go, the oldest first, and what is claimed of those that are to be
// compacted.
func (j *Journal) sift(needs store.Needs) (unneeded []*segment, claims []claim) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	bytes := int64(0)
	for _, seg := range j.segments {
		bytes += seg.size()
	}
	for _, seg := range j.segments[:max(0, len(j.segments)-1)] { // the last one says where the journal goes on
		over := needs.MaxBytes > 0 && bytes > needs.MaxBytes
		seen := needs.SeenMs > 0 && seg.newestMs >= needs.SeenMs && seg.ids.any()
		if seg.newestMs >= needs.BeforeMs && !over || seen || seg.limit() > j.covered {
			continue
		}
		if !seg.needed(needs) {
			unneeded = append(unneeded, seg)
			bytes -= seg.size()
			continue
		}
		// It must be sealed, and the segment behind must have been durable: then this one cannot become the open one again.
		if seg.file != nil || j.noHoles.Load() || uint64(seg.limit()) >= j.durable.Load() {
			continue
		}
		if c, ok := j.claim(seg, needs); ok {
			claims = append(claims, c)
		} else if len(seg.gaps) > 0 && !seg.carved.Load() {
			claims = append(claims, claim{seg: seg})
		}
	}
	return unneeded, claims
}

// removeIndex returns how many bytes the segment's index file had.
func (j *Journal) removeIndex(seg *segment) int64 {
	j.mu.RLock()
	bytes, mapped := int64(len(seg.index)), seg.mapped
	j.mu.RUnlock()
	if !mapped {
		return 0
	}
	// An index without its segment is removed by the next Open.
	if err := j.fs.Remove(numbered(j.o.Dir, seg.number, indexExt)); err != nil {
		j.log.Warn("remove the index of a segment", "file", seg.path, "err", err)
	}
	return bytes
}

// removeIDs removes the segment's id index. One that is being written finds its segment gone.
func (j *Journal) removeIDs(seg *segment) {
	j.mu.RLock()
	file := seg.ids.file
	j.mu.RUnlock()
	if file == nil {
		return
	}
	if err := j.fs.Remove(numbered(j.o.Dir, seg.number, idsExt)); err != nil {
		j.log.Warn("remove the id index of a segment", "file", seg.path, "err", err)
	}
}

// needed tells whether the segment holds a record that needs name: in a stream of its own, as bytes
// that were committed elsewhere, or undecided.
func (s *segment) needed(needs store.Needs) bool {
	for _, h := range s.holds {
		floor, ok := needs.Floors[h.stream.name]
		if ok && h.newest >= floor {
			return true
		}
	}
	for st, newest := range s.late {
		floor, ok := needs.Floors[st.name]
		if ok && newest >= floor {
			return true
		}
	}
	return slices.ContainsFunc(needs.Open, func(pos kite.Position) bool {
		return pos >= s.base && pos < s.limit()
	})
}

// forget takes the segments out of the lists and gives the journal's references back.
func (j *Journal) forget(gone []*segment) {
	hurt := map[*stream]bool{}
	j.mu.Lock()
	j.segments = slices.DeleteFunc(j.segments, func(s *segment) bool { return slices.Contains(gone, s) })
	for _, seg := range gone {
		for _, h := range seg.holds {
			h.stream.forget(seg)
			hurt[h.stream] = true
		}
		for st := range seg.late {
			hurt[st] = true
		}
	}
	j.mu.Unlock()
	for at := range j.late {
		if slices.Contains(gone, at.seg) {
			delete(j.late, at)
		}
	}
	for st := range hurt {
		j.raise(st)
		if j.streams[st.name] == st && st.passed() { // it may have begun anew, and what is hurt be the old one
			j.mu.Lock()
			delete(j.streams, st.name)
			j.mu.Unlock()
		}
	}
	for _, seg := range gone {
		seg.release()
	}
}

// raise moves the stream's first Seq past what cannot be read at its front any more: records in gaps, and
// commits whose bytes were trimmed. What it cannot read for other reasons it leaves to Read, which says so.
func (j *Journal) raise(st *stream) {
	j.mu.RLock()
	first, at := st.bounds()
	j.mu.RUnlock()
	err := j.Read(st.name, first, func(r *kite.Record) bool {
		at = r.Seq
		return false
	})
	if err != nil || at == first {
		return
	}
	j.mu.Lock()
	st.floor = max(st.floor, at)
	j.mu.Unlock()
}
