package sequence

import (
	"math"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestFresh forgets a turn's ids with it, also when the turns' numbers begin again, and takes any number.
func TestFresh(t *testing.T) {
	t.Parallel()
	var f fresh
	f.init()
	f.set(id(7), kite.OutcomeCommitted)
	f.reset()
	f.turn = math.MaxUint32 - 2 // id 7 was entered in turn 1, which comes again
	for turn, ids := range []int{1, 5 * freshRoom, 3, 1, 100} {
		for n := range ids {
			if _, ok := f.find(id(n)); ok {
				t.Fatalf("turn %d knows id %d of an earlier one", turn, n)
			}
			f.set(id(n), kite.OutcomeUnknown)
			f.set(id(n), kite.Outcome(n%4))
		}
		for n := range ids {
			if outcome, ok := f.find(id(n)); !ok || outcome != kite.Outcome(n%4) {
				t.Fatalf("turn %d: id %d is %v, %v", turn, n, outcome, ok)
			}
		}
		if _, ok := f.find(id(ids)); ok || f.count != ids {
			t.Fatalf("turn %d counts %d ids, want %d", turn, f.count, ids)
		}
		f.reset()
	}
}
