package sequence

import (
	"context"

	"github.com/kiteq/kiteq/internal/kite"
)

// Standing is where a group stands on a topic.
type Standing struct {
	Topic, Group string
	*kite.Standing
}

// Standings returns copies of where the groups stand, in no order, after all that was submitted before. An
// empty topic or group means every one. It waits for the lane's turn, as an order would: the state has one
// owner, and who asks comes by the front door.
func (l *Lane) Standings(ctx context.Context, topic, group string) ([]Standing, error) {
	done := make(chan []Standing, 1) // the lane never waits for who asked
	b := &kite.Batch{Owner: l, Release: func(*kite.Batch) { done <- l.state.copyStandings(topic, group) }}
	if err := l.Submit(b); err != nil {
		return nil, err
	}
	select {
	case all := <-done:
		return all, nil
	case <-ctx.Done():
		return nil, &kite.Error{Code: kite.Unavailable, Err: ctx.Err()}
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
