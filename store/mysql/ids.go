package mysql

import (
	"encoding/binary"
	"errors"
	"sync"

	"github.com/kiteq/kiteq/internal/kite"
)

// The lane asks Find about the id of every message that is published. Nearly all are new, and a round trip
// for each would halve the broker: these filters answer for them. Each is a Bloom filter of the ids of
// records that follow each other; full ones never change. They are kept in checkpoints, so that opening
// reads no ids but those of the tail.
const (
	filterBytes  = 512 << 10 // one chunk of a checkpoint
	filterIDs    = filterBytes * 8 / 16
	filterHashes = 8 // at 16 bits an id: 6 of 10,000 look known and are not
	filtersMost  = 64
	filterHeader = 32
)

// filter tells whether an id may be among those that were added.
type filter struct {
	sinceMs, newestMs int64 // the times of its records
	count             int
	bits              []byte
}

func newFilter() *filter { return &filter{bits: make([]byte, filterBytes)} }

// places returns two numbers that give all places of the id. Ids are made by others: who makes up ones that
// collide makes Find slower, not wrong.
func places(id kite.MessageID) (a, b uint64) {
	a = mix(binary.LittleEndian.Uint64(id[:8]) ^ mix(binary.LittleEndian.Uint64(id[8:])))
	return a, mix(a) | 1
}

// mix is the finalizer of splitmix64. It is part of the format.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (f *filter) add(a, b uint64, timeMs int64) {
	for range filterHashes {
		bit := a % (filterBytes * 8)
		f.bits[bit/8] |= 1 << (bit % 8)
		a += b
	}
	if f.count == 0 {
		f.sinceMs = timeMs
	}
	f.sinceMs = min(f.sinceMs, timeMs)
	f.newestMs = max(f.newestMs, timeMs)
	f.count++
}

func (f *filter) holds(a, b uint64) bool {
	for range filterHashes {
		bit := a % (filterBytes * 8)
		if f.bits[bit/8]&(1<<(bit%8)) == 0 {
			return false
		}
		a += b
	}
	return true
}

func (f *filter) encode() []byte {
	b := make([]byte, filterHeader, filterHeader+len(f.bits))
	binary.LittleEndian.PutUint64(b, uint64(f.sinceMs))
	binary.LittleEndian.PutUint64(b[8:], uint64(f.newestMs))
	binary.LittleEndian.PutUint64(b[16:], uint64(f.count))
	return append(b, f.bits...)
}

func decodeFilter(b []byte) (*filter, error) {
	if len(b) != filterHeader+filterBytes {
		return nil, errors.New("a filter of ids has the wrong size")
	}
	return &filter{
		sinceMs: int64(binary.LittleEndian.Uint64(b)), newestMs: int64(binary.LittleEndian.Uint64(b[8:])),
		count: int(binary.LittleEndian.Uint64(b[16:])), bits: append([]byte{}, b[filterHeader:]...),
	}, nil
}

// ids are the filters of a journal, oldest first; the last one is being filled.
type ids struct {
	mu      sync.RWMutex
	filters []*filter
	sinceMs int64 // they know every id from this time on; 0: every id of the journal
}

func (i *ids) add(batch []*kite.Record) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, r := range batch {
		if r.ID == (kite.MessageID{}) {
			continue
		}
		n := len(i.filters)
		if n == 0 || i.filters[n-1].count >= filterIDs {
			i.filters = append(i.filters, newFilter())
			n++
		}
		a, b := places(r.ID)
		i.filters[n-1].add(a, b, r.TimeMs)
	}
	for len(i.filters) > filtersMost {
		i.dropFirst()
	}
}

// dropFirst forgets the oldest filter. What is newer than all of its records is still known.
func (i *ids) dropFirst() {
	i.sinceMs = max(i.sinceMs, i.filters[0].newestMs+1)
	i.filters = i.filters[1:]
}

// forget drops the filters whose ids nobody asks for any more.
func (i *ids) forget(sinceMs int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for len(i.filters) > 1 && i.filters[0].newestMs < sinceMs {
		i.dropFirst()
	}
}

// unknown tells whether surely no record of the id is as young as sinceMs.
func (i *ids) unknown(id kite.MessageID, sinceMs int64) bool {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if sinceMs < i.sinceMs {
		return false
	}
	a, b := places(id)
	for _, f := range i.filters {
		if f.newestMs >= sinceMs && f.holds(a, b) {
			return false
		}
	}
	return true
}

// all returns the filters and since when they know every id, for a checkpoint.
func (i *ids) all() (filters []*filter, sinceMs int64) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.filters, i.sinceMs
}
