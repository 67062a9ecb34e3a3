package mmap

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// Where does the journal end? At the first place where no batch goes on, says the reading of it, and it
// is right after a crash: what lies behind was written later, and promised later still. After damage it is
// wrong, and believing it would throw away what was promised. The two are told apart by witnesses: whoever
// was written when more than that place had been durable. There are four of them.
//
//	a batch      its durable field
//	a header     solid: everything before this segment
//	an index     it is written when its segment is durable
//	a checkpoint it is written when everything that it stands for is durable
//
// One witness, in this segment or any behind it, and the start is refused. Without any, the journal ends
// there, and what lies behind is set aside. In class synced the place can only be in the last segment; in
// class written several may be unsynced, and a power cut takes of them what it likes.

// walk reads the segments one after the other up to where the journal ends. What it has read is the
// journal's, the others stay behind.
func (r *recovery) walk() error {
	j := r.j
	gap := r.follows()
	for len(r.behind) > 0 && gap == nil {
		seg := r.behind[0]
		j.segments, r.behind = append(j.segments, seg), r.behind[1:]
		if r.indexed(seg) {
			if gap = r.follows(); gap != nil {
				return gap
			}
			if err := r.loadIDs(seg); err != nil {
				return err
			}
			continue
		}
		stop, err := r.read(seg)
		if err != nil {
			return err
		}
		gap = r.follows()
		if len(r.behind) > 0 && gap == nil && (stop == nil || r.behind[0].base == seg.limit()) {
			j.retire(seg)
			r.unsaved = append(r.unsaved, seg)
			r.nameless = append(r.nameless, seg)
			continue
		}
		r.torn = stop
		break
	}
	return r.ends(gap)
}

// follows returns nil when the first segment behind begins at the position where the journal ends up to
// now, or, with segments trimmed between them, before that of the checkpoint.
func (r *recovery) follows() error {
	if len(r.behind) == 0 {
		return nil
	}
	seg, end := r.behind[0], r.j.tail()
	switch {
	case seg.end == 0:
		return seg.corrupt(0, errHeadless)
	case seg.base < end:
		return seg.corrupt(24, fmt.Errorf("it begins at position %d, within the segment before it", seg.base))
	case seg.base == end || r.trimmed(seg) && seg.base <= r.j.covered:
		return nil
	}
	return r.missing(seg.path, fmt.Errorf("what precedes it is missing: it begins at position %d, the journal before ends at %d, the checkpoint at %d",
		seg.base, end, r.j.covered))
}

// trimmed tells whether the segment before this one is not there.
func (r *recovery) trimmed(seg *segment) bool {
	n := len(r.j.segments)
	return n == 0 || r.j.segments[n-1].number+1 != seg.number
}

// indexed takes the index of the segment. The last one of the journal is read: its index may be of an
// earlier sealing.
func (r *recovery) indexed(seg *segment) bool {
	if seg.solid {
		r.durable = max(r.durable, seg.base)
	}
	if len(r.behind) == 0 || r.behind[0].end == 0 || !slices.Contains(r.indexes, seg.number) {
		return false
	}
	next, end := r.behind[0], int64(-1)
	if !r.trimmed(next) {
		end = int64(next.base - seg.base)
	} else if next.base > r.j.covered {
		return false
	}
	err := r.load(seg, end)
	if err != nil {
		r.j.log.Warn("index not usable, it is rebuilt", "file", seg.path, "err", err)
	}
	return err == nil
}

// read reads the segment to its end and returns why the bytes behind are no batch, nil when they are zero.
func (r *recovery) read(seg *segment) (stop, err error) {
	r.durable = max(r.durable, r.proven(seg))
	stop, err = r.scan(seg)
	if errors.Is(stop, errEnd) && allZero(seg.data[seg.end:]) {
		stop = nil
	}
	return stop, err
}

// proven returns the position up to which the segment's header and index say that all was durable.
func (r *recovery) proven(seg *segment) (durable kite.Position) {
	if seg.solid {
		durable = seg.base
	}
	if !slices.Contains(r.indexes, seg.number) {
		return durable
	}
	path := numbered(r.j.o.Dir, seg.number, indexExt)
	b, err := mapFile(r.j.fs, path)
	if err != nil {
		return durable
	}
	defer func() { _ = r.j.fs.Unmap(b) }()
	var t indexTable
	if err := guarded(path, b, func() (err error) { t, err = readIndex(b, seg); return err }); err == nil {
		durable = max(durable, seg.position(t.end))
	}
	return durable
}

// ends lets the journal end where it does up to now, unless a witness is against it. gap is why the
// segments behind are none of it.
func (r *recovery) ends(gap error) error {
	r.lost = gap
	witness := r.witness()
	if witness == "" {
		return nil
	}
	if n := len(r.j.segments); n > 0 && (gap == nil || r.torn != nil) {
		last := r.j.segments[n-1]
		gap = last.corrupt(last.end, cmp.Or(r.torn, errEnd))
	}
	var bad *store.CorruptionError
	if errors.As(gap, &bad) {
		bad.Err = fmt.Errorf("%w; %s", bad.Err, witness)
	}
	return gap
}

// witness says who knows that the journal was durable beyond its end.
func (r *recovery) witness() (said string) {
	end := r.j.tail()
	if r.durable > end && len(r.j.segments)+len(r.behind) > 0 {
		return fmt.Sprintf("the journal was durable up to position %d", r.durable)
	}
	low, high := end, end // where the next segment began: known, unless it has no header and this one no end
	if r.torn != nil {
		last := r.j.segments[len(r.j.segments)-1]
		high = last.position(int64(len(last.data)))
		last.hunt(last.end+batchAlign, last.base, last.base, func(h batch) {
			r.whole = true
			if h.durable > end {
				said = fmt.Sprintf("batch %d behind it says that it was durable", h.sequence)
			}
		})
	}
	for _, seg := range r.behind {
		if seg.end > 0 {
			low, high = seg.base, seg.base
			if r.proven(seg) > end {
				return fmt.Sprintf("%s says that it was durable", filepath.Base(seg.path))
			}
		}
		seg.hunt(segmentHeader, low, high, func(h batch) {
			if h.durable > end {
				said = fmt.Sprintf("batch %d in %s says that it was durable", h.sequence, filepath.Base(seg.path))
			}
		})
		low, high = low+segmentHeader, high+kite.Position(len(seg.data))
	}
	return said
}

// hunt visits the whole batches from off on, wherever they lie. Without a header, the epoch of s is lost
// and the batch's own word counts, but it must place s where it can have begun, between low and high: or
// the body of a message that looks like a batch would be believed.
func (s *segment) hunt(off int64, low, high kite.Position, visit func(h batch)) {
	le := binary.LittleEndian
	for ; off+batchHeader <= int64(len(s.data)); off += batchAlign {
		b, epoch := s.data[off:], s.epoch
		position := kite.Position(le.Uint64(b[16:]))
		if base := position - kite.Position(off); base < low || base > high {
			continue
		}
		if s.end == 0 {
			epoch = le.Uint32(b[12:])
		}
		h, err := readBatch(b, epoch, position)
		if err != nil {
			continue
		}
		visit(h)
		off += h.length - batchAlign
	}
}
