package client

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// broadcast wakes everybody who waits for a change. Its owner's lock guards it.
type broadcast struct{ c chan struct{} }

// wait returns a channel that the next notify closes.
func (b *broadcast) wait() <-chan struct{} {
	if b.c == nil {
		b.c = make(chan struct{})
	}
	return b.c
}

func (b *broadcast) notify() {
	if b.c != nil {
		close(b.c)
		b.c = nil
	}
}

// gauge counts work under way, and lets others wait for its end.
type gauge struct {
	mu   sync.Mutex
	n    int
	zero broadcast
}

func (g *gauge) add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n += n; g.n == 0 {
		g.zero.notify()
	}
}

// done is add(-1), to be deferred.
func (g *gauge) done() { g.add(-1) }

func (g *gauge) value() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

// idle waits until there is no work, or ctx ends.
func (g *gauge) idle(ctx context.Context) error {
	g.mu.Lock()
	for g.n > 0 {
		zero := g.zero.wait()
		g.mu.Unlock()
		select {
		case <-zero:
		case <-ctx.Done():
			return ctx.Err()
		}
		g.mu.Lock()
	}
	g.mu.Unlock()
	return nil
}

// backoff gives growing pauses between attempts: each twice the last, from min to max, less a
// random part of up to a half so that many clients do not come back together.
type backoff struct {
	min, max time.Duration
	last     time.Duration
}

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, b.min), b.max)
	return b.last - rand.N(b.last/2)
}

func (b *backoff) reset() { b.last = 0 }

// pause waits for d, or until ctx ends and then returns its error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// crew runs the client's goroutines under one context and waits for them.
type crew struct {
	mu      sync.Mutex
	closed  bool
	members sync.WaitGroup
	start   func(part func(context.Context))
	cancel  context.CancelFunc
}

// newCrew's goroutines keep ctx's values but not its end: that is cancel's and join's.
func newCrew(ctx context.Context) *crew {
	c := &crew{}
	ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.start = func(part func(context.Context)) { c.members.Go(func() { part(ctx) }) }
	return c
}

// run starts the part in a goroutine, unless the crew was joined; it reports whether it did.
func (c *crew) run(part func(context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.start(part)
	}
	return !c.closed
}

// join cancels the context and waits for all parts.
func (c *crew) join() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.members.Wait()
}
