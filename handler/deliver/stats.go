package deliver

import (
	"context"

	"github.com/kiteq/kiteq/internal/kite"
)

// FlowStats is what one flow has done since the start, and how far it is.
type FlowStats struct {
	Topic, Group string
	// Bound is false once the group's binding is gone: then nothing waits for it.
	Bound   bool
	Durable bool
	// Acquired counts the deliveries, every attempt, that the group's watermark let through. Fly messages
	// are not held to it and counted by Flown.
	Acquired, Flown int64
	// Failed counts those of Acquired that were nacked, not answered in time, or lost with their connection.
	Failed int64
	// Unsettled is how many messages of the topic the group has not settled, and Lag how many of them the
	// cursor has not come to.
	Unsettled, Lag int64
	// OldestMs is when the oldest unsettled message was stored, Unix ms; 0: there is none.
	OldestMs int64
	// InFlight counts the deliveries whose answer is not overdue, fly messages aside, and Armed those that
	// failed and wait to be sent again.
	InFlight, Armed int
	// Letters counts the dead letters that are not done with, Requeued those of them that are delivered again.
	Letters  int64
	Requeued int
	// Paused is true while an operator holds the deliveries, BreakerOpen while only probes are sent.
	Paused, BreakerOpen bool
	// OfflineMs is since when nobody of the group is connected, Unix ms, at the earliest since the start; 0: somebody is.
	OfflineMs int64
}

// Stats asks every shard about its flows, in no order. It waits for their current turns, so that counting
// costs the flows no more than an addition. Without Run it waits until ctx ends.
func (d *Dispatcher) Stats(ctx context.Context) ([]FlowStats, error) {
	answers := make(chan []FlowStats, len(d.shards)) // a shard never waits for who asked
	for _, s := range d.shards {
		s.post(func(e *events) { e.asks = append(e.asks, answers) })
	}
	var all []FlowStats
	for range d.shards {
		select {
		case flows := <-answers:
			all = append(all, flows...)
		case <-d.stopped:
			return nil, kite.Errorf(kite.Unavailable, "the flows have stopped")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return all, nil
}

// Totals is what all flows together have done since the start.
type Totals struct {
	// Waited is how long messages that were sent for the first time had been stored: those that a flow read
	// in one go count as long as the first of them. Resolution 1 ms.
	Waited kite.Timing
	// Dropped counts the fly messages that nobody could take.
	Dropped int64
}

// Totals returns the counters. It waits for nobody.
func (d *Dispatcher) Totals() (t Totals) {
	for _, s := range d.shards {
		waited := s.waited.Read()
		for i, n := range waited.Counts {
			t.Waited.Counts[i] += n
		}
		t.Waited.Sum += waited.Sum
		t.Dropped += s.dropped.Load()
	}
	return t
}

// stats describes the shard's flows.
func (s *shard) stats() []FlowStats {
	inFlight, armed := map[*flow]int{}, map[*flow]int{}
	for i := range s.slots.all {
		if sl := &s.slots.all[i]; sl.member != nil && sl.state == sent && sl.seq > 0 {
			inFlight[sl.flow]++
		}
	}
	for i := range s.retries {
		if s.retries[i].seq > 0 {
			armed[s.retries[i].flow]++
		}
	}
	all := make([]FlowStats, 0, len(s.flows))
	for key, f := range s.flows {
		st := FlowStats{
			Topic: f.topic, Group: f.group, Bound: f.bound, Durable: f.durable,
			Acquired: f.acquired, Flown: f.flown, Failed: f.failed, Unsettled: f.unsettled(), Lag: max(0, int64(f.head)-int64(f.cursor)),
			InFlight: inFlight[f], Armed: armed[f] + len(f.due), Requeued: len(f.waiting) + len(f.open),
			Paused: f.pausedMs > 0, BreakerOpen: f.breaker.open, OfflineMs: f.peers.offlineMs,
		}
		if gone := s.letters[key]; gone != nil {
			st.Letters = s.lettersLeft(key, gone)
		}
		if st.Unsettled > 0 {
			st.OldestMs = s.storedMs(f.topic, f.done.Floor())
		}
		all = append(all, st)
	}
	return all
}

// lettersLeft counts the dead letters that are not done with.
func (s *shard) lettersLeft(key flowKey, gone *kite.Settled) int64 {
	first, next := s.reader.Bounds(kite.DeadStream(key.topic, key.group))
	n := int64(next) - int64(max(first, gone.Floor()))
	for _, r := range gone.Ranges() {
		n -= int64(r.To - r.From)
	}
	return max(n, 0)
}

// storedMs returns when the message at seq, or the next one that is there, was stored, Unix ms; 0: not known.
func (s *shard) storedMs(topic string, seq kite.Seq) (ms int64) {
	_ = s.reader.Read(topic, seq, func(r *kite.Record) bool { // the flow itself tells of what cannot be read
		ms = r.TimeMs
		return false
	})
	return ms
}

// unsettled counts what lies between the floor and the head but for the settled ranges.
func (f *flow) unsettled() int64 {
	n := int64(f.head) - int64(f.done.Floor())
	for _, r := range f.done.Ranges() {
		n -= int64(r.To - r.From)
	}
	return max(n, 0)
}
