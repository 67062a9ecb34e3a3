package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

// Client is one member of a group, connected to all brokers of its topics. Every method is safe for
// concurrent use.
type Client struct {
	options  Options
	registry registry.Registry // nil: static brokers, nothing is published
	brokers  *brokers
	consumer *consumer
	checker  *checker
	count    counters
	parts    *crew // of the client: end soon after they are told to
	users    *crew // handlers and checks: end when the user's code does
	closing  atomic.Bool
	closed   sync.Once
}

// Dial connects to the brokers and returns when every one of Options.Topics has a live one, or at
// once when Options.Lazy. An error names the topic that has none until ctx ends, and why. ctx's end does
// not end the Client: Close does.
func Dial(ctx context.Context, o Options) (*Client, error) {
	o = o.WithDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.Group = o.member()
	c := &Client{options: o, registry: o.Registry, parts: newCrew(ctx), users: newCrew(ctx)}
	if o.ZKHost != "" {
		if err := c.openRegistry(); err != nil {
			return nil, err
		}
	}
	c.consumer = newConsumer(&c.options, c.users.run, &c.count)
	c.checker = newChecker(&c.options, c.users.run, &c.count)
	c.brokers = newBrokers(&c.options, c.registry, c.parts.run, requests{c.consumer, c.checker}, &c.count)
	if err := c.start(ctx); err != nil {
		c.shut()
		return nil, fmt.Errorf("dial: %w", err)
	}
	return c, nil
}

// requests is where a connection hands what its broker asks for.
type requests struct {
	*consumer
	*checker
}

func (c *Client) start(ctx context.Context) error {
	c.brokers.follow(c.options.Topics)
	if c.options.Lazy {
		c.parts.run(c.show)
		return nil
	}
	if err := c.Ready(ctx, c.options.Topics...); err != nil {
		return err
	}
	c.show(ctx)
	return nil
}

// show publishes that the group publishes. Nobody but operators reads it, so a failure is no reason not
// to go on.
func (c *Client) show(ctx context.Context) {
	if c.registry == nil {
		return
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	for _, topic := range c.options.Topics {
		if err := c.registry.AddProducer(ctx, topic, c.options.Group, host); err != nil {
			c.options.Log.Warn("producer not shown in the registry", "component", "client", "topic", topic, "err", err)
		}
	}
}

// Ready waits until each of the topics, published or subscribed to, has a live broker. The error
// names the first that has none when ctx ends, and why.
func (c *Client) Ready(ctx context.Context, topics ...string) error {
	for _, topic := range topics {
		if err := c.brokers.ready(ctx, topic); err != nil {
			return err
		}
	}
	return nil
}

// Stats returns what was counted since Dial.
func (c *Client) Stats() Stats { return c.count.stats() }

// Close ends the client in order: publishes and deliveries are refused from now on, those under
// way are finished, with handlers, checks and transactions, their answers are written, and the
// connections closed. When ctx ends first, the rest is cut off: the handlers' contexts
// end, and Close returns an error that says what was still under way, without waiting for them.
// A second Close returns nil at once.
func (c *Client) Close(ctx context.Context) error {
	var err error
	c.closed.Do(func() {
		c.closing.Store(true)
		c.consumer.close()
		err = c.drain(ctx)
		c.shut()
		err = errors.Join(err, c.leaveUsers(ctx))
	})
	return err
}

// drain waits for the work with every broker, then for its answers to be written.
func (c *Client) drain(ctx context.Context) error {
	var late []error
	for _, l := range c.brokers.all() {
		if l.work.idle(ctx) != nil {
			late = append(late, kite.Errorf(kite.Indeterminate, "close: %d publishes, deliveries or transactions with broker %s were cut off: %w", l.work.value(), l.addr, ctx.Err()))
			continue
		}
		if conn := l.conn(); conn != nil {
			if err := conn.out.flush(ctx); err != nil && ctx.Err() != nil {
				late = append(late, kite.Errorf(kite.Indeterminate, "close: answers to broker %s were not written: %w", l.addr, err))
			}
		}
	}
	return errors.Join(late...)
}

// shut ends the client's own goroutines, and with them the connections.
func (c *Client) shut() {
	c.closing.Store(true)
	c.users.cancel()
	c.parts.join()
}

// leaveUsers waits for the user's code until ctx ends.
func (c *Client) leaveUsers(ctx context.Context) error {
	left := make(chan struct{})
	go func() {
		defer close(left)
		c.users.join()
	}()
	select {
	case <-left:
		return nil
	case <-ctx.Done():
	}
	// Their contexts ended a moment ago: those that obey are given the time to.
	grace := time.NewTimer(lingerTimeout)
	defer grace.Stop()
	select {
	case <-left:
		return nil
	case <-grace.C:
		return kite.Errorf(kite.Indeterminate, "close: a handler or check still runs and ignores its context: %w", ctx.Err())
	}
}
