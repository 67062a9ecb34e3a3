package deliver

import (
	"fmt"

	"github.com/kiteq/kiteq/internal/kite"
)

// dying is a message whose dead letter is on its way through the lane.
type dying struct {
	flow *flow
	tried
	reason string
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
func (s *shard) buryAt(f *flow, t tried, reason string) {
	found, buried := false, false
	err := s.reader.Read(f.topic, t.seq, func(r *kite.Record) bool {
		if found = r.Seq == t.seq; found {
			buried = s.bury(f, r, t.attempts, reason)
		}
		return false
	})
	switch {
	case err == nil && !found:
		f.pending--
		s.settle(f, t.seq)
		s.ended(f, t.seq)
	case !buried:
		s.retries.push(retryEntry{dueMs: s.nowMs + buryAgain, flow: f, tried: t})
	}
}

// bury hands the message's dead letter to the lane; the record settles it in the same step, so no
// crash comes between the two. It returns false when the lane takes nothing now.
func (s *shard) bury(f *flow, r *kite.Record, attempts uint8, reason string) bool {
	s.dyingID++
	letter := kite.DeadLetter{Seq: r.Seq, Attempts: attempts, Command: r.Command, Reason: reason, Payload: r.Body}
	body := kite.AppendDeadLetter(nil, &letter)
	messageType := append([]byte(nil), r.Type...)
	b := &kite.Batch{Owner: s, Arena: body, Items: []kite.Item{{Opaque: s.dyingID, Record: kite.Record{
		Kind: kite.KindDead, ID: r.ID, Topic: f.topic, Group: []byte(f.group), Type: messageType,
		Command: r.Command, Limit: r.Limit, ExpiresMs: r.ExpiresMs, Body: body,
	}}}}
	if err := s.lane.Submit(b); err != nil {
		s.wakeLater(f, buryAgain)
		return false
	}
	s.dying[s.dyingID] = dying{flow: f, tried: tried{r.Seq, attempts}, reason: reason}
	return true
}

// recorded takes the lane's word on one of our items.
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
	if !ok {
		return
	}
	delete(s.dying, j.id)
	if !j.ok {
		s.retries.push(retryEntry{dueMs: s.nowMs + buryAgain, flow: d.flow, tried: d.tried})
		return
	}
	d.flow.pending--
	d.flow.done.Settle(kite.Range{From: d.seq, To: d.seq + 1})
	s.ended(d.flow, d.seq)
	s.makeReady(d.flow)
	s.log.Warn("message is a dead letter", "topic", d.flow.topic, "group", d.flow.group, "seq", uint64(d.seq), "attempt", d.attempts, "reason", d.reason)
}
