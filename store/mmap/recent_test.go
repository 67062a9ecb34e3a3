package mmap

import (
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestRecent holds all that it has not forgotten, and little else, in bounded memory.
func TestRecent(t *testing.T) {
	t.Parallel()
	r := newRecent()
	if r.holds(numberedID(1)) {
		t.Error("something is in nothing")
	}
	// One of 64 ids is added: the levels are those of all, and the test is not as long.
	const n, step = 60_000_000, 64 // more than recentBytes have room for
	forgotten := kite.Position(0)
	for i := 0; i < n; i += step {
		if up := r.add(numberedID(i), kite.Position(i+1)); up > 0 {
			forgotten = up
		}
		newest := r.levels[len(r.levels)-1]
		newest.room = max(0, newest.room-step+1)
	}
	if forgotten == 0 || forgotten > n/2 || r.bytes > recentBytes || len(r.levels) > 5 {
		t.Errorf("forgotten up to %d, %d bytes in %d levels", forgotten, r.bytes, len(r.levels))
	}
	for i := 0; i < n; i += step {
		if id := numberedID(i); kite.Position(i+1) > forgotten && !r.holds(id) {
			t.Fatalf("id %d is not held; forgotten up to %d", i, forgotten)
		}
	}
	full := newRecent()
	for i := range 3_000_000 {
		full.add(numberedID(i), kite.Position(i+1))
	}
	passed := 0
	for i := range 100_000 {
		if full.holds(numberedID(10_000_000 + i)) {
			passed++
		}
	}
	if passed > 4_000 {
		t.Errorf("%d of 100000 ids are held that were never added", passed)
	}
}

// TestRecentForgets finds ids whose level of the filter has gone, and all others.
func TestRecentForgets(t *testing.T) {
	t.Parallel()
	j := mustOpen(t, options(newFS(nil)))
	find := func(seq int) bool {
		found := false
		if err := j.Find(message("a", seq, 0).ID, 0, func(*kite.Record) bool { found = true; return true }); err != nil {
			t.Fatal(err)
		}
		return found
	}
	seq := 1
	for ; len(j.segments) < 6; seq++ {
		mustAppend(t, j, message("a", seq, 500))
	}
	if !j.segments[0].fresh || !j.segments[5].fresh {
		t.Error("the filter does not answer for new segments")
	}
	j.mu.Lock()
	j.recent.levels[0].filter = make([]byte, recentFirst) // its ids are gone with it
	j.forgetRecent(j.segments[2].position(segmentHeader))
	j.mu.Unlock()
	lost := 0
	for n := 1; n < seq; n++ {
		if !find(n) {
			lost++
		}
	}
	first, _ := j.Bounds("a")
	inNewer := 0
	for _, seg := range j.segments[3:] {
		inNewer += seg.ids.count()
	}
	if lost != inNewer || first != 1 {
		t.Errorf("%d ids are lost with the filter, want the %d of the segments that it answers for", lost, inNewer)
	}
	mustAppend(t, j, message("a", seq, 500))
	if !find(seq) || find(seq+1) {
		t.Error("a new id")
	}
}

// count is how many entries there are.
func (s *ids) count() int {
	if s.file != nil {
		return s.file.count
	}
	return s.table.count
}
