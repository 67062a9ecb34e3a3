package txn

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestList pages through the undecided, the oldest first, whatever is decided between two pages.
func TestList(t *testing.T) {
	t.Parallel()
	run(t, Options{First: time.Hour}, func(t *testing.T, r *rig) {
		const n = 2*listChunk + 100
		for i := range n {
			r.tell(item(kite.KindPrepared, i))
			if i%7 == 0 {
				pass(time.Millisecond)
			}
		}
		r.tell(item(kite.KindPark, 3), item(kite.KindPark, n-1))
		all := func(*Entry) bool { return true }
		var listed []Place
		for after, more := (Place{}), true; more; {
			var page []Entry
			page, more = r.List(after, 500, all)
			for _, e := range page {
				listed = append(listed, Place{e.PreparedMs, e.ID})
			}
			after = listed[len(listed)-1]
		}
		if len(listed) != n || !slices.IsSortedFunc(listed, Place.Compare) {
			t.Fatalf("%d listed of %d, sorted %v", len(listed), n, slices.IsSortedFunc(listed, Place.Compare))
		}
		parked, more := r.List(Place{}, 2, func(e *Entry) bool { return e.Parked })
		if more || len(parked) != 2 || parked[0].ID != id(3) || parked[1].ID != id(n-1) || parked[0].Topic != "trade" || parked[0].Group != "p-trade" {
			t.Errorf("parked: %+v, more %v", parked, more)
		}
		r.tell(item(kite.KindRollback, 3))
		if parked, _ := r.List(Place{}, 2, func(e *Entry) bool { return e.Parked }); len(parked) != 1 {
			t.Errorf("%d parked after one was decided", len(parked))
		}
	})
}

// TestCheckNow asks before the time has come, and only about what is asked about.
func TestCheckNow(t *testing.T) {
	t.Parallel()
	run(t, Options{First: time.Hour}, func(t *testing.T, r *rig) {
		r.tell(item(kite.KindPrepared, 1), item(kite.KindPrepared, 2))
		r.tell(item(kite.KindPark, 2))
		if !r.CheckNow(id(1)) || r.CheckNow(id(2)) || r.CheckNow(id(3)) {
			t.Error("want true for the open one only")
		}
		synctest.Wait()
		if at := r.times(1); len(at) != 1 || at[0] != 0 {
			t.Errorf("asked at %v, want at once", at)
		}
	})
}

// TestRecall remembers the checks of the newest decided transactions, and nothing of those without.
func TestRecall(t *testing.T) {
	t.Parallel()
	run(t, Options{First: time.Second}, func(t *testing.T, r *rig) {
		r.tell(item(kite.KindPrepared, 0), item(kite.KindCommit, 0))
		for i := range maxDecided + 1 {
			r.tell(item(kite.KindPrepared, i+1))
		}
		pass(2 * time.Second)
		for i := range maxDecided + 1 {
			r.tell(item(kite.KindRollback, i+1))
		}
		for n, want := range map[int]bool{0: false, 1: false, 2: true, maxDecided + 1: true} {
			if s, ok := r.Recall(id(n)); ok != want || ok && s.Checks != 1 {
				t.Errorf("%d: %+v, %v, want %v", n, s, ok, want)
			}
		}
		if len(r.decided.sights) != maxDecided {
			t.Errorf("%d are remembered", len(r.decided.sights))
		}
	})
}
