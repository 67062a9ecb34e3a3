package sequence

import (
	"context"

	"github.com/kiteq/kiteq/internal/kite"
)

// proposeOrder checks what an operator ordered against how things stand: an order that would change nothing
// is a repeat, one that cannot be is refused.
func (l *Lane) proposeOrder(item *kite.Item, nowMs int64) {
	order, err := kite.DecodeOrder(item.Body)
	if err != nil {
		item.Verdict = kite.Invalid
		return
	}
	standing := l.state.standings[flowKey{item.Topic, string(item.Group)}]
	if standing == nil {
		standing = &kite.Standing{}
	}
	switch order.Action {
	case kite.ActionRecheck:
		l.proposeRecheck(item)
	case kite.ActionCancel:
		l.proposeCancel(item)
	case kite.ActionPause, kite.ActionResume:
		item.Repeat = standing.Paused == (order.Action == kite.ActionPause)
	case kite.ActionSeek:
		if first, next := l.journal.Bounds(item.Topic); item.Seq < first || item.Seq > next {
			item.Verdict = kite.Invalid
		}
	case kite.ActionDiscard, kite.ActionRequeue:
		l.proposeLetter(item, standing, order.Action)
	default:
		item.Verdict = kite.Invalid
	}
	if item.Verdict != kite.OK || item.Repeat {
		return
	}
	item.TimeMs = nowMs
	l.turn.require(l.classes.Of(item.Topic))
	l.turn.add(item)
	if item.ID != (kite.MessageID{}) {
		l.turn.fresh.set(item.ID, item.Outcome)
	}
}

func (l *Lane) proposeRecheck(item *kite.Item) {
	open := l.state.open[item.ID]
	switch {
	case open == nil:
		item.Verdict = kite.TxUnknown
	case open.ParkedMs == 0:
		item.Repeat = true
	default:
		item.Topic, item.Ref, item.Group = open.Topic, open.Position, []byte(open.Group)
	}
}

func (l *Lane) proposeLetter(item *kite.Item, standing *kite.Standing, action kite.Action) {
	head := l.state.heads[kite.DeadStream(item.Topic, string(item.Group))]
	switch {
	case item.Seq == 0 || item.Seq > head:
		item.Verdict = kite.Invalid
	case standing.Letters.Contains(item.Seq):
		item.Repeat = action == kite.ActionDiscard
		if !item.Repeat {
			item.Verdict = kite.Invalid // it is gone
		}
	case action == kite.ActionRequeue && standing.IsRequeued(item.Seq):
		item.Repeat = true
	case action == kite.ActionRequeue && len(standing.Requeued) >= maxRequeued:
		item.Verdict = kite.Busy
	}
}

// maxRequeued bounds the dead letters of a group on a topic that are delivered again at a time.
const maxRequeued = 10_000

// Do hands one item to the lane and waits for what becomes of it. It is for operators: who has many makes
// batches. An error says that the lane did not take it, or that ctx ended first; then the outcome is not
// known.
func (l *Lane) Do(ctx context.Context, item kite.Item) (kite.Item, error) {
	done := make(chan kite.Item, 1) // the lane never waits for who asked
	b := &kite.Batch{Owner: l, Items: []kite.Item{item}, Release: func(b *kite.Batch) { done <- b.Items[0] }}
	if err := l.Submit(b); err != nil {
		return item, err
	}
	select {
	case item = <-done:
		return item, nil
	case <-ctx.Done():
		return item, &kite.Error{Code: kite.Indeterminate, Err: ctx.Err()}
	}
}
