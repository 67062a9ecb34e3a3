package mmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/kiteq/kiteq/internal/kite"
)

// A batch, little endian: one pwrite, one checksum, found whole or not at all. It starts at a
// multiple of 8 in its file and is padded with zeros to one.
//
//	 0        4        8        12       16         24         32        40
//	+--------+--------+--------+--------+----------+----------+---------+----------+
//	| length | crc32c | count  | epoch  | position | sequence | durable | records  |
//	+--------+--------+--------+--------+----------+----------+---------+----------+
//
// length counts everything, the padding too; the checksum covers all that follows it. epoch is the
// random number of the segment's header: bytes of another life of the file, or bytes that a
// publisher made up, cannot pass for a batch. sequence counts batches from 1. A batch of no records
// is a mark: Close leaves one.
//
// durable is the position up to which Sync had returned when the batch was written. It settles the
// one question of recovery that the bytes alone cannot: a broken batch with whole ones behind it is
// damage if one of those says it had been durable, and else the order in which a dying machine
// happened to write its pages.
//
// A gap stands where batches were that Trim has removed. It has the header of a batch with gapCount
// in place of the count, the sequence of the batch that follows it, and a checksum over the header
// only: what it spans is given back to the disk. length leads to the batch behind it.
const batchHeader = 40

const gapCount = 1<<32 - 1

const batchAlign = 8

type batch struct {
	length   int64
	count    int
	position kite.Position
	sequence uint64
	durable  kite.Position
	gap      bool // sequence is then that of the batch behind it
}

var (
	errEnd   = errors.New("the journal ends here")
	errBatch = errors.New("no batch of this segment")
)

func padded(n int64) int64 { return (n + batchAlign - 1) &^ (batchAlign - 1) }

// sealBatch fills in the header of a batch whose records already follow it in b.
func sealBatch(b []byte, h batch, epoch uint32) {
	le := binary.LittleEndian
	le.PutUint32(b, uint32(len(b)))
	le.PutUint32(b[8:], uint32(h.count))
	le.PutUint32(b[12:], epoch)
	le.PutUint64(b[16:], uint64(h.position))
	le.PutUint64(b[24:], h.sequence)
	le.PutUint64(b[32:], uint64(h.durable))
	le.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
}

// readBatch checks the batch at the start of b, which runs to the end of the file. It returns
// errEnd when nothing was ever written there.
func readBatch(b []byte, epoch uint32, position kite.Position) (h batch, err error) {
	if len(b) < batchHeader {
		return h, errEnd
	}
	le := binary.LittleEndian
	if le.Uint64(b) == 0 && le.Uint64(b[8:]) == 0 && le.Uint64(b[16:]) == 0 {
		return h, errEnd
	}
	if le.Uint32(b[12:]) != epoch || kite.Position(le.Uint64(b[16:])) != position {
		return h, errBatch
	}
	h = batch{
		length:   int64(le.Uint32(b)),
		count:    int(le.Uint32(b[8:])),
		position: position,
		sequence: le.Uint64(b[24:]),
		durable:  kite.Position(le.Uint64(b[32:])),
	}
	if h.length < batchHeader || h.length%batchAlign != 0 || h.length > int64(len(b)) {
		return h, fmt.Errorf("a batch of %d bytes where %d are left", h.length, len(b))
	}
	if le.Uint32(b[8:]) == gapCount && gapChecksum(b) == le.Uint32(b[4:]) {
		h.gap, h.count = true, 0
		return h, nil
	}
	if crc32.Checksum(b[8:h.length], castagnoli) != le.Uint32(b[4:]) {
		return h, errChecksum
	}
	return h, nil
}

// sealGap fills in the header of a gap.
func sealGap(b []byte, h batch, epoch uint32) {
	le := binary.LittleEndian
	le.PutUint32(b, uint32(h.length))
	le.PutUint32(b[8:], gapCount)
	le.PutUint32(b[12:], epoch)
	le.PutUint64(b[16:], uint64(h.position))
	le.PutUint64(b[24:], h.sequence)
	le.PutUint64(b[32:], uint64(h.durable))
	le.PutUint32(b[4:], gapChecksum(b))
}

// gapChecksum covers the length, too: in a batch the checksum does so by what it spans.
func gapChecksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[8:batchHeader], castagnoli), castagnoli, b[:4])
}

// records visits the records of a checked batch with their offset in b. The visited record lacks
// Topic and Position.
func (h batch) records(b []byte, r *kite.Record, visit func(off int64, topic []byte) error) error {
	off := int64(batchHeader)
	for range h.count {
		topic, n, err := decodeRecord(b[off:h.length], r)
		if err != nil {
			return &recordError{off, err}
		}
		if err := visit(off, topic); err != nil {
			return err
		}
		off += int64(n)
	}
	if padded(off) != h.length {
		return &recordError{off, fmt.Errorf("%d bytes after the last of %d records", h.length-off, h.count)}
	}
	return nil
}

// recordError says where in a batch a record is wrong.
type recordError struct {
	off int64
	err error
}

func (e *recordError) Error() string { return e.err.Error() }
func (e *recordError) Unwrap() error { return e.err }
