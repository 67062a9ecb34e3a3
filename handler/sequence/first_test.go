package sequence

import (
	"slices"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store/memory"
)

// follower notes what it is told, and how often the journal was synced by then.
type follower struct {
	spy   *spy
	heads []kite.Seq
	syncs []int
}

func (f *follower) Grown(heads map[string]kite.Seq) {
	f.heads = append(f.heads, heads["trade"])
	f.syncs = append(f.syncs, f.spy.syncs)
}

// TestDeliverFirst tells of growth before the sync, and answers after it: true when it is durable, and
// when it is not, false.
func TestDeliverFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t, mustMemory(t, memory.Options{}), Options{DeliverFirst: true})
	f := &follower{spy: r.spy}
	r.Follow(f)
	r.spy.failSync = 3
	got := r.turn(item(message, "trade", 1), item(message, "trade", 2), item(prepared, "trade", 3))
	if !slices.Equal(verdicts(got), []kite.Code{kite.OK, kite.OK, kite.OK}) {
		t.Errorf("verdicts %v", verdicts(got))
	}
	r.turn(item(prepared, "trade", 4)) // nothing to deliver
	got = r.turn(item(message, "trade", 5))
	if !slices.Equal(verdicts(got), []kite.Code{kite.Unavailable}) {
		t.Errorf("a failed sync was answered %v", verdicts(got))
	}
	if !slices.Equal(f.heads, []kite.Seq{2, 3}) || !slices.Equal(f.syncs, []int{0, 2}) {
		t.Errorf("told of %v after %v syncs, want 2 after 0 and 3 after 2", f.heads, f.syncs)
	}
}
