package deliver

import (
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestGrownWakes wakes a shard for the growth, and the fly messages, of topics that its groups are bound to,
// and for no other.
func TestGrownWakes(t *testing.T) {
	t.Parallel()
	s := newShard(Options{}.WithDefaults(), nil, nil, nil, nil, nil, nil)
	woken := func() bool {
		select {
		case <-s.wake:
			return true
		default:
			return false
		}
	}
	s.grown(map[string]kite.Seq{"trade": 3})
	if woken() {
		t.Error("woken for a topic that nobody is bound to")
	}
	s.bind([]kite.Route{fanout("trade", "s-a")})
	if !woken() {
		t.Error("not woken for new routes")
	}
	if head := s.events.heads["trade"]; head != 3 {
		t.Errorf("the new flow finds a head of %d, want 3", head)
	}
	s.grown(map[string]kite.Seq{"order": 1})
	if woken() {
		t.Error("woken for another topic")
	}
	s.grown(map[string]kite.Seq{"order": 2, "trade": 4})
	if !woken() {
		t.Error("not woken for a topic that a group is bound to")
	}
	fly := func(topic string) { s.flown([]kite.Item{{Record: kite.Record{Topic: topic}}}) }
	if fly("order"); woken() || len(s.events.fly) != 0 {
		t.Error("woken for a fly message of another topic")
	}
	if fly("trade"); !woken() || len(s.events.fly) != 1 {
		t.Error("not woken for a fly message")
	}
	s.bind(nil)
	woken()
	s.grown(map[string]kite.Seq{"trade": 5})
	if woken() {
		t.Error("woken though the binding is gone")
	}
}
