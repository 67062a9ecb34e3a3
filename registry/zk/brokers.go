package zk

import (
	"context"

	"github.com/kiteq/kiteq/registry"
)

// WatchBrokers implements registry.Registry. Every topic asked for is in the picture, also one that
// has no broker or no node yet.
func (r *Registry) WatchBrokers(ctx context.Context, topics []string, changed func(registry.Brokers)) error {
	topics, err := checkTopics(topics)
	if err != nil {
		return err
	}
	p := &brokersPicture{listing: newListing(topics, registry.TopicNode), topics: topics, changed: changed}
	return r.watch(ctx, "watch brokers", p)
}

type brokersPicture struct {
	*listing // refreshes
	topics   []string
	changed  func(registry.Brokers)
	reported bool
}

func (p *brokersPicture) report() {
	differs := !p.reported
	brokers := registry.Brokers{}
	for _, topic := range p.topics {
		node := p.nodes[registry.TopicNode(topic)]
		differs = differs || node.changed
		node.changed = false
		brokers[topic] = node.children // replaced, never changed
	}
	if differs {
		p.reported = true
		p.changed(brokers)
	}
}
