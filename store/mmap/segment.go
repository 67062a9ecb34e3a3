package mmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// The header of a segment file, little endian; batches follow it.
//
//	 0        8        12      16       24      32      36   40        48         56   60      64
//	+--------+---------+------+--------+-------+-------+----+---------+----------+----+--------+
//	| magic  | version | 0    | number | base  | epoch | 0  | created | sequence | 0  | crc32c |
//	+--------+---------+------+--------+-------+-------+----+---------+----------+----+--------+
//
// base is the position of the file's byte 0: where the segment before ended. created is in Unix ms.
// sequence is that of the first batch. The checksum covers all that precedes it.
const (
	segmentHeader  = 64
	segmentMagic   = "KITEQSEG"
	segmentVersion = 1
	gappedVersion  = 2 // of a segment with gaps, and of its index
)

// segment is one file of the journal and its mapping.
//
// The journal holds one reference while the segment is in its list, every run of a reader another;
// they are taken under Journal.mu, where being in the list means being mapped. Whoever gives the
// last one back unmaps, so views stay good until their visitor has returned.
type segment struct {
	number   uint64
	base     kite.Position
	epoch    uint32
	solid    bool   // everything before base was durable when the file was created
	sequence uint64 // of the first batch
	path     string
	fs       FS
	data     []byte // the mapping: all of the file, as large as it was when mapped
	refs     atomic.Int32

	file File // until it is sealed

	// Written under Journal.mu.
	end      int64 // where the next batch goes, or the last one ended; 0 without a header
	newestMs int64 // the newest TimeMs of its records
	index    []byte
	mapped   bool                 // index is a mapping, not memory
	holds    []hold               // newest is set when it is sealed
	late     map[*stream]kite.Seq // the highest Seq whose bytes lie here and whose commit lies later
	ids      ids
	fresh    bool  // all its ids are in Journal.recent
	gaps     []gap // in order; they change only when the journal has the only reference

	freed   atomic.Int64 // bytes that were punched
	carved  atomic.Bool  // the file is what gaps say
	weighed atomic.Int64 // how much was claimed when the segment was last looked through, 0 for never
}

func (s *segment) position(off int64) kite.Position { return s.base + kite.Position(off) }
func (s *segment) limit() kite.Position             { return s.position(s.end) }

func (s *segment) corrupt(off int64, err error) error {
	return &store.CorruptionError{File: s.path, Offset: off, Err: err}
}

// record reads the record at off into r, all but its Topic, which it returns as a view.
func (s *segment) record(off int64, r *kite.Record) (topic []byte, err error) {
	if off < segmentHeader || off >= int64(len(s.data)) {
		return nil, s.corrupt(off, errShort)
	}
	topic, _, err = decodeRecord(s.data[off:], r)
	if err != nil {
		return nil, s.corrupt(off, err)
	}
	r.Position = s.position(off)
	return topic, nil
}

func (s *segment) acquire() { s.refs.Add(1) }

func (s *segment) release() {
	if s.refs.Add(-1) > 0 {
		return
	}
	// An error here means that the mapping was none of ours: nothing could be done about it.
	_ = s.fs.Unmap(s.data)
	s.dropIndex()
}

func (s *segment) dropIndex() {
	if s.mapped {
		_ = s.fs.Unmap(s.index)
	}
	s.index, s.mapped = nil, false
	if s.ids.file != nil {
		_ = s.fs.Unmap(s.ids.file.data)
	}
	s.ids = ids{}
}

// scan visits the whole batches from off on, the first having the sequence, and returns where they
// end, the sequence expected there and why it is no batch: errEnd, or what is wrong with it. Gaps are
// stepped over and noted; one that is known already need not have its header.
func (s *segment) scan(off int64, sequence uint64, visit func(off int64, h batch) error) (end int64, next uint64, stop, err error) {
	for {
		h, stop := readBatch(s.data[off:], s.epoch, s.position(off))
		if g, known := gapAt(s.gaps, off); known && g.from == off && (stop != nil || h.gap) {
			off, sequence = g.to, g.next
			continue
		}
		if stop == nil && h.gap && h.sequence > sequence {
			s.gaps = append(s.gaps, gap{off, off + h.length, h.sequence})
			off, sequence = off+h.length, h.sequence
			continue
		}
		if stop == nil && (h.gap || h.sequence != sequence) {
			stop = fmt.Errorf("batch %d where %d belongs", h.sequence, sequence)
		}
		if stop != nil {
			return off, sequence, stop, nil
		}
		if err := visit(off, h); err != nil {
			var bad *recordError
			if errors.As(err, &bad) {
				err = s.corrupt(off+bad.off, bad.err)
			}
			return off, sequence, nil, err
		}
		off += h.length
		sequence++
	}
}

