package sequence

import (
	"context"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
)

// Standing is where a group stands on a topic.
type Standing struct {
	Topic, Group string
	*kite.Standing
}

// Standings returns copies of where the groups stand, in no order, after all that was submitted before. An
// empty topic or group means every one.
func (l *Lane) Standings(ctx context.Context, topic, group string) ([]Standing, error) {
	return ask(ctx, l, func() []Standing { return l.state.copyStandings(topic, group) })
}

// ask waits for the lane's turn, as an order would, and returns what look found then: the state has one owner,
// and who asks comes by the front door. look runs in the lane's goroutine, so it copies and is quick.
func ask[T any](ctx context.Context, l *Lane, look func() T) (found T, err error) {
	done := make(chan T, 1) // the lane never waits for who asked
	b := &kite.Batch{Owner: l, Release: func(*kite.Batch) { done <- look() }}
	if err := l.Submit(b); err != nil {
		return found, err
	}
	select {
	case found = <-done:
		return found, nil
	case <-ctx.Done():
		return found, &kite.Error{Code: kite.Unavailable, Err: ctx.Err()}
	}
}

func (s *State) copyStandings(topic, group string) (all []Standing) {
	for key, standing := range s.standings {
		if (topic == "" || key.topic == topic) && (group == "" || key.group == group) {
			all = append(all, Standing{key.topic, key.group, copyStanding(standing)})
		}
	}
	return all
}

func copyStanding(s *kite.Standing) *kite.Standing {
	copied, err := kite.DecodeStanding(kite.AppendStanding(nil, s))
	if err != nil {
		panic("sequence: a standing does not survive its own encoding: " + err.Error())
	}
	return copied
}

// Waiting is the delayed messages that are due in one minute.
type Waiting struct {
	// Minute is counted from 1970 (kite.Minute). Head is the newest place in it.
	Minute int64
	Head   kite.Seq
	// Gone are the places of those that wait no more.
	Gone kite.Settled
}

// Waiting returns the first limit minutes from on in which messages wait, or waited until a moment ago, in their
// order, after all that was submitted before.
func (l *Lane) Waiting(ctx context.Context, from int64, limit int) ([]Waiting, error) {
	return ask(ctx, l, func() []Waiting { return l.state.copyWaiting(from, limit) })
}

func (s *State) copyWaiting(from int64, limit int) []Waiting {
	var numbers []int64
	for number := range s.delayed {
		if number >= from {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	numbers = numbers[:min(len(numbers), limit)]
	all := make([]Waiting, len(numbers))
	for i, number := range numbers {
		m := s.delayed[number]
		all[i] = Waiting{number, m.head, m.committed.Clone()}
	}
	return all
}
