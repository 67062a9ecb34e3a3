package client

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

// brokers knows which brokers serve which topic and keeps one link to each.
type brokers struct {
	options  *Options
	registry registry.Registry // nil with static addresses only
	connect  func(addr string) *link
	run      func(part func(context.Context)) bool
	log      *slog.Logger

	mu       sync.Mutex
	followed map[string]bool     // topics
	addrs    map[string][]string // of each topic, as last heard
	links    map[string]*link    // by address, the retired ones not
	leaving  map[*link]bool      // retired, with work under way
	routes   map[string][]*link  // of each topic
	moved    broadcast           // routes, or the state of a link, changed
}

func newBrokers(o *Options, r registry.Registry, run func(func(context.Context)) bool, in inbound, count *counters) *brokers {
	b := &brokers{
		options: o, registry: r, run: run, log: o.Log.With("component", "client"),
		followed: map[string]bool{}, addrs: map[string][]string{}, links: map[string]*link{}, leaving: map[*link]bool{},
		routes: map[string][]*link{},
	}
	b.connect = func(addr string) *link { return newLink(addr, o, in, count, b.notify) }
	return b
}

func (b *brokers) notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.moved.notify()
}

// follow begins to keep links to the brokers of the topics. Topics that are followed already are
// left out.
func (b *brokers) follow(topics []string) {
	b.mu.Lock()
	var fresh []string
	for _, topic := range topics {
		if !b.followed[topic] {
			b.followed[topic] = true
			fresh = append(fresh, topic)
		}
	}
	b.mu.Unlock()
	switch {
	case len(fresh) == 0:
	case len(b.options.Brokers) > 0:
		all := registry.Brokers{}
		for _, topic := range fresh {
			all[topic] = b.options.Brokers
		}
		b.update(fresh, all)
	default:
		b.run(func(ctx context.Context) { b.watch(ctx, fresh) })
	}
}

// watch hands on what the registry says until ctx ends.
func (b *brokers) watch(ctx context.Context, topics []string) {
	pauses := backoff{min: connectPauseMin, max: connectPauseMax}
	for {
		err := b.registry.WatchBrokers(ctx, topics, func(heard registry.Brokers) {
			pauses.reset()
			b.update(topics, heard)
		})
		if ctx.Err() != nil {
			return
		}
		b.log.Warn("the registry ended the watch of brokers, trying again", "topics", topics, "err", err)
		if pause(ctx, pauses.next()) != nil {
			return
		}
	}
}

// update makes the links fit what was heard of the topics.
func (b *brokers) update(topics []string, heard registry.Brokers) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, topic := range topics {
		b.addrs[topic] = heard[topic]
	}
	wanted := map[string]bool{}
	routes := make(map[string][]*link, len(b.addrs))
	for topic, addrs := range b.addrs {
		for _, addr := range addrs {
			wanted[addr] = true
			if l := b.linkLocked(addr); l != nil {
				routes[topic] = append(routes[topic], l)
			}
		}
	}
	for addr, l := range b.links {
		if !wanted[addr] {
			delete(b.links, addr)
			b.leaving[l] = true
			close(l.retired)
		}
	}
	b.routes = routes
	b.moved.notify()
}

// linkLocked returns the link to the broker, a new one if need be, nil when the client is closed.
func (b *brokers) linkLocked(addr string) *link {
	l := b.links[addr]
	if l == nil {
		l = b.connect(addr)
		started := b.run(func(ctx context.Context) {
			l.run(ctx)
			b.mu.Lock()
			defer b.mu.Unlock()
			delete(b.leaving, l)
		})
		if !started {
			return nil
		}
		b.links[addr] = l
	}
	return l
}

// choice is where a publish may go.
type choice struct {
	topic   string
	prefer  *link   // taken while it is live: it knows the message's id
	avoid   *link   // taken only when no other one is live
	refused []*link // do not serve the topic, whatever the registry says
}

// pick returns a random live connection to a broker of the topic, and waits for one until ctx ends.
func (b *brokers) pick(ctx context.Context, want choice) (*conn, error) {
	for {
		b.mu.Lock()
		c, all := want.among(b.routes[want.topic])
		var moved <-chan struct{}
		if c == nil {
			moved = b.moved.wait()
		}
		b.mu.Unlock()
		switch {
		case c != nil:
			return c, nil
		case all:
			return nil, kite.Errorf(kite.NotServed, "every broker of topic %s that %s names says that it does not serve it: check the broker's topics", want.topic, b.options.source())
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, b.unserved(ctx, want.topic)
		}
	}
}

// among chooses from the links; all tells that each of them refused the topic.
func (want *choice) among(links []*link) (c *conn, all bool) {
	if want.prefer != nil {
		if c := want.prefer.conn(); c != nil {
			return c, false
		}
	}
	all = len(links) > 0
	start := 0
	if len(links) > 1 {
		start = rand.IntN(len(links))
	}
	for i := range links {
		l := links[(start+i)%len(links)]
		if slices.Contains(want.refused, l) {
			continue
		}
		all = false
		if live := l.conn(); live != nil {
			if l != want.avoid {
				return live, false
			}
			c = live
		}
	}
	return c, all
}

// unserved explains why there is no live broker of the topic.
func (b *brokers) unserved(ctx context.Context, topic string) error {
	var registryDown error
	if b.registry != nil {
		registryDown = b.registry.Ready()
	}
	links := b.of(topic)
	reasons := make([]string, 0, len(links))
	for _, l := range links {
		reason := "not connected yet"
		if err := l.why(); err != nil {
			reason = err.Error()
		}
		reasons = append(reasons, l.addr+": "+reason)
	}
	source := b.options.source()
	switch {
	case len(links) > 0:
		return kite.Errorf(kite.Unavailable, "no live broker of topic %s (%s): %w", topic, strings.Join(reasons, "; "), ctx.Err())
	case registryDown != nil:
		return kite.Errorf(kite.Unavailable, "no broker of topic %s known: %s is not reachable: %w (%w)", topic, source, registryDown, ctx.Err())
	}
	return kite.Errorf(kite.Unavailable, "no broker of topic %s in %s: start one that serves it: %w", topic, source, ctx.Err())
}

// of returns the links to the brokers of the topic.
func (b *brokers) of(topic string) []*link {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.routes[topic] // replaced, never changed
}

// all returns every link, the retired ones that still have work included.
func (b *brokers) all() []*link {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []*link
	for _, l := range b.links {
		all = append(all, l)
	}
	return slices.AppendSeq(all, maps.Keys(b.leaving))
}

// ready waits until the topic has a live broker. When every broker refuses the client it does not
// wait on.
func (b *brokers) ready(ctx context.Context, topic string) error {
	for {
		b.mu.Lock()
		links, moved := b.routes[topic], b.moved.wait()
		b.mu.Unlock()
		var refusals []error
		for _, l := range links {
			if l.conn() != nil {
				return nil
			}
			if err := l.why(); errors.Is(err, kite.Unauthorized) {
				refusals = append(refusals, err)
			}
		}
		if len(links) > 0 && len(refusals) == len(links) {
			return errors.Join(refusals...)
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return b.unserved(ctx, topic)
		}
	}
}

// await returns the link's connection and waits for one until ctx ends.
func (b *brokers) await(ctx context.Context, l *link) (*conn, error) {
	for {
		b.mu.Lock()
		c, moved := l.conn(), b.moved.wait()
		b.mu.Unlock()
		if c != nil {
			return c, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, kite.Errorf(kite.Unavailable, "broker %s is not connected: %w", l.addr, ctx.Err())
		}
	}
}
