package exchange

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/kiteq/kiteq/internal/kite"
)

// Exchange gives the current routes. Reading takes no lock.
type Exchange struct{ table atomic.Pointer[table] }

type table struct {
	topics map[string]bool
	routes []kite.Route              // by topic, then group
	index  map[[2]string]*kite.Route // topic, group
}

// Swap replaces the whole table: the topics whose bindings are known, and the routes, which now belong to
// the exchange.
func (e *Exchange) Swap(topics []string, routes []kite.Route) {
	slices.SortFunc(routes, func(a, b kite.Route) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Group, b.Group))
	})
	t := &table{topics: make(map[string]bool, len(topics)), routes: routes, index: make(map[[2]string]*kite.Route, len(routes))}
	for i := range routes {
		t.index[[2]string{routes[i].Topic, routes[i].Group}] = &routes[i]
	}
	for _, topic := range topics {
		t.topics[topic] = true
	}
	e.table.Store(t)
}

// Loaded tells whether there was a Swap: before it nobody knows who is bound.
func (e *Exchange) Loaded() bool { return e.table.Load() != nil }

// Knows tells whether the topic's bindings are known: of one that is not served nobody can say who
// waits for its messages.
func (e *Exchange) Knows(topic string) bool {
	t := e.table.Load()
	return t != nil && t.topics[topic]
}

// Routes returns every route, by topic and group. The caller must not change them.
func (e *Exchange) Routes() []kite.Route {
	if t := e.table.Load(); t != nil {
		return t.routes
	}
	return nil
}

// Route finds one route, or nil.
func (e *Exchange) Route(topic, group string) *kite.Route {
	if t := e.table.Load(); t != nil {
		return t.index[[2]string{topic, group}]
	}
	return nil
}
