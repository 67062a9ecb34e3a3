package clienttest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

var _ registry.Registry = (*Registry)(nil)

// Registry is a registry.Registry in memory, for one process. Sessions do not exist in it.
type Registry struct {
	mu        sync.Mutex
	brokers   map[string][]string
	bindings  map[string]map[string][]kite.Binding // by topic and group
	producers []string
	announced string // address of Announce
	down      error
	closed    bool
	moved     chan struct{}
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{brokers: map[string][]string{}, bindings: map[string]map[string][]kite.Binding{}, moved: make(chan struct{})}
}

// SetBrokers says which brokers serve the topic, as if they had announced themselves.
func (r *Registry) SetBrokers(topic string, addrs ...string) {
	r.change(func() { r.brokers[topic] = slices.Sorted(slices.Values(addrs)) })
}

// SetDown makes Ready return err and Bind fail with it, until SetDown(nil).
func (r *Registry) SetDown(err error) { r.change(func() { r.down = err }) }

// Bindings returns what is bound on the topic, by group.
func (r *Registry) Bindings(topic string) map[string][]kite.Binding {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.bindings[topic])
}

// Producers returns what AddProducer was told, "topic group" each.
func (r *Registry) Producers() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.producers)
}

// Topics returns the topics that exist, sorted.
func (r *Registry) Topics(context.Context) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.brokers)), r.down
}

func (r *Registry) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.moved)
	r.moved = make(chan struct{})
}

// CreateTopics implements registry.Registry.
func (r *Registry) CreateTopics(_ context.Context, topics []string) error {
	r.change(func() {
		for _, topic := range topics {
			if _, ok := r.brokers[topic]; !ok {
				r.brokers[topic] = nil
			}
		}
	})
	return nil
}

// Announce implements registry.Registry.
func (r *Registry) Announce(ctx context.Context, addr string, topics []string) error {
	if err := r.Withdraw(ctx); err != nil {
		return err
	}
	r.change(func() {
		r.announced = addr
		for _, topic := range topics {
			r.brokers[topic] = slices.Sorted(slices.Values(append(r.brokers[topic], addr)))
		}
	})
	return nil
}

// Withdraw implements registry.Registry.
func (r *Registry) Withdraw(context.Context) error {
	r.change(func() {
		for topic, addrs := range r.brokers {
			r.brokers[topic] = slices.DeleteFunc(slices.Clone(addrs), func(a string) bool { return a == r.announced })
		}
		r.announced = ""
	})
	return nil
}

// WatchBindings implements registry.Registry.
func (r *Registry) WatchBindings(ctx context.Context, topics []string, changed func(registry.Bindings)) error {
	return r.watch(ctx, func() {
		all := registry.Bindings{}
		for _, topic := range topics {
			of := r.Bindings(topic)
			all[topic] = nil
			for _, group := range slices.Sorted(maps.Keys(of)) {
				all[topic] = append(all[topic], registry.GroupBindings{Group: group, Bindings: of[group]})
			}
		}
		changed(all)
	})
}

// WatchBrokers implements registry.Registry.
func (r *Registry) WatchBrokers(ctx context.Context, topics []string, changed func(registry.Brokers)) error {
	return r.watch(ctx, func() {
		all := registry.Brokers{}
		r.mu.Lock()
		for _, topic := range topics {
			all[topic] = r.brokers[topic]
		}
		r.mu.Unlock()
		changed(all)
	})
}

func (r *Registry) watch(ctx context.Context, tell func()) error {
	for {
		r.mu.Lock()
		moved, closed, down := r.moved, r.closed, r.down
		r.mu.Unlock()
		if closed {
			return nil
		}
		if down == nil {
			tell()
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil
		}
	}
}

// Bind implements registry.Registry.
func (r *Registry) Bind(_ context.Context, bindings []kite.Binding) error {
	if err := r.Ready(); err != nil {
		return err
	}
	byTopic := map[string][]kite.Binding{}
	for _, b := range bindings {
		if err := b.Validate(); err != nil {
			return err
		}
		byTopic[b.Topic] = append(byTopic[b.Topic], b)
	}
	r.change(func() {
		for topic, of := range byTopic {
			if r.bindings[topic] == nil {
				r.bindings[topic] = map[string][]kite.Binding{}
			}
			r.bindings[topic][of[0].Group] = of
		}
	})
	return nil
}

// Unbind implements registry.Registry.
func (r *Registry) Unbind(_ context.Context, topic, group string) error {
	r.change(func() { delete(r.bindings[topic], group) })
	return nil
}

// AddProducer implements registry.Registry; the host is not kept.
func (r *Registry) AddProducer(_ context.Context, topic, group, _ string) error {
	r.change(func() { r.producers = append(r.producers, strings.Join([]string{topic, group}, " ")) })
	return nil
}

// Ready implements registry.Registry.
func (r *Registry) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.down
}

// Close implements registry.Registry. Watches end.
func (r *Registry) Close() error {
	r.change(func() { r.closed = true })
	return nil
}

// String names the registry in error texts.
func (r *Registry) String() string { return "memory" }
