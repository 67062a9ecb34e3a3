package deliver

import (
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
)

// Bounds of messages that are not journaled: beyond them they are dropped and counted.
const (
	flyWaiting  = 4096 // between publish and the shard, and for one flow
	flyAttempts = 3
)

// flown takes messages that are not journaled, and drops what the next turn has no room for. Those of topics
// that no flow follows are nobody's, and bring no turn.
func (s *shard) flown(items []kite.Item) {
	if s.queueFlies(items) {
		s.signal()
	}
}

func (s *shard) queueFlies(items []kite.Item) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(items, func(i kite.Item) bool { t := s.topics[i.Topic]; return t != nil && t.followed }) {
		return false
	}
	room := min(len(items), flyWaiting-s.events.flying)
	s.dropped.Add(int64(len(items) - room))
	s.events.flying += room
	s.events.fly = append(s.events.fly, items[:room])
	return true
}

// fly offers messages to every flow that wants them, those of one topic at a time.
func (s *shard) fly(items []kite.Item) {
	for len(items) > 0 {
		topic, n := items[0].Topic, 1
		for n < len(items) && items[n].Topic == topic {
			n++
		}
		for _, f := range s.flowsOn(topic) {
			if f.bound {
				s.offerFlies(f, items[:n])
			}
		}
		items = items[n:]
	}
}

func (s *shard) offerFlies(f *flow, items []kite.Item) {
	online := s.courier.Online(f.group)
	for i := range items {
		r := &items[i].Record
		switch {
		case !f.matcher.Matches(r.Type):
		case !online || f.pausedMs > 0 || len(f.flies) >= flyWaiting:
			s.dropped.Add(1)
		default:
			f.flies = append(f.flies, r)
		}
	}
	if len(f.flies) > 0 {
		s.makeReady(f)
	}
}

// pumpFlies sends what can be sent. What nobody is there for is dropped: it was never promised.
func (s *shard) pumpFlies(f *flow) {
	if f.broadcast != nil {
		s.scatterFlies(f)
		return
	}
	n := 0
	for ; n < len(f.flies); n++ {
		if !s.sendFly(f, f.flies[n], 0) {
			break
		}
	}
	f.flies = slices.Delete(f.flies, 0, n)
}

// sendFly returns false when the message should wait for credit.
func (s *shard) sendFly(f *flow, r *kite.Record, attempts uint8) bool {
	if r.Expired(s.nowMs) || attempts >= flyAttempts || f.pausedMs > 0 {
		s.dropped.Add(1)
		return true
	}
	sl, err := s.send(f, r, attempts)
	if sl == nil {
		if err == nil && s.courier.Online(f.group) {
			return false
		}
		s.dropped.Add(1)
		return true
	}
	sl.fly = r
	f.flown++
	return true
}

func (s *shard) flyAgain(sl slot) {
	if sl.to != nil {
		s.flyTo(sl.flow, sl.to, sl.fly, sl.attempts)
		return
	}
	if !s.sendFly(sl.flow, sl.fly, sl.attempts) {
		s.dropped.Add(1)
	}
}
