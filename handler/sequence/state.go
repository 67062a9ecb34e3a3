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
	groups    map[string]string // one copy of each publishing group's name
	delayed   map[int64]minute  // by kite.Minute
	emptied   []int64           // of delayed, those in which nothing waits any more, ascending
	waiting   int               // delayed messages
}

// Undecided is an open transaction.
type Undecided struct {
	ID         kite.MessageID
	Topic      string
	Group      string // the publisher's
	Position   kite.Position
	PreparedMs int64
	ExpiresMs  int64
	DueMs      int64 // when it is committed before this, it waits; 0 for most
	// ParkedMs is when it was set aside for an operator to decide, Unix ms; 0: it was not.
	ParkedMs int64
}

// Outcome is how it stands.
func (u *Undecided) Outcome() kite.Outcome {
	if u.ParkedMs > 0 {
		return kite.OutcomeParked
	}
	return kite.OutcomeUnknown
}

type flowKey struct{ topic, group string }

func newState() *State {
	return &State{
		heads:     map[string]kite.Seq{},
		open:      map[kite.MessageID]*Undecided{},
		standings: map[flowKey]*kite.Standing{},
		groups:    map[string]string{},
		delayed:   map[int64]minute{},
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
			ID: r.ID, Topic: r.Topic, Group: s.group(r.Group), Position: position,
			PreparedMs: r.TimeMs, ExpiresMs: r.ExpiresMs, DueMs: r.DueMs,
		}
	case kite.KindDelayed:
		s.wait(r)
		delete(s.open, r.ID)
	case kite.KindCommit:
		s.heads[r.Topic] = r.Seq
		if r.DueMs != 0 {
			return s.due(r) // decided when it began to wait
		}
		delete(s.open, r.ID)
	case kite.KindRollback:
		delete(s.open, r.ID)
	case kite.KindPark:
		if open := s.open[r.ID]; open != nil {
			open.ParkedMs = r.TimeMs
		}
	case kite.KindProgress:
		standing := s.standing(r)
		if uint64(r.Seq) != standing.Turn {
			return nil // from before a seek
		}
		if err := standing.Apply(r.Body); err != nil {
			return fmt.Errorf("progress of group %s on topic %s: %w", r.Group, r.Topic, err)
		}
	case kite.KindStanding:
		standing, err := kite.DecodeStanding(r.Body)
		if err != nil {
			return fmt.Errorf("standing of group %s on topic %s: %w", r.Group, r.Topic, err)
		}
		s.standings[flowKey{r.Topic, string(r.Group)}] = standing
	case kite.KindOrder:
		return s.order(r)
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
		if number, ok := kite.DelayMinute(r.Topic); ok {
			return s.restore(number, r)
		}
		s.heads[r.Topic] = r.Seq
	default:
		return fmt.Errorf("record of unknown kind %d: it was written by a newer broker", r.Kind)
	}
	return nil
}

// order does what an operator said. What was refused is history only.
func (s *State) order(r *kite.Record) error {
	order, err := kite.DecodeOrder(r.Body)
	if err != nil {
		return fmt.Errorf("order about topic %s, group %s: %w", r.Topic, r.Group, err)
	}
	switch order.Action {
	case kite.ActionRefuse:
	case kite.ActionRecheck:
		if open := s.open[r.ID]; open != nil {
			open.ParkedMs, open.ExpiresMs = 0, 0 // it expired already, or will be parked again for that
		}
	case kite.ActionPause, kite.ActionResume:
		s.standing(r).Paused = order.Action == kite.ActionPause
	case kite.ActionSeek:
		s.standing(r).Seek(r.Seq)
	case kite.ActionCancel:
		s.cancel(r)
	case kite.ActionDiscard:
		s.standing(r).Discard(r.Seq)
	case kite.ActionRequeue:
		s.standing(r).Requeue(r.Seq)
	default:
		return fmt.Errorf("order of unknown action %d: it was written by a newer broker", order.Action)
	}
	return nil
}

func (s *State) group(name []byte) string {
	own, ok := s.groups[string(name)]
	if !ok {
		own = string(name)
		s.groups[own] = own
	}
	return own
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
			TimeMs: open.PreparedMs, ExpiresMs: open.ExpiresMs, DueMs: open.DueMs, Ref: open.Position,
		}
		if !yield(&r) {
			return
		}
		park := kite.Record{Kind: kite.KindPark, ID: open.ID, Topic: open.Topic, TimeMs: open.ParkedMs}
		if open.ParkedMs > 0 && !yield(&park) {
			return
		}
	}
	for key, standing := range s.standings {
		r := kite.Record{Kind: kite.KindStanding, Topic: key.topic, Group: []byte(key.group), Body: kite.AppendStanding(nil, standing)}
		if !yield(&r) {
			return
		}
	}
	s.delays(yield)
}

// Recovered is what the parts behind the lane start from.
type Recovered struct {
	// Heads gives each topic's newest Seq.
	Heads map[string]kite.Seq
	// Open are the undecided transactions.
	Open []Undecided
	// Standing returns where a group stands on a topic, or nil if it never settled anything there.
	Standing func(topic, group string) *kite.Standing
	// Delayed are the minutes (kite.Minute) in which messages wait, with the place before which none does.
	Delayed map[int64]kite.Seq
}
