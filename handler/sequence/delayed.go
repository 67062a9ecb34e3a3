package sequence

import (
	"fmt"
	"maps"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// A message that is due later is decided and waits. It has no place in its topic yet: it has one among those
// that are due in the same minute, where whoever keeps the time finds it (store.Stream). When it is due it is
// committed like a prepared one, by a record that leads to its bytes, and only then gets the next Seq of its
// topic. So flows know nothing of delays, and a topic's order is the order in which its messages came due.
//
// The state knows of each minute which of its places are committed, and forgets it when all are. A message that
// comes later to a minute that was forgotten goes on where the journal's records of it end (nextPlace), so that
// forgetting needs no clock: it makes no difference when a clock is set back.
//
// One that an operator cancels leaves its minute before the time. When nothing else waits there the minute is
// emptied and stays known until it has passed: whoever keeps the time still has its places, and they must not be
// given to others.

// minute is the delayed messages that are due in one minute, while some of them wait.
type minute struct {
	head      kite.Seq // the newest place
	committed kite.Settled
}

// wait adds a message that is due later.
func (s *State) wait(r *kite.Record) {
	number := kite.Minute(r.DueMs)
	m, ok := s.delayed[number]
	if !ok {
		m.committed.Raise(r.Seq) // what there was before was committed, or the minute would be known
	}
	m.head = r.Seq
	s.delayed[number] = m
	s.waiting++
	if i, empty := slices.BinarySearch(s.emptied, number); empty {
		s.emptied = slices.Delete(s.emptied, i, i+1)
	}
	s.pass(r.TimeMs)
}

// due takes away a message that was committed when it was due.
func (s *State) due(r *kite.Record) error {
	place, err := kite.DecodePlace(r.Body)
	if err != nil {
		return fmt.Errorf("commit of a delayed message on topic %s: %w", r.Topic, err)
	}
	number := kite.Minute(r.DueMs)
	if s.leave(number, place) {
		delete(s.delayed, number)
	}
	s.pass(r.TimeMs)
	return nil
}

// cancel takes away a message that is never delivered.
func (s *State) cancel(r *kite.Record) {
	if number := kite.Minute(r.DueMs); s.leave(number, r.Seq) {
		s.empty(number)
	}
	s.pass(r.TimeMs)
}

// leave takes the message at the place away and tells whether it was the last one that waited in the minute.
func (s *State) leave(number int64, place kite.Seq) (last bool) {
	m := s.delayed[number]
	m.committed.Settle(kite.Range{From: place, To: place + 1})
	s.delayed[number] = m
	s.waiting--
	return m.committed.Floor() > m.head
}

// empty notes that nothing waits in the minute any more.
func (s *State) empty(number int64) {
	i, _ := slices.BinarySearch(s.emptied, number)
	s.emptied = slices.Insert(s.emptied, i, number)
}

// pass forgets the emptied minutes that are over.
func (s *State) pass(timeMs int64) {
	over, _ := slices.BinarySearch(s.emptied, kite.Minute(timeMs))
	for _, number := range s.emptied[:over] {
		delete(s.delayed, number)
	}
	s.emptied = slices.Delete(s.emptied, 0, over)
}

// delays yields the minutes as a checkpoint keeps them: the head, and what is committed as a progress.
func (s *State) delays(yield func(*kite.Record) bool) {
	for _, number := range slices.Sorted(maps.Keys(s.delayed)) {
		m := s.delayed[number]
		p := kite.Progress{Floor: m.committed.Floor(), Settled: m.committed.Ranges()}
		if !yield(&kite.Record{Kind: kite.KindHead, Topic: kite.DelayStream(number), Seq: m.head, Body: kite.AppendProgress(nil, &p)}) {
			return
		}
	}
}

// restore takes a minute from a checkpoint.
func (s *State) restore(number int64, r *kite.Record) error {
	var committed kite.Standing
	if err := committed.Apply(r.Body); err != nil {
		return fmt.Errorf("delayed messages %s: %w", r.Topic, err)
	}
	m := minute{head: r.Seq, committed: committed.Settled}
	s.delayed[number] = m
	s.waiting += m.waiting()
	if m.committed.Floor() > m.head {
		s.empty(number)
	}
	return nil
}

// waiting counts the places that nothing has become of.
func (m *minute) waiting() int {
	n := int(m.head) - int(m.committed.Floor()) + 1
	for _, r := range m.committed.Ranges() {
		n -= int(r.To - r.From)
	}
	return n
}

// nextPlace gives the place among the messages that are due in the same minute.
func (l *Lane) nextPlace(dueMs int64) kite.Seq {
	number := kite.Minute(dueMs)
	stream := kite.DelayStream(number)
	if _, proposed := l.turn.heads[stream]; !proposed {
		m, known := l.state.delayed[number]
		if !known {
			_, next := l.journal.Bounds(stream)
			m.head = next - 1
		}
		l.turn.heads[stream] = m.head
	}
	return l.next(stream)
}

// proposeDue gives a delayed message its Seq when its time has come, once.
func (l *Lane) proposeDue(item *kite.Item, nowMs int64) {
	item.Outcome = kite.OutcomeCommitted
	place, err := kite.DecodePlace(item.Body)
	m, waits := l.state.delayed[kite.Minute(item.DueMs)]
	switch {
	case err != nil || waits && place > m.head:
		item.Verdict = kite.TxUnknown
	case !waits || m.committed.Contains(place):
		item.Repeat = true
	case item.DueMs > nowMs: // the clock was set back since somebody looked at it
		item.Verdict = kite.Busy
	default:
		item.TimeMs, item.Seq = nowMs, l.next(item.Topic)
		l.turn.fresh.set(item.ID, kite.OutcomeCommitted)
		l.turn.require(l.classes.Of(item.Topic))
		l.turn.add(item)
	}
}

// proposeCancel finds the message that waits, to take it away. One that waits no more was committed, which is a
// conflict, or cancelled before.
func (l *Lane) proposeCancel(item *kite.Item) {
	item.Verdict, item.Outcome = kite.TxUnknown, kite.OutcomeCommitted
	err := l.journal.Find(item.ID, 0, func(r *kite.Record) bool {
		switch {
		case r.Kind == kite.KindDelayed:
			m, known := l.state.delayed[kite.Minute(r.DueMs)]
			if known && !m.committed.Contains(r.Seq) {
				item.Verdict, item.Topic, item.Seq, item.DueMs = kite.OK, r.Topic, r.Seq, r.DueMs
			}
		case r.Kind == kite.KindCommit && r.DueMs != 0:
			item.Verdict, item.Seq, item.TimeMs = kite.TxConflict, r.Seq, r.TimeMs
		case r.Kind == kite.KindOrder && cancels(r):
			item.Verdict, item.Repeat = kite.OK, true
		default:
			return true
		}
		return false
	})
	if err != nil {
		l.refuse(item, err)
	}
}

func cancels(r *kite.Record) bool {
	order, err := kite.DecodeOrder(r.Body)
	return err == nil && order.Action == kite.ActionCancel
}

// needDelayed adds what waits to the needs: its bytes lie there or are led to from there.
func (s *State) needDelayed(n *store.Needs) {
	for number, m := range s.delayed {
		n.Floors[kite.DelayStream(number)] = m.committed.Floor()
	}
}

// recoverDelayed returns the minutes in which messages wait, with the place before which none does.
func (s *State) recoverDelayed() map[int64]kite.Seq {
	waiting := make(map[int64]kite.Seq, len(s.delayed))
	for number, m := range s.delayed {
		waiting[number] = m.committed.Floor()
	}
	return waiting
}
