package sequence

import (
	"slices"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestDecisionsSurviveTheirOwner lets a broker that lost its journal decide against its successor.
func TestDecisionsSurviveTheirOwner(t *testing.T) {
	t.Parallel()
	on := storages()["mysql"](t)
	asleep := newRigOn(t, on, Options{})
	asleep.turn(item(prepared, "trade", 1))
	awake := newRig(t, on.open(t, asleep.place), Options{})
	awake.turn(item(commit, "trade", 1))
	if got := asleep.turn(item(rollback, "trade", 1))[0]; got.Verdict != kite.Unavailable {
		t.Errorf("a rollback by the former owner: %v, want unavailable", got.Verdict)
	}
	if ids := awake.read("trade"); !slices.Equal(ids, []kite.MessageID{id(1)}) {
		t.Errorf("the committed message is gone: %v", ids)
	}
}
