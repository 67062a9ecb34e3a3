package sequence

import (
	"fmt"
	"maps"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// State is what the lane knows: a pure function of the journal's records. apply is the only thing
// that changes it, live and in recovery alike, and it reads no clock.
type State struct {
	heads     map[string]kite.Seq // stream -> its newest Seq
	open      map[kite.MessageID]*Undecided
	standings map[flowKey]*kite.Standing
}

// Undecided is an open transaction.
type Undecided struct {
	ID         kite.MessageID
	Topic      string
	Group      string // the publisher's
	Position   kite.Position
	PreparedMs int64
	ExpiresMs  int64
	Parked     bool
}

type flowKey struct{ topic, group string }

func newState() *State {
	return &State{
		heads:     map[string]kite.Seq{},
		open:      map[kite.MessageID]*Undecided{},
		standings: map[flowKey]*kite.Standing{},
	}
}

// apply adds one durable record.
func (s *State) apply(r *kite.Record) error {
	switch r.Kind {
	case kite.KindMessage:
		s.heads[r.Topic] = r.Seq
	case kite.KindPrepared:
		position := r.Position
		if r.Ref != 0 { // from a checkpoint
			position = r.Ref
		}
		s.open[r.ID] = &Undecided{
			ID: r.ID, Topic: r.Topic, Group: string(r.Group), Position: position,
			PreparedMs: r.TimeMs, ExpiresMs: r.ExpiresMs,
		}
	case kite.KindCommit:
		s.heads[r.Topic] = r.Seq
		delete(s.open, r.ID)
	case kite.KindRollback:
		delete(s.open, r.ID)
	case kite.KindPark:
		if open := s.open[r.ID]; open != nil {
			open.Parked = true
		}
	case kite.KindProgress:
		if err := s.standing(r).Apply(r.Body); err != nil {
			return fmt.Errorf("progress of group %s on topic %s: %w", r.Group, r.Topic, err)
		}
	case kite.KindDead:
		letter, err := kite.DecodeDeadLetter(r.Body)
		if err != nil {
			return fmt.Errorf("dead letter of group %s on topic %s: %w", r.Group, r.Topic, err)
		}
		s.heads[store.Stream(r)] = r.Seq
		standing := s.standing(r)
		standing.Settle(kite.Range{From: letter.Seq, To: letter.Seq + 1})
		delete(standing.Retries, letter.Seq)
	case kite.KindHead:
		s.heads[r.Topic] = r.Seq
	default:
		return fmt.Errorf("record of unknown kind %d: it was written by a newer broker", r.Kind)
	}
	return nil
}

func (s *State) standing(r *kite.Record) *kite.Standing {
	key := flowKey{r.Topic, string(r.Group)}
	standing := s.standings[key]
	if standing == nil {
		standing = &kite.Standing{}
		s.standings[key] = standing
	}
	return standing
}

// records yields what a checkpoint holds: applied to an empty state they give this one.
func (s *State) records(yield func(*kite.Record) bool) {
	for _, stream := range slices.Sorted(maps.Keys(s.heads)) {
		if !yield(&kite.Record{Kind: kite.KindHead, Topic: stream, Seq: s.heads[stream]}) {
			return
		}
	}
	for _, open := range s.open {
		r := kite.Record{
			Kind: kite.KindPrepared, ID: open.ID, Topic: open.Topic, Group: []byte(open.Group),
			TimeMs: open.PreparedMs, ExpiresMs: open.ExpiresMs, Ref: open.Position,
		}
		if !yield(&r) {
			return
		}
		park := kite.Record{Kind: kite.KindPark, ID: open.ID, Topic: open.Topic}
		if open.Parked && !yield(&park) {
			return
		}
	}
	for key, standing := range s.standings {
		p := standing.Progress()
		r := kite.Record{Kind: kite.KindProgress, Topic: key.topic, Group: []byte(key.group), Body: kite.AppendProgress(nil, &p)}
		if !yield(&r) {
			return
		}
	}
}

// Recovered is what the parts behind the lane start from.
type Recovered struct {
	// Heads gives each topic's newest Seq.
	Heads map[string]kite.Seq
	// Open are the undecided transactions.
	Open []Undecided
	// Standing returns where a group stands on a topic, or nil if it never settled anything there.
	Standing func(topic, group string) *kite.Standing
}
