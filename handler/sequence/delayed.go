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
}

// due takes away a message that was committed when it was due.
func (s *State) due(r *kite.Record) error {
	place, err := kite.DecodePlace(r.Body)
	if err != nil {
		return fmt.Errorf("commit of a delayed message on topic %s: %w", r.Topic, err)
	}
	number := kite.Minute(r.DueMs)
	m := s.delayed[number]
	m.committed.Settle(kite.Range{From: place, To: place + 1})
	if m.committed.Floor() > m.head {
		delete(s.delayed, number)
	} else {
		s.delayed[number] = m
	}
	return nil
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
	s.delayed[number] = minute{head: r.Seq, committed: committed.Settled}
	return nil
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
