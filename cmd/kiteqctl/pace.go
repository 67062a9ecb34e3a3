package main

import (
	"context"
	"iter"
	"time"
)

// maxRate bounds --rate, messages a second.
const maxRate = 1e6

// pace lets one thing after the other through, at most rate of them a second. It is used by one goroutine.
type pace struct {
	gap time.Duration // 0: no limit
	due time.Time
}

func newPace(rate float64) (*pace, error) {
	if rate < 0 || rate > maxRate {
		return nil, usage("--rate %g: give messages a second, up to %g, or nothing for no limit", rate, maxRate)
	}
	if rate == 0 {
		return &pace{}, nil
	}
	return &pace{gap: time.Duration(float64(time.Second) / rate)}, nil
}

// wait returns when the next may go, or ctx ends. Who was late does not catch up by more than a tenth of a second.
func (p *pace) wait(ctx context.Context) error {
	if p.gap == 0 {
		return ctx.Err()
	}
	now := time.Now()
	if oldest := now.Add(-100 * time.Millisecond); p.due.Before(oldest) {
		p.due = now
	}
	if early := p.due.Sub(now); early > 0 {
		wait(ctx, early)
	}
	p.due = p.due.Add(p.gap)
	return ctx.Err()
}

// paced gives what all gives, at that pace; ctx ends it.
func paced[T any](ctx context.Context, p *pace, all iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for v, err := range all {
			if err == nil {
				err = p.wait(ctx)
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}
