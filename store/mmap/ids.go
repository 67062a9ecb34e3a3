package mmap

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
)

// The index of message ids has a part per segment. That of the open segment is a table in memory; once the
// segment is sealed the worker sorts it into a file with a filter in front, which is mapped. Either finds
// the offsets of the records with an id by 32 bits of a keyed hash of it, and the records decide: their
// own ids are compared. The key is random, since publishers choose their ids and could else choose them so
// that all fall into one place.
//
// An entry is the hash in the upper half and the offset in the lower. No offset is 0, so 0 is free.

// idKey is the key of a segment's hash.
type idKey [2]uint64

func newIDKey() idKey { return idKey{rand.Uint64(), rand.Uint64()} }

// hash returns 32 bits of a keyed hash, in the manner of wyhash.
func (k idKey) hash(id kite.MessageID) uint32 {
	le := binary.LittleEndian
	high, low := bits.Mul64(le.Uint64(id[:])^k[0], le.Uint64(id[8:])^k[1])
	high, low = bits.Mul64(high^low^k[0], 0x9e3779b97f4a7c15^k[1])
	return uint32((high ^ low) >> 32)
}

func idEntry(hash uint32, off int64) uint64 { return uint64(hash)<<32 | uint64(off) }

// idTable is an open-addressed table. An entry's home is given by the upper bits of its hash, so the
// entries lie in it nearly sorted. The lane adds under Journal.mu.
type idTable struct {
	key   idKey
	slots []uint64
	shift int // of a hash, to its home
	count int
}

const minIDSlots = 1 << 10

// newIDTable returns a table that takes count entries without growing.
func newIDTable(count int) *idTable {
	t := &idTable{key: newIDKey()}
	t.allocate(max(minIDSlots, 1<<bits.Len(uint(count*4/3))))
	return t
}

func (t *idTable) allocate(slots int) {
	t.slots = make([]uint64, slots)
	t.shift = 32 - bits.Len(uint(slots-1))
}

// add enters a record with the id at off.
func (t *idTable) add(id kite.MessageID, off int64) {
	if t.count >= len(t.slots)/4*3 {
		t.grow()
	}
	t.count++
	t.put(idEntry(t.key.hash(id), off))
}

func (t *idTable) put(entry uint64) {
	at := uint32(entry>>32) >> t.shift
	for t.slots[at] != 0 {
		if at++; int(at) == len(t.slots) {
			at = 0
		}
	}
	t.slots[at] = entry
}

func (t *idTable) grow() {
	old := t.slots
	t.allocate(2 * len(old))
	for _, entry := range old {
		if entry != 0 {
			t.put(entry)
		}
	}
}

// find appends the offsets under the hash.
func (t *idTable) find(hash uint32, offsets []uint32) []uint32 {
	for at := hash >> t.shift; t.slots[at] != 0; {
		if uint32(t.slots[at]>>32) == hash {
			offsets = append(offsets, uint32(t.slots[at]))
		}
		if at++; int(at) == len(t.slots) {
			at = 0
		}
	}
	return offsets
}

// sorted returns the entries in order.
func (t *idTable) sorted() []uint64 {
	entries := make([]uint64, 0, t.count)
	for _, entry := range t.slots {
		if entry != 0 {
			entries = append(entries, entry)
		}
	}
	slices.Sort(entries)
	return entries
}
