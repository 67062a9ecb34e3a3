package deliver

import (
	"container/heap"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
)

// control is what an operator, or the broker itself, has had journaled about a flow or one of its dead letters.
type control struct {
	action kite.Action
	key    flowKey
	seq    kite.Seq
}

// ordered hands the durable orders of a batch to the shards that own the groups. What is refused, or changes
// nothing, is history only.
func (d *Dispatcher) ordered(item *kite.Item) {
	if item.Verdict != kite.OK || item.Repeat {
		return
	}
	if c, ok := controlOf(item); ok {
		d.shard(c.key.group).post(func(e *events) {
			e.done = append(e.done, journaled{kind: kite.KindOrder, ok: true, control: c})
		})
	}
}

// controlOf reads an order about deliveries; ok is false for those about transactions.
func controlOf(item *kite.Item) (c control, ok bool) {
	decoded, err := kite.DecodeOrder(item.Body)
	if err != nil || decoded.Action < kite.ActionPause || decoded.Action > kite.ActionRequeue {
		return control{}, false
	}
	return control{decoded.Action, flowKey{item.Topic, string(item.Group)}, item.Seq}, true
}

// obey does what a durable order says. What is about a group without a flow is kept for when it binds.
func (s *shard) obey(c control) {
	if c.action == kite.ActionDiscard {
		s.lettersOf(c.key).Settle(kite.Range{From: c.seq, To: c.seq + 1})
	}
	f := s.flows[c.key]
	if f == nil {
		s.keep(c)
		return
	}
	switch c.action {
	case kite.ActionPause:
		f.pausedMs = s.nowMs
		s.dropped.Add(int64(len(f.flies)))
		f.flies = f.flies[:0]
	case kite.ActionResume:
		f.pausedMs = 0
	case kite.ActionSeek:
		s.seek(f, c.seq)
	case kite.ActionDiscard:
		f.forget(c.seq)
	case kite.ActionRequeue:
		f.waiting = append(f.waiting, c.seq)
	}
	s.makeReady(f)
}

// keep applies the order to the standing that the flow will start from.
func (s *shard) keep(c control) {
	standing := s.standing(c.key)
	if standing == nil {
		standing = &kite.Standing{}
	}
	s.kept[c.key] = standing
	switch c.action {
	case kite.ActionPause, kite.ActionResume:
		standing.Paused = c.action == kite.ActionPause
	case kite.ActionSeek:
		standing.Seek(c.seq)
	case kite.ActionDiscard:
		standing.Discard(c.seq)
	case kite.ActionRequeue:
		standing.Requeue(c.seq)
	}
}

// standing is where a group without a flow stands: as it was recovered, and ordered since.
func (s *shard) standing(key flowKey) *kite.Standing {
	if standing := s.kept[key]; standing != nil {
		return standing
	}
	return s.standings(key.topic, key.group)
}

// seek begins a new turn of the flow: it goes on at to and has tried nothing from there on. What is in flight
// is forgotten; its members keep their credit taken until they answer. Requeued dead letters go on: they have
// no place in the topic any more.
func (s *shard) seek(f *flow, to kite.Seq) {
	f.turn++
	f.done = kite.Settled{}
	f.done.Raise(to)
	f.pending = len(f.open)
	f.adopt()
	f.restored, f.failures, f.settled, f.armed, f.whole = nil, nil, nil, nil, false
	f.breaker = breaker{}
	f.due = slices.DeleteFunc(f.due, func(t tried) bool { return !t.letter })
	s.retries = slices.DeleteFunc(s.retries, func(e retryEntry) bool { return e.flow == f && e.seq > 0 && !e.letter })
	heap.Init((*byDue)(&s.retries))
	for i := range s.slots.all {
		if sl := &s.slots.all[i]; sl.flow == f && sl.fly == nil && !sl.letter {
			sl.seq, sl.probe, sl.turn, sl.to = 0, false, nil, nil
		}
	}
	s.log.Info("flow goes on elsewhere", "topic", f.topic, "group", f.group, "seq", uint64(to))
}

// forgotten tells whether a seek came between the delivery and its answer: then only its credit counts.
func (sl *slot) forgotten() bool { return sl.seq == 0 && sl.fly == nil }

// resume takes over what was ordered before the flow began.
func (s *shard) resume(f *flow, standing *kite.Standing) {
	f.turn, f.waiting = standing.Turn, slices.Clone(standing.Requeued)
	if standing.Paused {
		f.pausedMs = s.nowMs
	}
}