func (s *segment) putHeader(created time.Time) []byte {
	le := binary.LittleEndian
	b := make([]byte, segmentHeader)
	copy(b, segmentMagic)
	le.PutUint32(b[8:], segmentVersion)
	le.PutUint64(b[16:], s.number)
	le.PutUint64(b[24:], uint64(s.base))
	le.PutUint32(b[32:], s.epoch)
	if s.solid {
		le.PutUint32(b[36:], 1)
	}
	le.PutUint64(b[40:], uint64(kite.UnixMs(created)))
	le.PutUint64(b[48:], s.sequence)
	le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

var errHeadless = errors.New("the file has no header")

// headless tells whether err is for a header that never got to the disk. A header is one sector, found
// whole or not at all: anything else in its place is damage, or somebody else's file. Only a file with
// nothing behind its header may have a bad one.
func (s *segment) headless(err error) bool {
	var bad *store.CorruptionError
	n := min(segmentHeader, len(s.data))
	header, rest := s.data[:n], s.data[n:]
	return errors.As(err, &bad) && (allZero(header) || n == segmentHeader && string(header[:8]) == segmentMagic && allZero(rest))
}

// readHeader fills in s from the mapping.
func (s *segment) readHeader() error {
	le, b := binary.LittleEndian, s.data
	if allZero(b[:min(segmentHeader, len(b))]) {
		return s.corrupt(0, errHeadless)
	}
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic {
		return s.corrupt(0, fmt.Errorf("it begins with %q, not with %s: if KiteQ did not write it, move it away", b[:min(8, len(b))], segmentMagic))
	}
	sound := soundHeader(b)
	if err := checkVersion(s.path, le.Uint32(b[8:]), gappedVersion, sound); err != nil {
		return err
	}
	if !sound {
		return s.corrupt(0, errChecksum)
	}
	if number := le.Uint64(b[16:]); number != s.number {
		return s.corrupt(16, fmt.Errorf("it is segment %d under the name of %d", number, s.number))
	}
	s.base = kite.Position(le.Uint64(b[24:]))
	s.epoch = le.Uint32(b[32:])
	s.solid = le.Uint32(b[36:]) == 1
	s.sequence = le.Uint64(b[48:])
	s.end = segmentHeader
	return nil
}

// soundHeader checks the header's checksum. Raising the version of a segment overwrites its header: one that
// was torn has the version before and the checksum after, or the other way.
func soundHeader(b []byte) bool {
	le := binary.LittleEndian
	h, want := [60]byte(b), le.Uint32(b[60:])
	if crc32.Checksum(h[:], castagnoli) == want {
		return true
	}
	switch le.Uint32(h[8:]) {
	case segmentVersion:
		le.PutUint32(h[8:], gappedVersion)
	case gappedVersion:
		le.PutUint32(h[8:], segmentVersion)
	}
	return crc32.Checksum(h[:], castagnoli) == want
}

// checkVersion refuses what a newer broker wrote. A version in a header whose checksum is
// wrong means nothing, unless that version has another idea of checksums: it is damage then.
func checkVersion(path string, version, known uint32, sound bool) error {
	if version > 0 && version <= known || !sound {
		return nil
	}
	return fmt.Errorf("open %s: it has format version %d, this broker reads version %d; start the broker that wrote it", path, version, known)
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// File names.
const (
	segmentExt    = ".seg"
	indexExt      = ".idx"
	idsExt        = ".ids"
	checkpointExt = ".ckpt"
	cutExt        = ".cut"
	tempExt       = ".tmp"
)

func numbered(dir string, number uint64, ext string) string {
	return filepath.Join(dir, fmt.Sprintf("%08d%s", number, ext))
}

// parseName splits 00000012.seg; ok is false for names that numbered does not make.
func parseName(name string) (number uint64, ext string, ok bool) {
	ext = filepath.Ext(name)
	digits := strings.TrimSuffix(name, ext)
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, ext, err == nil && number > 0 && fmt.Sprintf("%08d", number) == digits
}
