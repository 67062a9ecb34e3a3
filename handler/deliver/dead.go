package deliver

import (
	"fmt"

	"github.com/kiteq/kiteq/internal/kite"
)

// dying is a message whose dead letter, or a dead letter whose discard, is on its way through the lane.
type dying struct {
	flow *flow
	turn uint64 // of the flow, when it was submitted
	tried
	seq              kite.Seq // of the message, also when it is a dead letter that dies again
	reason, feedback string
}

// buryAgain is how long a dead letter waits that the lane had no room for, ms.
const buryAgain = 1000

func limitReason(limit uint8, last string) string {
	if last == "" {
		return fmt.Sprintf("deliver limit %d reached", limit)
	}
	return fmt.Sprintf("deliver limit %d reached, last: %s", limit, last)
}

// buryAt reads the message and buries it. pending counts it already.
func (s *shard) buryAt(f *flow, t tried, reason, feedback string) {
	buried := false
	found, err := s.read(f, t, func(r *kite.Record) { buried = s.bury(f, r, t, reason, feedback) })
	switch {
	case err == nil && !found && t.letter:
		s.deliveredLetter(f, t.seq, "its bytes are gone")
	case err == nil && !found:
		f.pending--
		s.settle(f, t.seq)
		s.ended(f, t.seq)
	case !buried:
		s.retries.push(retryEntry{dueMs: s.nowMs + buryAgain, flow: f, tried: t})
	}
}

// bury hands the message's dead letter to the lane; the record settles it in the same step, so no
// crash comes between the two. For the same reason the new dead letter of a requeued one discards the old in
// one entry. It returns false when the lane takes nothing now.
func (s *shard) bury(f *flow, r *kite.Record, t tried, reason, feedback string) bool {
	s.dyingID++
	letter := kite.DeadLetter{
		Seq: r.Seq, Attempts: t.attempts, Command: r.Command, PublishedMs: r.TimeMs,
		Reason: reason, Feedback: feedback, Payload: r.Body,
	}
	body := kite.AppendDeadLetter(nil, &letter)
	messageType := append([]byte(nil), r.Type...)
	b := &kite.Batch{Owner: s, Arena: body, Items: []kite.Item{{Opaque: s.dyingID, Record: kite.Record{
		Kind: kite.KindDead, ID: r.ID, Topic: f.topic, Group: []byte(f.group), Type: messageType,
		Command: r.Command, Limit: r.Limit, ExpiresMs: r.ExpiresMs, Body: body,
	}}}}
	if t.letter {
		b.Items = append(b.Items, discard(0, f.topic, f.group, t.seq, "died again after requeue"))
	}
	if err := s.lane.Submit(b); err != nil {
		s.wakeLater(f, buryAgain, CauseJournal)
		return false
	}
	s.dying[s.dyingID] = dying{flow: f, turn: f.turn, tried: t, seq: r.Seq, reason: reason, feedback: feedback}
	return true
}

// recorded takes the lane's word on one of our items, and orders.
func (s *shard) recorded(j journaled) {
	if j.kind == kite.KindProgress {
		if j.ok {
			delete(s.saving, j.id)
		} else {
			s.saveAgain(j.id)
		}
		return
	}
	d, ok := s.dying[j.id]
	delete(s.dying, j.id)
	switch {
	case j.kind == kite.KindOrder && j.ok:
		s.obey(j.control)
	case !ok:
	case !j.ok:
		if d.letter || d.turn == d.flow.turn {
			s.retries.push(retryEntry{dueMs: s.nowMs + buryAgain, flow: d.flow, tried: d.tried})
		}
	default:
		s.buried(d)
	}
}

// buried settles the message whose dead letter is durable.
func (s *shard) buried(d dying) {
	f := d.flow
	s.lettersOf(flowKey{f.topic, f.group}) // the sweep looks after it from now on
	if !d.letter && d.turn == f.turn {
		f.pending--
	}
	f.done.Settle(kite.Range{From: d.seq, To: d.seq + 1})
	delete(f.failures, tried{seq: d.seq})
	s.ended(f, d.seq)
	s.makeReady(f)
	s.log.Warn("message is a dead letter", "topic", f.topic, "group", f.group, "seq", uint64(d.seq), "attempt", d.attempts, "reason", d.reason)
}
