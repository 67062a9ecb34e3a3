package mmap

import "github.com/kiteq/kiteq/internal/kite"

// recent is one filter over the ids of all segments that were begun since Open. Most ids that are looked for
// are new, and it says so at a cost that does not grow with the segments: one cache line a level, and there
// are five levels at most. Without it each segment's own filter would be asked.
//
// Levels are Bloom filters in blocks, as the segments' own. Each is four times as large as the one before, up to
// recentLevel; over recentBytes the oldest goes, and the segments with ids in it are asked for themselves
// again. The lane adds under Journal.mu.
type recent struct {
	key    idKey
	levels []*recentIDs // oldest first
	bytes  int
}

// recentIDs is one level.
type recentIDs struct {
	filter []byte
	room   int           // ids that still fit
	until  kite.Position // the newest record in it
}

const (
	recentFirst = 2 << 20 // 1.5 million ids
	recentLevel = 16 << 20
	recentBytes = 64 << 20
)

func newRecent() recent { return recent{key: newIDKey()} }

// add enters the id of the record at pos. It returns the position up to which ids were forgotten, 0 for none.
func (r *recent) add(id kite.MessageID, pos kite.Position) (forgotten kite.Position) {
	n := len(r.levels)
	if n == 0 || r.levels[n-1].room == 0 {
		forgotten = r.widen()
		n = len(r.levels)
	}
	level := r.levels[n-1]
	level.room--
	level.until = pos
	filterAdd(level.filter, r.key.hash(id))
	return forgotten
}

func (r *recent) widen() (forgotten kite.Position) {
	size := recentFirst
	if n := len(r.levels); n > 0 {
		size = min(4*len(r.levels[n-1].filter), recentLevel)
	}
	for r.bytes+size > recentBytes {
		oldest := r.levels[0]
		forgotten = oldest.until
		r.bytes -= len(oldest.filter)
		r.levels = append(r.levels[:0:0], r.levels[1:]...)
	}
	r.levels = append(r.levels, &recentIDs{filter: make([]byte, size), room: size / filterBlock * idsPerBlock})
	r.bytes += size
	return forgotten
}

// holds tells whether the id may have been added.
func (r *recent) holds(id kite.MessageID) bool {
	hash := r.key.hash(id)
	for _, level := range r.levels {
		if filterHolds(level.filter, hash) {
			return true
		}
	}
	return false
}

// forgetRecent has the segments asked for themselves again whose ids the filter has forgotten up to the
// position; 0 is none. The caller holds mu.
func (j *Journal) forgetRecent(forgotten kite.Position) {
	if forgotten == 0 {
		return
	}
	for _, seg := range j.segments {
		if seg.base <= forgotten {
			seg.fresh = false
		}
	}
}
