package admin

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// sampleEvery is how often the broker is looked at: the counts of /stat and /binds are those of the last
// whole second, and reading them resets nothing.
const sampleEvery = time.Second

// sampler remembers the last second.
type sampler struct {
	broker Broker
	log    *slog.Logger
	newest atomic.Pointer[sample]

	// Owned by run.
	before Counters
	at     time.Time // of before; zero before the first
}

// sample is a second of the broker.
type sample struct {
	stat  stat
	binds binds
}

func newSampler(broker Broker, log *slog.Logger) *sampler {
	s := &sampler{broker: broker, log: log}
	s.newest.Store(&sample{newStat(Counters{}, Counters{}, 0), newBinds(Counters{}, Counters{}, 0)})
	return s
}

// run samples until ctx ends.
func (s *sampler) run(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		s.take(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// take looks at the broker. When it does not answer the last sample stays.
func (s *sampler) take(ctx context.Context) {
	now, err := s.broker.Counters(ctx)
	if err != nil {
		s.log.Debug("counters not read", "err", err)
		return
	}
	at := time.Now()
	var elapsed time.Duration
	if !s.at.IsZero() {
		elapsed = at.Sub(s.at)
	}
	s.newest.Store(&sample{newStat(s.before, now, elapsed), newBinds(s.before, now, elapsed)})
	s.before, s.at = now, at
}
