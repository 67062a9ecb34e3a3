package sequence

import (
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// seen is the dedupe window: what the journal has recorded about an id within a time. The journal finds it
// by its index, so the window costs no memory here and no part of a checkpoint.
type seen struct {
	journal store.Journal
	spanMs  int64

	// Of the find under way; look is made once, not for each.
	look    func(*kite.Record) bool
	outcome kite.Outcome
	known   bool
	timeMs  int64  // of the decision
	topic   string // of the decision
	note    []byte // of the decision, good until the next find
}

func newSeen(journal store.Journal, spanMs int64) *seen {
	s := &seen{journal: journal, spanMs: spanMs}
	s.look = s.visit
	return s
}

// find returns how the id stands and whether it is known at nowMs. Open transactions are not asked for here.
func (s *seen) find(id kite.MessageID, nowMs int64) (outcome kite.Outcome, known bool, err error) {
	s.outcome, s.known = kite.OutcomeUnknown, false
	err = s.journal.Find(id, s.sinceMs(nowMs), s.look)
	return s.outcome, s.known, err
}

// sinceMs is the time of the oldest record that counts.
func (s *seen) sinceMs(nowMs int64) int64 { return max(1, nowMs-s.spanMs+1) }

// visit looks at the newest record first and goes on to the one that decided: of a message whose time came, that of
// its wait, if it is still there. A prepared record alone, of a transaction that is not open, has lost its decision
// to a trim: it is as good as forgotten.
func (s *seen) visit(r *kite.Record) bool {
	outcome := kite.OutcomeCommitted
	switch r.Kind {
	case kite.KindMessage, kite.KindCommit, kite.KindDelayed:
	case kite.KindRollback:
		outcome = kite.OutcomeRolledBack
	default:
		return true
	}
	if s.known && r.Kind != kite.KindDelayed {
		return false // of an earlier life of the id
	}
	s.outcome, s.known, s.timeMs, s.topic, s.note = outcome, true, r.TimeMs, r.Topic, s.note[:0]
	if r.Noted() {
		s.note = append(s.note, r.Body...)
	}
	return r.Kind == kite.KindCommit && r.DueMs != 0
}
