package mmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/kiteq/kiteq/internal/kite"
)

// A record, little endian. The checksum covers all that follows it, so one record can be checked
// without its batch.
//
//	 0        4        8    9    10   11   12   13   14   15   16
//	+--------+--------+----+----+----+----+----+----+----+----+
//	| length | crc32c |kind|vers|cmd |lim |topL|typL|grpL|flag|
//	+--------+--------+----+----+----+----+----+----+----+----+
//	| message id (16)                                         | 16
//	+------------------+------------------+-------------------+
//	| seq (8)          | time ms (8)      | expires ms (8)    | 32
//	+------------------+------------------+-------------------+
//	| ref (8)          | due ms (8), only with flagDue        | 56
//	+------------------+--------------------------------------+
//	| topic, type, group, body (the rest)                     | 64 or 72
//	+---------------------------------------------------------+
//
// A flag that is not known is of a newer broker: what follows the header could not be found.
const (
	recordHeader  = 64
	recordVersion = 1
	flagDue       = 1 // DueMs is there
	dueSize       = 8
)

// castagnoli is never written after this.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errShort    = errors.New("a record is cut short")
	errChecksum = errors.New("the checksum does not match")
)

func recordSize(r *kite.Record) int64 {
	size := recordHeader + int64(len(r.Topic)) + int64(len(r.Type)) + int64(len(r.Group)) + int64(len(r.Body))
	if r.DueMs != 0 {
		size += dueSize
	}
	return size
}

// checkRecord returns an error of code Invalid for what the layout cannot hold.
func checkRecord(r *kite.Record) error {
	switch {
	case r.Kind == 0:
		return kite.Errorf(kite.Invalid, "record without a kind")
	case r.Kind == kite.KindDelayed && r.DueMs <= 0:
		return kite.Errorf(kite.Invalid, "delayed record due at %d", r.DueMs)
	case len(r.Topic) > kite.MaxName:
		return kite.Errorf(kite.Invalid, "record with a topic of %d bytes, at most %d are allowed", len(r.Topic), kite.MaxName)
	case len(r.Type) > kite.MaxName:
		return kite.Errorf(kite.Invalid, "record with a message type of %d bytes, at most %d are allowed", len(r.Type), kite.MaxName)
	case len(r.Group) > kite.MaxName:
		return kite.Errorf(kite.Invalid, "record with a group of %d bytes, at most %d are allowed", len(r.Group), kite.MaxName)
	}
	return nil
}

// appendRecord appends the layout of r, which checkRecord has passed.
func appendRecord(dst []byte, r *kite.Record) []byte {
	at := len(dst)
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, uint32(recordSize(r)))
	dst = le.AppendUint32(dst, 0)
	dst = append(dst, byte(r.Kind), recordVersion, r.Command, r.Limit,
		byte(len(r.Topic)), byte(len(r.Type)), byte(len(r.Group)), flags(r))
	dst = append(dst, r.ID[:]...)
	dst = le.AppendUint64(dst, uint64(r.Seq))
	dst = le.AppendUint64(dst, uint64(r.TimeMs))
	dst = le.AppendUint64(dst, uint64(r.ExpiresMs))
	dst = le.AppendUint64(dst, uint64(r.Ref))
	if r.DueMs != 0 {
		dst = le.AppendUint64(dst, uint64(r.DueMs))
	}
	dst = append(dst, r.Topic...)
	dst = append(dst, r.Type...)
	dst = append(dst, r.Group...)
	dst = append(dst, r.Body...)
	le.PutUint32(dst[at+4:], crc32.Checksum(dst[at+8:], castagnoli))
	return dst
}

func flags(r *kite.Record) byte {
	if r.DueMs != 0 {
		return flagDue
	}
	return 0
}

// decodeRecord reads the record at the start of b into r, all but Topic and Position, and returns
// its topic and its length. Type, Group, Body and the topic are views of b.
func decodeRecord(b []byte, r *kite.Record) (topic []byte, length int, err error) {
	if len(b) < recordHeader {
		return nil, 0, errShort
	}
	le := binary.LittleEndian
	size := uint64(le.Uint32(b))
	names := uint64(recordHeader)
	if b[15]&flagDue != 0 {
		names += dueSize
	}
	topicEnd := names + uint64(b[12])
	typeEnd := topicEnd + uint64(b[13])
	groupEnd := typeEnd + uint64(b[14])
	if size < groupEnd || size > uint64(len(b)) {
		return nil, 0, errShort
	}
	b = b[:size:size]
	if crc32.Checksum(b[8:], castagnoli) != le.Uint32(b[4:]) {
		return nil, 0, errChecksum
	}
	if b[9] != recordVersion || b[8] == 0 {
		return nil, 0, fmt.Errorf("a record of kind %d and version %d, this broker reads version %d", b[8], b[9], recordVersion)
	}
	if b[15]&^flagDue != 0 {
		return nil, 0, fmt.Errorf("a record of kind %d with flags %#x, this broker knows %#x: a newer one wrote it", b[8], b[15], flagDue)
	}
	r.Kind, r.Command, r.Limit = kite.Kind(b[8]), b[10], b[11]
	r.ID = kite.MessageID(b[16:32])
	r.Seq = kite.Seq(le.Uint64(b[32:]))
	r.TimeMs = int64(le.Uint64(b[40:]))
	r.ExpiresMs = int64(le.Uint64(b[48:]))
	r.Ref = kite.Position(le.Uint64(b[56:]))
	if r.DueMs = 0; names > recordHeader {
		r.DueMs = int64(le.Uint64(b[recordHeader:]))
	}
	// The capacities end with the fields: appending to a view must not write to the mapping.
	r.Type = b[topicEnd:typeEnd:typeEnd]
	r.Group = b[typeEnd:groupEnd:groupEnd]
	r.Body = b[groupEnd:]
	return b[names:topicEnd:topicEnd], int(size), nil
}
