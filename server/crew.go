package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// crew runs the parts, each in its goroutine, and stops them one by one in the order of the caller.
type crew struct {
	ctx    context.Context //nolint:containedctx // the parts' common parent: it ends only by stop
	failed chan error      // the first part that ended by itself
	parts  map[string]*part

	mu       sync.Mutex
	failures []error
}

type part struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func newCrew(ctx context.Context) *crew {
	return &crew{ctx: ctx, failed: make(chan error, 1), parts: map[string]*part{}}
}

// start runs a part until stop. A part that ends with an error before is reported on failed.
func (c *crew) start(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(c.ctx)
	p := &part{cancel: cancel, done: make(chan struct{})}
	c.parts[name] = p
	go func() {
		defer close(p.done)
		err := run(ctx)
		if err == nil {
			return
		}
		err = fmt.Errorf("%s: %w", name, err)
		if ctx.Err() == nil {
			select {
			case c.failed <- err:
				return
			default:
			}
		}
		c.mu.Lock()
		c.failures = append(c.failures, err)
		c.mu.Unlock()
	}()
}

// stop ends the part and waits for it. A part that was never started is none.
func (c *crew) stop(name string) {
	if p := c.parts[name]; p != nil {
		p.cancel()
		<-p.done
	}
}

// err returns what parts said when they were stopped.
func (c *crew) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.failures...)
}
