package mmap

import (
	"cmp"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/kiteq/kiteq/internal/kite"
)

// stream is where the records of one topic, of one group's dead letters, or of one minute's delayed messages
// lie.
//
// The places of a sealed segment's records stay in its index file; memory has one part per segment
// and stream. Of the open segment memory has every place, 4 bytes each.
type stream struct {
	name  string
	topic string // name, or what precedes its '/'; of a minute it means nothing

	// Written by the lane under Journal.mu.
	next  kite.Seq // after the newest; 0 when the stream never had a record
	floor kite.Seq // below it nothing can be read although a record is there: its bytes were trimmed
	parts []part   // by Seq
	first kite.Seq // of open
	open  []uint32 // offsets in the open segment, from first on

	// Of Append: the Seq after those that batch number turn has given so far.
	turn    uint64
	pending kite.Seq
}

// part is the run of a stream's records in one sealed segment.
type part struct {
	seg   *segment
	first kite.Seq
	count uint32
	at    uint32 // the first one's entry in the index
}

// hold says up to which Seq a sealed segment has records of a stream.
type hold struct {
	stream *stream
	newest kite.Seq
}

// maxSeq bounds what a record may claim, so that sums with it do not overflow.
const maxSeq kite.Seq = 1 << 62

func (p part) next() kite.Seq { return p.first + kite.Seq(p.count) }

func newStream(name string) *stream {
	name = strings.Clone(name)
	topic, _, _ := strings.Cut(name, "/")
	return &stream{name: name, topic: topic}
}

// bounds returns the first Seq that can be read and the one after the newest.
func (s *stream) bounds() (first, next kite.Seq) {
	next = max(s.next, 1)
	switch {
	case len(s.parts) > 0:
		first = s.parts[0].first
	case len(s.open) > 0:
		first = s.first
	default:
		first = next
	}
	return min(max(first, s.floor), next), next
}

// places copies into dst the offsets of the records from seq on that lie in one segment. It returns
// that segment, the Seq of the first and how many there are; 0 of them at the stream's end.
func (s *stream) places(seq kite.Seq, open *segment, dst []uint32) (seg *segment, first kite.Seq, n int) {
	i, _ := slices.BinarySearchFunc(s.parts, seq, func(p part, seq kite.Seq) int {
		if p.next() <= seq {
			return -1
		}
		return 1
	})
	if i < len(s.parts) {
		p := s.parts[i]
		first = max(seq, p.first)
		skip := uint32(first - p.first)
		n = min(len(dst), int(p.count-skip))
		entries := p.seg.index[indexHeader+4*int(p.at+skip):]
		for k := range n {
			dst[k] = binary.LittleEndian.Uint32(entries[4*k:])
		}
		return p.seg, first, n
	}
	if len(s.open) == 0 || seq >= s.first+kite.Seq(len(s.open)) {
		return nil, 0, 0
	}
	first = max(seq, s.first)
	return open, first, copy(dst, s.open[first-s.first:])
}

// has tells whether a record that was found by its place is one of the stream.
func (s *stream) has(r *kite.Record, topic []byte) bool {
	if r.Kind == kite.KindDelayed {
		minute, ok := kite.DelayMinute(s.name)
		return ok && minute == kite.Minute(r.DueMs)
	}
	return string(topic) == s.topic
}

// passed tells whether the stream is one of a minute that has no records any more. Nobody needs to know where
// it ended, and there would be 1,440 of them a day.
func (s *stream) passed() bool {
	_, ok := kite.DelayMinute(s.name)
	return ok && len(s.parts) == 0 && len(s.open) == 0
}

// add notes the place of the stream's next record in the open segment.
func (s *stream) add(seg *segment, seq kite.Seq, off int64) {
	if len(s.open) == 0 {
		s.first = seq
		seg.holds = append(seg.holds, hold{stream: s})
	}
	s.open = append(s.open, uint32(off))
	s.next = seq + 1
}

// skip notes that the stream's records before seq are in gaps of the open segment.
func (s *stream) skip(seq kite.Seq) {
	if len(s.open) > 0 {
		s.open = append(s.open, make([]uint32, seq-s.next)...)
	}
}

// part returns the part in which seq lies, which must be in a sealed segment.
func (s *stream) part(seq kite.Seq) part {
	i, _ := slices.BinarySearchFunc(s.parts, seq, func(p part, seq kite.Seq) int {
		if p.next() <= seq {
			return -1
		}
		return 1
	})
	return s.parts[i]
}

// forget removes the part that lies in seg.
func (s *stream) forget(seg *segment) {
	s.parts = slices.DeleteFunc(s.parts, func(p part) bool { return p.seg == seg })
}

// The index of a sealed segment, little endian. The checksum covers all that follows byte 16.
//
//	 0       8         12       16       24     32    40      44        48        52     56       64
//	+-------+---------+--------+--------+------+-----+-------+---------+---------+------+--------+
//	| magic | version | crc32c | number | base | end | epoch | streams | entries | late | newest |
//	+-------+---------+--------+--------+------+-----+-------+---------+---------+------+--------+
//	| entries: offset of each record (4), stream by stream, by Seq                                |
//	| streams: first seq (8), count (4), length of name (4), name                                 |
//	| late:    segment number (8), highest seq (8), stream (4): commits here of bytes lying there |
//	| gaps:    from (4), to (4), sequence of the batch at to (8)                                  |
//	+---------------------------------------------------------------------------------------------+
//
// The entry of a record that lies in a gap is 0. Version 2 has gaps, version 1 has none.
const (
	indexHeader  = 64
	indexMagic   = "KITEQIDX"
	indexVersion = 1
)

