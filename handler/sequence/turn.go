package sequence

import (
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// turn is what the lane has proposed and not yet appended: an overlay over the state.
type turn struct {
	items   []*kite.Item // every item whose verdict depends on the append, repeats within the turn too
	records []*kite.Record
	heads   map[string]kite.Seq
	fresh   fresh
	opened  int        // transactions that it opens
	class   kite.Class // what it must be before it is answered; "": nobody waits for that
}

func (t *turn) init() {
	t.heads = map[string]kite.Seq{}
	t.fresh.init()
}

func (t *turn) reset() {
	t.items, t.records = t.items[:0], t.records[:0]
	clear(t.heads)
	t.fresh.reset()
	t.opened, t.class = 0, ""
}

// require makes the turn at least of the class. A journal gives its own, and perhaps synced beside it.
func (t *turn) require(class kite.Class) {
	if t.class == "" || class == kite.ClassSynced {
		t.class = class
	}
}

func (t *turn) add(item *kite.Item) {
	t.items = append(t.items, item)
	t.records = append(t.records, &item.Record)
}

// next gives the Seq that follows the stream's newest, proposed ones included.
func (l *Lane) next(stream string) kite.Seq {
	seq, ok := l.turn.heads[stream]
	if !ok {
		seq = l.state.heads[stream]
	}
	seq++
	l.turn.heads[stream] = seq
	return seq
}

// needsAppended tells whether the item decides a message that this turn prepares or decides.
func (l *Lane) needsAppended(item *kite.Item) bool {
	switch item.Kind {
	case kite.KindCommit, kite.KindRollback, kite.KindPark, kite.KindOrder:
		_, fresh := l.turn.fresh.find(item.ID)
		return fresh
	}
	return false
}

// propose decides what becomes of the item and adds its record to the turn, or writes its verdict.
func (l *Lane) propose(item *kite.Item, nowMs int64) {
	item.Verdict = kite.OK
	switch item.Kind {
	case kite.KindMessage, kite.KindPrepared:
		l.proposeMessage(item, nowMs)
	case kite.KindCommit:
		if item.DueMs != 0 {
			l.proposeDue(item, nowMs)
			return
		}
		l.proposeDecision(item, kite.OutcomeCommitted, nowMs)
	case kite.KindRollback:
		l.proposeDecision(item, kite.OutcomeRolledBack, nowMs)
	case kite.KindPark:
		l.proposePark(item, nowMs)
	case kite.KindOrder:
		l.proposeOrder(item, nowMs)
	case kite.KindProgress:
		item.TimeMs = nowMs
		l.turn.add(item)
	case kite.KindDead:
		item.TimeMs = nowMs
		item.Seq = l.next(store.Stream(&item.Record))
		l.turn.require(l.classes.Store)
		l.turn.add(item)
	default:
		panic("sequence: submitted a record of kind " + item.Kind.String())
	}
}

func (l *Lane) proposeMessage(item *kite.Item, nowMs int64) {
	t := &l.turn
	if outcome, ok := t.fresh.find(item.ID); ok {
		if repeat(item, outcome) {
			t.items = append(t.items, item) // it stands or falls with the first
		}
		return
	}
	switch outcome, ok, err := l.known(item.ID, nowMs); {
	case err != nil:
		l.refuse(item, err)
		return
	case ok:
		repeat(item, outcome)
		return
	}
	if item.Kind == kite.KindPrepared && len(l.state.open)+t.opened >= l.options.Load().MaxOpen {
		item.Verdict = kite.Busy
		return
	}
	item.TimeMs = nowMs
	item.Outcome = kite.OutcomeUnknown
	if item.DueMs <= nowMs {
		item.DueMs = 0
	}
	if item.Kind == kite.KindPrepared {
		t.opened++
	} else {
		item.Outcome = kite.OutcomeCommitted
		if item.DueMs != 0 {
			item.Kind, item.Seq = kite.KindDelayed, l.nextPlace(item.DueMs)
		} else {
			item.Seq = l.next(item.Topic)
		}
	}
	t.fresh.set(item.ID, item.Outcome)
	t.require(l.classes.Of(item.Topic))
	t.add(item)
}

// repeat writes the verdict on a message whose id is known. What asks for something else than became of
// the id is refused, for it will not be done: a message of a transaction that is not committed, or a new
// transaction under the id of one that was rolled back. It returns false for these.
func repeat(item *kite.Item, outcome kite.Outcome) bool {
	item.Outcome = outcome
	if outcome != kite.OutcomeCommitted && (item.Kind == kite.KindMessage || outcome == kite.OutcomeRolledBack) {
		item.Verdict = kite.TxConflict
		return false
	}
	item.Repeat = true
	return true
}

func (l *Lane) known(id kite.MessageID, nowMs int64) (kite.Outcome, bool, error) {
	if open := l.state.open[id]; open != nil {
		return open.Outcome(), true, nil
	}
	return l.seen.find(id, nowMs)
}

// refuse answers an item of which the journal cannot say whether it is a repeat: to store it twice would be
// as wrong as to drop it.
func (l *Lane) refuse(item *kite.Item, err error) {
	item.Verdict = kite.Unavailable
	l.log.Error("id not looked up, its message is refused", "msg_id", item.ID.String(), "err", err)
}
