package page

import (
	"context"
	"sync"
	"time"

	"github.com/kiteq/kiteq/internal/operate"
)

// census is every group of the broker, counted only while somebody looks. Counting ten thousand groups costs the
// shards and the lane a moment each, so one count serves everybody for a while: for two seconds, or for fifty times
// as long as it took.
type census struct {
	broker Broker

	mu     sync.Mutex // held while it counts: who comes meanwhile gets the same count
	groups operate.Groups
	until  time.Time
}

// The shortest life of a count, and the part of the broker's time that counting may take.
const (
	censusEvery = sampleEvery
	censusShare = 50
)

// take returns the groups by topic and group, at most a few seconds old. The caller must not change them.
func (c *census) take(ctx context.Context) (operate.Groups, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	begun := time.Now()
	if begun.Before(c.until) {
		return c.groups, nil
	}
	groups, err := c.broker.Groups(ctx, operate.Filter{})
	if err != nil {
		return operate.Groups{}, err
	}
	now := time.Now()
	c.groups, c.until = groups, now.Add(max(censusEvery-sampleEvery/4, censusShare*now.Sub(begun)))
	return groups, nil
}

// forget has the next one counted anew: an order changed something.
func (c *census) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = time.Time{}
}
