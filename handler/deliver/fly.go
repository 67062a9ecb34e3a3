package deliver

import "github.com/kiteq/kiteq/internal/kite"

// Bounds of messages that are not journaled: beyond them they are dropped and counted.
const (
	flyWaiting  = 4096 // between publish and the shard, and for one flow
	flyAttempts = 3
)

// fly offers the message to every flow that wants it.
func (s *shard) fly(r *kite.Record) {
	for _, f := range s.topics[r.Topic] {
		if !f.bound || !f.matcher.Matches(r.Type) {
			continue
		}
		if len(f.flies) >= flyWaiting || !s.courier.Online(f.group) {
			s.dropped.Add(1)
			continue
		}
		f.flies = append(f.flies, r)
		s.makeReady(f)
	}
}

// pumpFlies sends what can be sent. What nobody is there for is dropped: it was never promised.
func (s *shard) pumpFlies(f *flow) {
	n := 0
	for ; n < len(f.flies); n++ {
		if !s.sendFly(f, f.flies[n], 0) {
			break
		}
	}
	f.flies = f.flies[:copy(f.flies, f.flies[n:])]
}

// sendFly returns false when the message should wait for credit.
func (s *shard) sendFly(f *flow, r *kite.Record, attempts uint8) bool {
	if r.Expired(s.nowMs) || attempts >= flyAttempts || !s.courier.Online(f.group) {
		s.dropped.Add(1)
		return true
	}
	sl, err := s.send(f, r, attempts)
	if sl == nil {
		if err != nil {
			s.dropped.Add(1)
		}
		return err != nil
	}
	sl.fly = r
	f.flown++
	return true
}

func (s *shard) flyAgain(sl slot) {
	if !s.sendFly(sl.flow, sl.fly, sl.attempts) {
		s.dropped.Add(1)
	}
}
