package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
)

// crowd is a binder that waits until as many groups are at it as may be together.
type crowd struct {
	sync.Mutex
	inside, most int
	once         sync.Once
	full         chan struct{}
}

func (c *crowd) bind(ctx context.Context, r *receipt) error {
	c.Lock()
	if c.inside++; c.inside == together {
		c.once.Do(func() { close(c.full) })
	}
	c.most = max(c.most, c.inside)
	c.Unlock()
	defer func() {
		c.Lock()
		c.inside--
		c.Unlock()
	}()
	select {
	case <-c.full:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (c *crowd) unbind(context.Context, *receipt) error { return errors.New("no") }

// TestBindTogether binds many groups at a time, not one after the other, and names the group that failed.
func TestBindTogether(t *testing.T) {
	t.Parallel()
	o, err := parseOptions(strings.Fields("-broker 127.0.0.1:1 -mode apart -groups 70"), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	b, c := newBench(o), &crowd{full: make(chan struct{})}
	b.binder = c
	if err := b.eachGroup(t.Context(), "bind", c.bind); err != nil || c.most != together {
		t.Errorf("%v; %d at a time, want %d", err, c.most, together)
	}
	if err := b.unbind(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "unbind group s-bench-") {
		t.Errorf("unbinding failed: %v", err)
	}
}
