package zk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/go-zookeeper/zk"

	"github.com/kiteq/kiteq/registry"
)

// restore gives bindings back to a server that has lost its data. Brokers hold the only copy then: most old
// clients publish their bindings once, and a durable group may have nobody there to do it again.
//
// That the data was lost, and not deleted by somebody, is told by two signs together. The session is a new
// one, since a server without its data does not know the old one; and the node above the bind nodes, which
// brokers make and nobody deletes, is gone or younger than the one we knew. A group that left while we were
// connected is not in the picture any more, and so does not come back.
//
// What others have restored or bound anew meanwhile is kept as it is. A turn that fails on the way begins
// again where it was, for the origin changes last.
func (p *bindingsPicture) restore(ctx context.Context, s *session, pl plan) error {
	for _, topic := range p.topics {
		above := p.listing.nodes[registry.BindingsNode(topic)]
		known := p.origins[topic]
		if pl.all && known != 0 && known != above.sinceMs {
			if err := p.restoreTopic(ctx, s, topic, above); err != nil {
				return err
			}
		}
		p.origins[topic] = above.sinceMs
	}
	return nil
}

func (p *bindingsPicture) restoreTopic(ctx context.Context, s *session, topic string, above *listedNode) error {
	var restored []string
	for _, group := range slices.Sorted(maps.Keys(p.groups[topic])) {
		g := p.groups[topic][group]
		node := registry.BindingNode(topic, group)
		if name := path.Base(node); !g.exists || slices.Contains(above.children, name) {
			continue
		}
		if err := s.create(ctx, node, g.data); err != nil {
			return fmt.Errorf("%s: %w", node, err)
		}
		restored = append(restored, group)
	}
	// Listed as if they had been there: nobody is to see a picture without them.
	above.children = slices.Clone(above.children)
	for _, group := range restored {
		above.children = append(above.children, path.Base(registry.BindingNode(topic, group)))
	}
	slices.Sort(above.children)
	if len(restored) > 0 {
		p.log.Warn("the registry has lost its data: bindings restored", "topic", topic, "groups", restored)
	}
	return nil
}

// create makes a persistent node with its data, and leaves one that is there as it is.
func (s *session) create(ctx context.Context, node string, data []byte) error {
	above := registry.Ancestors(node)
	if err := s.ensure(ctx, above[len(above)-1]); err != nil {
		return err
	}
	_, err := ask(ctx, s, func(c *zk.Conn) (string, error) {
		return c.Create(s.root+node, data, zk.FlagPersistent, zk.WorldACL(zk.PermAll))
	})
	if errors.Is(err, zk.ErrNodeExists) {
		return nil
	}
	return err
}
