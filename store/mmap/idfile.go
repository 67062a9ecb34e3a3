package mmap

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/bits"
	"sync/atomic"
)

// The id index of a sealed segment, little endian.
//
//	 0       8         12     16       24     32      36      40     48     56       60       64
//	+-------+---------+------+--------+------+-------+-------+------+------+--------+--------+
//	| magic | version | body | number | end  | epoch | count | key0 | key1 | blocks | crc32c |
//	+-------+---------+------+--------+------+-------+-------+------+------+--------+--------+
//	| filter:  blocks of 64 bytes                                                            |
//	| entries: count x 8, ascending: offset in the segment (4), hash (4)                     |
//	+----------------------------------------------------------------------------------------+
//
// end is the position where the segment ends. crc32c covers what precedes it, body is the checksum of
// everything behind the header. An entry's hash is
// its upper half, so its number orders the entries by hash.
//
// The filter is a Bloom filter in blocks, one cache line of which answers for a hash: of an id that is not
// in the segment it says so in all but about one case of a hundred.
const (
	idsHeader    = 64
	idsMagic     = "KITEQIDS"
	idsVersion   = 1
	filterBlock  = 64
	idsPerBlock  = 48 // 10.7 bits an id
	filterProbes = 6
)

var errIDs = errors.New("no id index of this segment")

// filterSpread gives the block of a hash and the bits for its probes, 9 each.
func filterSpread(hash uint32, blocks int) (block int, probes uint64) {
	high, low := bits.Mul64(uint64(hash)*0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	mixed := high ^ low
	block = int((mixed >> 32) * uint64(blocks) >> 32)
	return block, mixed*0xff51afd7ed558ccd ^ mixed>>29
}

func filterAdd(filter []byte, hash uint32) {
	block, probes := filterSpread(hash, len(filter)/filterBlock)
	line := filter[block*filterBlock:][:filterBlock]
	for range filterProbes {
		line[probes&511>>3] |= 1 << (probes & 7)
		probes >>= 9
	}
}

// filterHolds tells whether the hash may have been added.
func filterHolds(filter []byte, hash uint32) bool {
	block, probes := filterSpread(hash, len(filter)/filterBlock)
	line := filter[block*filterBlock:][:filterBlock]
	for range filterProbes {
		if line[probes&511>>3]&(1<<(probes&7)) == 0 {
			return false
		}
		probes >>= 9
	}
	return true
}

// idFile is a checked, mapped id index.
type idFile struct {
	key     idKey
	data    []byte
	filter  []byte
	entries []byte
	count   int
	checked atomic.Bool // the body's checksum was compared; openIDs does not, for it reads all of it
}

// buildIDs encodes the table of a sealed segment.
func buildIDs(s *segment, t *idTable) []byte {
	le := binary.LittleEndian
	blocks := max(1, (t.count+idsPerBlock-1)/idsPerBlock)
	b := make([]byte, idsHeader+blocks*filterBlock, idsHeader+blocks*filterBlock+8*t.count)
	filter := b[idsHeader:len(b):len(b)]
	for _, entry := range t.sorted() {
		filterAdd(filter, uint32(entry>>32))
		b = le.AppendUint64(b, entry)
	}
	copy(b, idsMagic)
	le.PutUint32(b[8:], idsVersion)
	le.PutUint64(b[16:], s.number)
	le.PutUint64(b[24:], uint64(s.limit()))
	le.PutUint32(b[32:], s.epoch)
	le.PutUint32(b[36:], uint32(t.count))
	le.PutUint64(b[40:], t.key[0])
	le.PutUint64(b[48:], t.key[1])
	le.PutUint32(b[56:], uint32(blocks))
	le.PutUint32(b[12:], crc32.Checksum(b[idsHeader:], castagnoli))
	le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// openIDs takes b as the id index of s. It reads the header only; the rest is checked at the first look.
func openIDs(b []byte, s *segment) (*idFile, error) {
	le := binary.LittleEndian
	if len(b) < idsHeader || string(b[:8]) != idsMagic || le.Uint32(b[8:]) != idsVersion ||
		le.Uint64(b[16:]) != s.number || le.Uint64(b[24:]) != uint64(s.limit()) || le.Uint32(b[32:]) != s.epoch {
		return nil, errIDs
	}
	if crc32.Checksum(b[:60], castagnoli) != le.Uint32(b[60:]) {
		return nil, errChecksum
	}
	count, blocks := uint64(le.Uint32(b[36:])), uint64(le.Uint32(b[56:]))
	if blocks == 0 || idsHeader+blocks*filterBlock+8*count != uint64(len(b)) {
		return nil, errIDs
	}
	entries := idsHeader + blocks*filterBlock
	return &idFile{
		key: idKey{le.Uint64(b[40:]), le.Uint64(b[48:])}, data: b,
		filter: b[idsHeader:entries], entries: b[entries:], count: int(count),
	}, nil
}

// check compares the body with its checksum.
func (f *idFile) check() error {
	if f.checked.Load() {
		return nil
	}
	if crc32.Checksum(f.data[idsHeader:], castagnoli) != binary.LittleEndian.Uint32(f.data[12:]) {
		return errChecksum
	}
	f.checked.Store(true)
	return nil
}

// find appends the offsets under the hash. Hashes are spread evenly, so the search begins where the hash
// should lie and mostly ends a few entries on.
func (f *idFile) find(hash uint32, offsets []uint32) []uint32 {
	if !filterHolds(f.filter, hash) {
		return offsets
	}
	first := f.search(uint64(hash) << 32)
	for ; first < f.count && uint32(f.entry(first)>>32) == hash; first++ {
		offsets = append(offsets, uint32(f.entry(first)))
	}
	return offsets
}

func (f *idFile) entry(i int) uint64 { return binary.LittleEndian.Uint64(f.entries[8*i:]) }

// search returns the first entry that is not below least.
func (f *idFile) search(least uint64) int {
	guess := int(least >> 32 * uint64(f.count) >> 32)
	low, high := guess, guess
	for step := 8; low > 0 && f.entry(low-1) >= least; step *= 2 {
		low, high = max(0, low-step), low
	}
	for step := 8; high < f.count && f.entry(high) < least; step *= 2 {
		low, high = high+1, min(f.count, high+step)
	}
	for low < high {
		if middle := int(uint(low+high) / 2); f.entry(middle) < least {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}