// lateCommit is a commit record in one segment of bytes that lie in another.
type lateCommit struct {
	seg    *segment
	stream *stream
}

// buildIndex encodes the open places of the segment and the late commits found in it.
func buildIndex(s *segment, late map[lateCommit]kite.Seq) []byte {
	le := binary.LittleEndian
	entries := 0
	for _, h := range s.holds {
		entries += len(h.stream.open)
	}
	b := make([]byte, indexHeader, indexHeader+4*entries+64*len(s.holds)+20*len(late))
	for _, h := range s.holds {
		for _, off := range h.stream.open {
			b = le.AppendUint32(b, off)
		}
	}
	ordinal := make(map[*stream]uint32, len(s.holds))
	for i, h := range s.holds {
		st := h.stream
		ordinal[st] = uint32(i)
		b = le.AppendUint64(b, uint64(st.first))
		b = le.AppendUint32(b, uint32(len(st.open)))
		b = le.AppendUint32(b, uint32(len(st.name)))
		b = append(b, st.name...)
	}
	for at, seq := range late {
		b = le.AppendUint64(b, at.seg.number)
		b = le.AppendUint64(b, uint64(seq))
		b = le.AppendUint32(b, ordinal[at.stream])
	}
	b = appendGaps(b, s.gaps)
	copy(b, indexMagic)
	le.PutUint64(b[16:], s.number)
	le.PutUint64(b[24:], uint64(s.base))
	le.PutUint64(b[32:], uint64(s.end))
	le.PutUint32(b[40:], s.epoch)
	le.PutUint32(b[44:], uint32(len(s.holds)))
	le.PutUint32(b[48:], uint32(entries))
	le.PutUint32(b[52:], uint32(len(late)))
	le.PutUint64(b[56:], uint64(s.newestMs))
	sealIndex(b, len(s.gaps))
	return b
}

// sealIndex fills in version and checksum.
func sealIndex(b []byte, gaps int) {
	version := uint32(indexVersion)
	if gaps > 0 {
		version = gappedVersion
	}
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[16:], castagnoli))
}

// indexTable is a checked index.
type indexTable struct {
	end      int64
	newestMs int64
	entries  int
	streams  []indexStream
	late     []indexLate
	gaps     []gap
}

type indexStream struct {
	name  []byte
	first kite.Seq
	count uint32
	at    uint32
}

type indexLate struct {
	segment uint64
	seq     kite.Seq
	stream  int
}

var errIndex = errors.New("no index of this segment")

// readIndex checks b as the index of s and decodes its tables. It trusts no length in it.
func readIndex(b []byte, s *segment) (t indexTable, err error) {
	le := binary.LittleEndian
	if len(b) < indexHeader || string(b[:8]) != indexMagic || le.Uint32(b[8:]) < indexVersion ||
		le.Uint32(b[8:]) > gappedVersion || le.Uint64(b[16:]) != s.number || le.Uint64(b[24:]) != uint64(s.base) || le.Uint32(b[40:]) != s.epoch {
		return t, errIndex
	}
	if crc32.Checksum(b[16:], castagnoli) != le.Uint32(b[12:]) {
		return t, errChecksum
	}
	t.end, t.newestMs = int64(le.Uint64(b[32:])), int64(le.Uint64(b[56:]))
	streams, entries, late := int(le.Uint32(b[44:])), int(le.Uint32(b[48:])), int(le.Uint32(b[52:]))
	t.entries = entries
	if t.end < segmentHeader || t.end > int64(len(s.data)) || entries > (len(b)-indexHeader)/4 {
		return t, errIndex
	}
	rest, at := b[indexHeader+4*entries:], uint32(0)
	for range streams {
		if len(rest) < 16 {
			return t, errIndex
		}
		e := indexStream{first: kite.Seq(le.Uint64(rest)), count: le.Uint32(rest[8:]), at: at}
		n := uint64(le.Uint32(rest[12:]))
		if rest = rest[16:]; n > uint64(len(rest)) || e.count == 0 || e.first > maxSeq ||
			uint64(e.at)+uint64(e.count) > uint64(entries) {
			return t, errIndex
		}
		e.name, rest = rest[:n], rest[n:]
		at += e.count
		t.streams = append(t.streams, e)
	}
	if len(rest) < 20*late {
		return t, errIndex
	}
	if t.gaps, err = readGaps(rest[20*late:], t.end); err != nil || (len(t.gaps) > 0) != (le.Uint32(b[8:]) == gappedVersion) {
		return t, errIndex
	}
	for rest = rest[:20*late]; len(rest) > 0; rest = rest[20:] {
		l := indexLate{segment: le.Uint64(rest), seq: kite.Seq(le.Uint64(rest[8:])), stream: int(le.Uint32(rest[16:]))}
		if l.stream >= streams {
			return t, errIndex
		}
		t.late = append(t.late, l)
	}
	return t, nil
}

// compareBase orders segments by where they lie.
func compareBase(s *segment, pos kite.Position) int { return cmp.Compare(s.base, pos) }
