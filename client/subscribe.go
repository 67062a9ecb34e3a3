package client

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
	"github.com/kiteq/kiteq/registry"
)

// Binding says which messages of a topic a group wants. Make one with Direct, Regx or Fanout; set
// Durable to false to get only what is published while a member is connected, and Watermark to
// limit the deliveries per second. Order makes a message wait for earlier ones, and Broadcast brings each
// to every member; the first binding of a topic speaks for the others. Group stays empty: it is the client's.
type Binding = kite.Binding

// Values of Binding.Order.
const (
	// OrderByKey lets a message wait for the earlier ones with the same value of the property that
	// OrderKey names, by default kiteq-key. One without the property becomes a dead letter.
	OrderByKey = kite.OrderByKey
	// OrderByTopic lets a message wait for all earlier ones.
	OrderByTopic = kite.OrderByTopic
)

// Direct binds to one message type of the topic.
func Direct(topic, messageType string) Binding { return kite.Direct("", topic, messageType) }

// Regx binds to the message types of the topic in which the RE2 pattern is found, anywhere unless
// anchored by ^ and $.
func Regx(topic, pattern string) Binding { return kite.Regx("", topic, pattern) }

// Fanout binds to every message type of the topic. As with the others, one member of the group gets
// each message.
func Fanout(topic string) Binding { return kite.Fanout("", topic) }

// Subscribe binds the group and gives what is delivered to the handler. It publishes the bindings
// in the registry: those of all live subscriptions of this client on the topic together, in place
// of what the group had bound there before. So every member of a group should subscribe to the
// same. A new group gets what is published from then on. Subscribe does not wait for a broker;
// Ready does. With Options.PreEnv or BoundElsewhere nothing is published.
//
// A delivery goes to the first subscription, in the order of subscribing, that one of whose bindings
// matches its topic and type. Handlers run concurrently, at most Options.Concurrency of the client.
func (c *Client) Subscribe(ctx context.Context, bindings []Binding, handle Handler) (*Subscription, error) {
	if c.closing.Load() {
		return nil, fmt.Errorf("subscribe: %w", errClientClosed())
	}
	s, err := newSubscription(c.options.Group, bindings, handle)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if s.handle = wrap(handle, c.options.Middleware); s.handle == nil {
		return nil, fmt.Errorf("subscribe: %w", kite.Errorf(kite.Invalid, "a function of Options.Middleware returned no handler: let it return next"))
	}
	s.consumer = c.consumer
	where := c.registry
	if c.options.PreEnv || c.options.BoundElsewhere {
		where = nil
	}
	// The handler is there before the binding: from the first delivery on somebody takes it.
	if err := c.consumer.add(ctx, s, where); err != nil {
		return nil, fmt.Errorf("subscribe to %v: %w", s.topics, err)
	}
	c.brokers.follow(s.topics)
	return s, nil
}

// Unbind removes the group's bindings on the topic from the registry: brokers then keep nothing for
// the group there. It is for groups that are not coming back; a member that only stops need not.
func (c *Client) Unbind(ctx context.Context, topic string) error {
	if c.registry == nil {
		return kite.Errorf(kite.Invalid, "unbind from topic %s: there is no registry: set Options.Registry or ZKHost", topic)
	}
	return c.registry.Unbind(ctx, topic, c.options.Group)
}

// Subscription is a handler with what it is for.
type Subscription struct {
	consumer *consumer
	bindings []Binding
	topics   []string // sorted
	handle   Handler

	mu       sync.Mutex
	matchers map[string]*kite.Matcher // by topic; they cache, so they are used under mu
}

