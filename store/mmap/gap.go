package mmap

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
)

// punchBlock is the unit in which a file system gives space of a file back, bytes.
const punchBlock = 4 << 10

// gap is where batches of a sealed segment were that nobody needs any more. What lies in it is passed
// over by every reader, whether the disk still has the bytes or not.
type gap struct {
	from, to int64  // offsets of batches, or the segment's end
	next     uint64 // sequence of the batch at to
}

// blocks returns what of the gap can be punched: whole blocks behind its header.
func (g gap) blocks() (off, size int64) {
	off = (g.from + batchHeader + punchBlock - 1) &^ (punchBlock - 1)
	return off, max(0, g.to&^(punchBlock-1)-off)
}

// header is what lies at the gap's beginning when it is done.
func (g gap) header(s *segment) []byte {
	b := make([]byte, batchHeader)
	// All of a sealed segment was durable, so what the gap says of that helps to tell damage from a torn tail.
	sealGap(b, batch{length: g.to - g.from, position: s.position(g.from), sequence: g.next, durable: s.limit()}, s.epoch)
	return b
}

// gapAt returns the gap in which the offset lies.
func gapAt(gaps []gap, off int64) (gap, bool) {
	i, _ := slices.BinarySearchFunc(gaps, off, func(g gap, off int64) int {
		if g.to <= off {
			return -1
		}
		return 1
	})
	if i < len(gaps) && gaps[i].from <= off {
		return gaps[i], true
	}
	return gap{}, false
}

// gapped tells whether the position lies in a gap. It is asked under Journal.mu or with a reference to
// the segment: gaps come only when nobody has one.
func (s *segment) gapped(pos kite.Position) bool {
	_, in := gapAt(s.gaps, int64(pos-s.base))
	return in
}

// spanned returns how many records the gaps have room for.
func (s *segment) spanned() (records kite.Seq) {
	for _, g := range s.gaps {
		records += kite.Seq(g.to-g.from) / recordHeader
	}
	return records
}

// size is what the segment takes on the disk, bytes.
func (s *segment) size() int64 { return s.end - s.freed.Load() }

// gapEntry is the size of a gap in the index.
const gapEntry = 16

func appendGaps(b []byte, gaps []gap) []byte {
	le := binary.LittleEndian
	for _, g := range gaps {
		b = le.AppendUint32(b, uint32(g.from))
		b = le.AppendUint32(b, uint32(g.to))
		b = le.AppendUint64(b, g.next)
	}
	return b
}

// readGaps decodes the gaps at the end of an index of a segment that ends at end.
func readGaps(b []byte, end int64) (gaps []gap, err error) {
	le := binary.LittleEndian
	if len(b)%gapEntry != 0 {
		return nil, errIndex
	}
	last := int64(segmentHeader)
	for ; len(b) > 0; b = b[gapEntry:] {
		g := gap{from: int64(le.Uint32(b)), to: int64(le.Uint32(b[4:])), next: le.Uint64(b[8:])}
		if g.from < last || g.to < g.from+batchHeader || g.to > end || g.from%batchAlign != 0 || g.to%batchAlign != 0 {
			return nil, errIndex
		}
		gaps, last = append(gaps, g), g.to
	}
	return gaps, nil
}

// withGaps returns the segment's index with the gaps in place of those it has: the entries of records
// that lie in them become 0.
func (s *segment) withGaps(gaps []gap) ([]byte, error) {
	t, err := readIndex(s.index, s)
	if err != nil {
		return nil, err
	}
	b := slices.Clone(s.index[:len(s.index)-gapEntry*len(t.gaps)])
	for at := indexHeader; at < indexHeader+4*t.entries; at += 4 {
		if _, in := gapAt(gaps, int64(binary.LittleEndian.Uint32(b[at:]))); in {
			clear(b[at : at+4])
		}
	}
	b = appendGaps(b, gaps)
	sealIndex(b, len(gaps))
	return b, nil
}

var errUncovered = errors.New("what was removed here is not in the checkpoint")
