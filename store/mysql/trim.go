package mysql

import (
	"context"
	"slices"

	"github.com/kiteq/kiteq/store"
)

// Trim deletes rows that nobody needs, of complete units that are old enough: of each stream those before its
// floor, and of what has no stream, all. See store.Journal. What it reports as units are deletions of up to
// trimRows rows. While Run is there it does this in the background, and what is reported is what was done since
// the last Trim. An error of code Unavailable says that the database does not answer; the rest goes another time.
func (j *Journal) Trim(needs store.Needs) (store.Trimmed, error) {
	if err := j.usable(); err != nil {
		return store.Trimmed{}, err
	}
	j.takeOutPassed()
	if needs.SeenMs > 0 {
		j.ids.forget(needs.SeenMs)
	}
	s := j.newSweep(needs)
	if j.sweeping.Load() {
		select {
		case j.sweeps <- s:
		default: // it is still at the last one
		}
		return j.report(), nil
	}
	err := s.run(nil)
	j.takeOutPassed()
	return j.report(), err
}

// Run deletes what Trim has found, until ctx ends. Close comes after it.
func (j *Journal) Run(ctx context.Context) error {
	j.sweeping.Store(true)
	defer j.sweeping.Store(false)
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-j.sweeps:
			if err := s.run(ctx.Done()); err != nil && ctx.Err() == nil {
				j.log.Warn("trim not finished, the rest goes another time", "err", err)
			}
		}
	}
}

// report returns what was swept since the last time.
func (j *Journal) report() store.Trimmed {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.swept
	j.swept = store.Trimmed{}
	return t
}

// takeOutPassed forgets the minutes of which nothing is left, and the units. Only the lane may: a stream that it
// is about to add to must stay.
func (j *Journal) takeOutPassed() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, st := range j.passed {
		if st.first >= st.next && j.streams[st.name] == st {
			delete(j.streams, st.name) // nobody needs to know where it ended
		}
	}
	j.passed = nil
	gone := 0
	for gone < len(j.units) && j.units[gone].last < j.lowest {
		gone++
	}
	if gone > 0 {
		j.units = slices.Clone(j.units[gone:]) // the old array would keep its size
	}
}