func newSubscription(group string, bindings []Binding, handle Handler) (*Subscription, error) {
	switch {
	case handle == nil:
		return nil, kite.Errorf(kite.Invalid, "the handler is nil: give a function")
	case len(bindings) == 0:
		return nil, kite.Errorf(kite.Invalid, "no bindings: give at least one, for example client.Direct(topic, messageType)")
	}
	s := &Subscription{handle: handle, matchers: map[string]*kite.Matcher{}}
	byTopic := map[string][]Binding{}
	for _, b := range bindings {
		if b.Group != "" && b.Group != group {
			return nil, kite.Errorf(kite.Invalid, "binding of group %s to topic %s: this client is of group %s: leave Group empty", b.Group, b.Topic, group)
		}
		b.Group = group
		s.bindings = append(s.bindings, b)
		byTopic[b.Topic] = append(byTopic[b.Topic], b)
	}
	for topic, of := range byTopic {
		m, err := kite.NewMatcher(of)
		if err != nil {
			return nil, err
		}
		s.matchers[topic] = m
		s.topics = append(s.topics, topic)
	}
	slices.Sort(s.topics)
	return s, nil
}

// takes tells whether the subscription wants the message. Unlike the original client's, every kind of
// binding looks at the topic first.
func (s *Subscription) takes(h *protocol.HeaderView) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.matchers[string(h.Topic)]
	return m != nil && m.Matches(h.MessageType)
}

// Stop ends the subscription in this process: what is delivered from now on is refused, so that
// another member gets it. The bindings stay in the registry and durable ones keep collecting; see
// Client.Unbind.
func (s *Subscription) Stop() { s.consumer.remove(s) }

// maxQueued is how many deliveries wait for a handler: the most credit of eight brokers.
const maxQueued = 8 * protocol.MaxCredit

// consumer takes deliveries from all connections and runs the handlers.
type consumer struct {
	options *Options
	run     func(part func(context.Context)) bool
	count   *counters
	log     *slog.Logger
	queue   chan *incoming

	binding       chan struct{} // capacity 1: held while bindings are published
	mu            sync.Mutex
	subscriptions []*Subscription // replaced, never changed
	workers       bool
	closed        bool
}

func newConsumer(o *Options, run func(func(context.Context)) bool, count *counters) *consumer {
	return &consumer{
		options: o, run: run, count: count, log: o.Log.With("component", "client"),
		queue: make(chan *incoming, maxQueued), binding: make(chan struct{}, 1),
	}
}

// add registers the subscription and publishes its bindings together with those of the others on its
// topics. Two at a time would each publish a picture without the other.
func (c *consumer) add(ctx context.Context, s *Subscription, r registry.Registry) error {
	select {
	case c.binding <- struct{}{}:
		defer func() { <-c.binding }()
	case <-ctx.Done():
		return ctx.Err()
	}
	c.mu.Lock()
	c.subscriptions = append(slices.Clip(c.subscriptions), s)
	all := c.subscriptions
	start := !c.workers
	c.workers = true
	c.mu.Unlock()
	if start {
		for range c.options.Concurrency {
			c.run(c.work)
		}
	}
	if r == nil {
		return nil
	}
	if err := r.Bind(ctx, bindingsOn(s.topics, all)); err != nil {
		c.remove(s)
		return fmt.Errorf("publish bindings: %w", err)
	}
	return nil
}

func bindingsOn(topics []string, all []*Subscription) []Binding {
	var bindings []Binding
	for _, s := range all {
		for _, b := range s.bindings {
			if slices.Contains(topics, b.Topic) && !slices.Contains(bindings, b) {
				bindings = append(bindings, b)
			}
		}
	}
	return bindings
}

func (c *consumer) remove(s *Subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subscriptions = slices.DeleteFunc(slices.Clone(c.subscriptions), func(other *Subscription) bool { return other == s })
}

// close refuses deliveries from now on; what is queued is refused when a worker comes to it.
func (c *consumer) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

func (c *consumer) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// find returns the subscription that takes the message, or why none does.
func (c *consumer) find(h *protocol.HeaderView) (s *Subscription, closed bool) {
	c.mu.Lock()
	all, closed := c.subscriptions, c.closed
	c.mu.Unlock()
	if closed {
		return nil, true
	}
	for _, s := range all {
		if s.takes(h) {
			return s, false
		}
	}
	return nil, false
}
