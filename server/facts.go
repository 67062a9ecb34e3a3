package server

import (
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
)

// fact is one record of the journal about a message, without its payload.
type fact struct {
	kite.Record
	note   kite.Note       // of decisions and parkings
	order  kite.Order      // of KindOrder
	letter kite.DeadLetter // of KindDead
}

// maxFacts bounds how many records about one id are looked at.
const maxFacts = 1000

// facts returns what the journal has about the id, the oldest first: nothing when it knows nothing.
func (s *Server) facts(id kite.MessageID) (facts []fact, err error) {
	var malformed error
	err = s.journal.Find(id, 0, func(r *kite.Record) bool {
		f, err := newFact(r)
		if err != nil {
			malformed = err
			return false
		}
		facts = append(facts, f)
		return len(facts) < maxFacts
	})
	if err == nil {
		err = malformed
	}
	slices.Reverse(facts)
	return facts, err
}

// newFact copies what of the view is told.
func newFact(r *kite.Record) (f fact, err error) {
	f.Record = *r
	f.Type, f.Group, f.Body = slices.Clone(r.Type), slices.Clone(r.Group), nil
	switch {
	case r.Noted():
		f.note = kite.DecodeNote(r.Body)
	case r.Kind == kite.KindOrder:
		f.order, err = kite.DecodeOrder(r.Body)
	case r.Kind == kite.KindDead:
		f.letter, err = kite.DecodeDeadLetter(r.Body)
		f.letter.Payload = nil
	}
	return f, err
}
