package registry

import (
	"context"

	"github.com/kiteq/kiteq/internal/kite"
)

// Registry is a session with the place where brokers and clients find each other. It survives
// disconnects by itself: what was announced is announced again when a session was lost, and
// watches go on. Every method is safe for concurrent use.
type Registry interface {
	// CreateTopics makes the topics visible to clients, without a broker. It is done before
	// Announce, since old Java clients never find a topic that did not exist when they started.
	CreateTopics(ctx context.Context, topics []string) error

	// Announce publishes that the broker at addr ("ip:port", exactly what clients dial) serves the
	// topics, until Withdraw. Leftovers of an earlier run are removed first, and the gap is wide
	// enough for clients to see it. A second call replaces the topics of the first.
	Announce(ctx context.Context, addr string, topics []string) error

	// Withdraw removes what Announce published.
	Withdraw(ctx context.Context) error

	// WatchBindings calls changed with a complete picture: once when the first is read, then after
	// every change, never concurrently. It returns when ctx ends, with nil, or when the registry is closed.
	WatchBindings(ctx context.Context, topics []string, changed func(Bindings)) error

	// WatchBrokers calls changed with the brokers of each topic: once when first read, then after
	// every change, never concurrently. It returns as WatchBindings does.
	WatchBrokers(ctx context.Context, topics []string, changed func(Brokers)) error

	// Bind publishes the bindings of one group, topic by topic: on each topic named in them the
	// group's earlier bindings are replaced.
	Bind(ctx context.Context, bindings []kite.Binding) error

	// Unbind removes the group's bindings on the topic. A group that has none is no error.
	Unbind(ctx context.Context, topic, group string) error

	// AddProducer publishes, for operators only, that the group publishes to the topic from host.
	AddProducer(ctx context.Context, topic, group, host string) error

	// Ready returns nil while there is a session, or why there is none.
	Ready() error

	// Close ends the session, and with it what was announced. A second Close is harmless.
	Close() error
}

// Peers is a registry in which brokers that share a store see each other. Only one that knows when a
// process is gone can be it.
type Peers interface {
	// Join publishes that the broker with this id runs, until Close or the end of the session; a new
	// session publishes it again. A leftover of an earlier process is removed first.
	Join(ctx context.Context, id string) error

	// WatchPeers calls changed with the ids of those who run, sorted: once when first read, then after
	// every change, never concurrently. While Ready returns an error the newest picture may be old. It
	// returns as WatchBindings does.
	WatchPeers(ctx context.Context, changed func(ids []string)) error
}

// Brokers gives the addresses that serve each topic, sorted. The receiver must not change it.
type Brokers map[string][]string

// Bindings gives each topic's bound groups, sorted by name. The receiver must not change it.
type Bindings map[string][]GroupBindings

// GroupBindings is what one group bound on one topic.
type GroupBindings struct {
	Group    string
	Bindings []kite.Binding
	// SinceMs is when the group was first bound, by the registry's clock, Unix ms.
	SinceMs int64
	// Bad lists what was left out of Bindings because it could not be understood.
	Bad []error
}
