package zk

import (
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/registry"
)

// TestSpacing keeps the pause between the nodes of few topics, and all pauses of many within a bound.
func TestSpacing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		set  time.Duration
		n    int
		want time.Duration
	}{
		{20 * time.Millisecond, 0, 20 * time.Millisecond},
		{20 * time.Millisecond, 250, 20 * time.Millisecond},
		{20 * time.Millisecond, 1000, 5 * time.Millisecond},
		{-1, 1000, -1},
	} {
		if got := (Options{Spacing: c.set}).spacing(c.n); got != c.want {
			t.Errorf("%v for %d nodes: %v, want %v", c.set, c.n, got, c.want)
		}
	}
}

// TestNodesShuffled has the node of every topic, in no order, and the broker's own last: it says that the others
// are there.
func TestNodesShuffled(t *testing.T) {
	t.Parallel()
	w := &wish{addr: "10.0.0.1:13800", peer: "p", topics: []string{"a", "b", "c", "d", "e", "f", "g", "h"}}
	orders := map[string]bool{}
	for range 50 {
		nodes := w.nodes()
		if len(nodes) != 10 || nodes[0] != registry.PeerNode("p") || nodes[9] != registry.AliveNode(w.addr) {
			t.Fatalf("%q", nodes)
		}
		orders[nodes[1]] = true
		for _, topic := range w.topics {
			if !slices.Contains(nodes, registry.BrokerNode(topic, w.addr)) {
				t.Errorf("no node of topic %s", topic)
			}
		}
	}
	if len(orders) == 1 {
		t.Error("always the same first topic")
	}
}
