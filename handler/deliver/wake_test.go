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
	woken := func() bool { // and has its turn
		select {
		case <-s.wake:
			s.taken.reset()
			s.take()
			return true
		default:
			return false
		}
	}
	s.grown([]growth{{"trade", 3}})
	if woken() {
		t.Error("woken for a topic that nobody is bound to")
	}
	s.bind([]kite.Route{fanout("trade", "s-a")})
	if !woken() {
		t.Error("not woken for new routes")
	}
	if head := s.joinTopic("trade").known; head != 3 {
		t.Errorf("the new flow finds a head of %d, want 3", head)
	}
	s.grown([]growth{{"order", 1}})
	if woken() {
		t.Error("woken for another topic")
	}
	s.grown([]growth{{"order", 2}, {"trade", 4}})
	if !woken() {
		t.Error("not woken for a topic that a group is bound to")
	}
	fly := func(topic string) { s.flown([]kite.Item{{Record: kite.Record{Topic: topic}}}) }
	if fly("order"); woken() || len(s.events.fly) != 0 {
		t.Error("woken for a fly message of another topic")
	}
	if fly("trade"); !woken() || len(s.taken.fly) != 1 {
		t.Error("not woken for a fly message")
	}
	s.bind(nil)
	woken()
	s.grown([]growth{{"trade", 5}})
	if woken() {
		t.Error("woken though the binding is gone")
	}
}
