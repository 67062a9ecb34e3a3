package sequence

import (
	"github.com/kiteq/kiteq/internal/kite"
)

// proposeDecision lets the first decision win: the same again changes nothing, the opposite is refused, and
// noted. Of a transaction that was decided before, the item gets when and by whom.
func (l *Lane) proposeDecision(item *kite.Item, outcome kite.Outcome, nowMs int64) {
	open := l.state.open[item.ID]
	if open == nil {
		l.proposeLate(item, outcome, nowMs)
		return
	}
	item.TimeMs = nowMs
	item.Topic, item.Ref, item.Outcome = open.Topic, open.Position, outcome
	switch {
	case outcome != kite.OutcomeCommitted:
	case open.DueMs > nowMs:
		item.Kind, item.DueMs = kite.KindDelayed, open.DueMs // its note stays its Body
		item.Seq = l.nextPlace(open.DueMs)
	default:
		item.Seq = l.next(open.Topic)
	}
	l.turn.fresh.set(item.ID, outcome)
	l.turn.require(l.classes.Of(item.Topic))
	l.turn.add(item)
}

// proposeLate answers a decision about what is not open: decided, or never heard of.
func (l *Lane) proposeLate(item *kite.Item, outcome kite.Outcome, nowMs int64) {
	was, ok, err := l.seen.find(item.ID, nowMs)
	item.Outcome = was
	switch {
	case err != nil:
		l.refuse(item, err)
		return
	case !ok:
		item.Verdict = kite.TxUnknown
		return
	case was == outcome:
		item.Repeat = true
	default:
		item.Verdict = kite.TxConflict
		l.conflicts.Add(1)
		l.noteRefusal(item, outcome, nowMs)
	}
	item.TimeMs, item.Body = l.seen.timeMs, append([]byte(nil), l.seen.note...)
}

// maxRefusals bounds the ids whose refusals are remembered as noted.
const maxRefusals = 1 << 16

// noteRefusal journals that a decision came too late, once for an id: who repeats it fills no disk.
func (l *Lane) noteRefusal(item *kite.Item, outcome kite.Outcome, nowMs int64) {
	if l.refusals[item.ID] {
		return
	}
	if len(l.refusals) >= maxRefusals {
		clear(l.refusals)
	}
	l.refusals[item.ID] = true
	note := kite.DecodeNote(item.Body)
	l.turn.records = append(l.turn.records, &kite.Record{
		Kind: kite.KindOrder, ID: item.ID, Topic: l.seen.topic, TimeMs: nowMs,
		Body: kite.AppendOrder(nil, &kite.Order{Action: kite.ActionRefuse, Outcome: outcome, Note: note}),
	})
}

func (l *Lane) proposePark(item *kite.Item, nowMs int64) {
	open := l.state.open[item.ID]
	if open == nil {
		item.Verdict = kite.TxUnknown
		return
	}
	item.Outcome = kite.OutcomeParked
	if open.ParkedMs > 0 {
		item.Repeat = true
		return
	}
	item.TimeMs = nowMs
	item.Topic, item.Ref = open.Topic, open.Position
	l.turn.fresh.set(item.ID, kite.OutcomeParked)
	l.turn.require(l.classes.Of(item.Topic))
	l.turn.add(item)
}
