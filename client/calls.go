package client

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// call is one publish or verdict on its way to one broker.
type call struct {
	done     chan struct{} // closed when err is final
	err      error
	receipt  *protocol.TxReceipt // of a verdict that was answered
	opaque   uint32
	deadline time.Time
}

// settle ends the call. Whoever took it out of its table does it, so it happens once.
func (c *call) settle(err error) {
	c.err = err
	close(c.done)
}

// calls are the requests that this side made on one connection, by opaque. What the broker
// requests never enters here: its opaques are its own, and the two may be equal.
type calls struct {
	mu   sync.Mutex
	last uint32
	open map[uint32]*call
	err  error // set when the connection is gone
}

// firstOpaque begins the range of our own opaques. The original broker counts up from 1 and takes a
// request of ours with a number of its own for an answer, so we stay away from there; and 0 means
// "none" to it.
const firstOpaque = 0x8000_0000

// newCalls starts at a random place in the range, so that a broker that confuses connections does
// not mix up ours.
func newCalls() *calls {
	return &calls{last: firstOpaque + rand.Uint32N(firstOpaque), open: map[uint32]*call{}}
}

// opaque returns a number that no open call has.
func (t *calls) opaque() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opaqueLocked()
}

func (t *calls) opaqueLocked() uint32 {
	for {
		t.last = max(t.last+1, firstOpaque) // past 0xFFFFFFFF it wraps to 0, hence to the first
		if _, taken := t.open[t.last]; !taken {
			return t.last
		}
	}
}

// add enters the call under a new opaque.
func (t *calls) add(c *call, deadline time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	c.opaque, c.deadline = t.opaqueLocked(), deadline
	t.open[c.opaque] = c
	return nil
}

// take removes and returns the call with the opaque, or nil when there is none.
func (t *calls) take(opaque uint32) *call {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.open[opaque]
	delete(t.open, opaque)
	return c
}

// overdue removes and returns the calls whose deadline has passed. One pass over the table a few
// times per timeout is cheaper than a timer for each publish.
func (t *calls) overdue(now time.Time) []*call {
	t.mu.Lock()
	defer t.mu.Unlock()
	var late []*call
	for opaque, c := range t.open {
		if !now.Before(c.deadline) {
			delete(t.open, opaque)
			late = append(late, c)
		}
	}
	return late
}

// close refuses every later add with err and returns the calls that were open.
func (t *calls) close(err error) []*call {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return nil
	}
	t.err = kite.Errorf(kite.Unavailable, "%w", err)
	var left []*call
	for _, c := range t.open {
		left = append(left, c)
	}
	clear(t.open)
	return left
}
