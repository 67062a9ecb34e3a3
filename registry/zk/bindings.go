package zk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"

	"github.com/kiteq/kiteq/registry"
)

// WatchBindings implements registry.Registry. Every topic asked for is in the picture. A group whose
// node holds no binding, good or bad, is not.
func (r *Registry) WatchBindings(ctx context.Context, topics []string, changed func(registry.Bindings)) error {
	topics, err := checkTopics(topics)
	if err != nil {
		return err
	}
	p := &bindingsPicture{
		listing: newListing(topics, registry.BindingsNode),
		topics:  topics,
		groups:  map[string]map[string]*boundGroup{},
		origins: map[string]int64{},
		changed: changed,
		log:     r.log,
	}
	for _, topic := range topics {
		p.groups[topic] = map[string]*boundGroup{}
	}
	return r.watch(ctx, "watch bindings", p)
}

type bindingsPicture struct {
	listing  *listing
	topics   []string
	groups   map[string]map[string]*boundGroup // by topic, by group
	origins  map[string]int64                  // by topic: when the node above its groups was made, or 0
	changed  func(registry.Bindings)
	log      *slog.Logger
	differs  bool // from what was reported last
	reported bool
}

// boundGroup is one bind node.
type boundGroup struct {
	topic, group string
	leaf
	known bool // a watch is set
	value registry.GroupBindings
}

// reading is one bind node that a turn reads.
type reading struct {
	*boundGroup
	watch   bool
	found   leaf
	refused error // by the node's ACL
}

// refresh reads the lists of nodes first. A node that was listed and is gone when it is read was
// deleted in between; the watch on the list, set before, tells of it.
func (p *bindingsPicture) refresh(ctx context.Context, s *session, pl plan) error {
	if err := p.listing.refresh(ctx, s, pl); err != nil {
		return err
	}
	if err := p.restore(ctx, s, pl); err != nil {
		return err
	}
	var readings []*reading
	for _, topic := range p.topics {
		p.follow(topic)
		for _, g := range p.groups[topic] {
			if read, watch := pl.reads(registry.BindingNode(topic, g.group), g.known); read {
				readings = append(readings, &reading{boundGroup: g, watch: watch})
			}
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, g := range readings {
		group.Go(func() error { return g.read(ctx, s) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, g := range readings {
		p.adopt(g)
	}
	return nil
}

// follow makes the groups of the topic those that are listed.
func (p *bindingsPicture) follow(topic string) {
	groups, listed := p.groups[topic], map[string]bool{}
	for _, name := range p.listing.nodes[registry.BindingsNode(topic)].children {
		group, ok := registry.GroupOfNode(name)
		if !ok {
			continue
		}
		listed[group] = true
		if groups[group] == nil {
			groups[group] = &boundGroup{topic: topic, group: group}
		}
	}
	for group := range groups {
		if !listed[group] {
			delete(groups, group)
			p.differs = true
		}
	}
}

func (g *reading) read(ctx context.Context, s *session) (err error) {
	path := registry.BindingNode(g.topic, g.group)
	g.found, err = s.read(ctx, path, g.watch)
	if errors.Is(err, zk.ErrNoAuth) {
		// One node with an ACL of its own must not hide the others.
		g.refused, err = fmt.Errorf("%s: %w", path, explain(err)), nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// adopt takes what was read into the picture.
func (p *bindingsPicture) adopt(g *reading) {
	b := g.boundGroup
	switch {
	case g.refused != nil:
		p.differs = p.differs || len(b.value.Bad) != 1 || b.value.Bad[0].Error() != g.refused.Error()
		b.leaf, b.known = leaf{}, false
		b.value = registry.GroupBindings{Group: b.group, Bad: []error{g.refused}}
		return
	case !g.found.exists:
		delete(p.groups[b.topic], b.group)
		p.differs = true
		return
	}
	b.known = b.known || g.watch
	if b.exists && b.sinceMs == g.found.sinceMs && bytes.Equal(b.data, g.found.data) {
		return // set again to what it was, as consumers do when they start
	}
	p.differs = true
	b.leaf = g.found
	good, bad := registry.DecodeBindings(b.topic, b.group, b.data)
	b.value = registry.GroupBindings{Group: b.group, Bindings: good, SinceMs: b.sinceMs, Bad: bad}
}

func (p *bindingsPicture) report() {
	if p.reported && !p.differs {
		return
	}
	p.reported, p.differs = true, false
	bindings := registry.Bindings{}
	for topic, groups := range p.groups {
		bound := []registry.GroupBindings{}
		for _, g := range groups {
			if len(g.value.Bindings)+len(g.value.Bad) > 0 {
				bound = append(bound, g.value)
			}
		}
		slices.SortFunc(bound, func(a, b registry.GroupBindings) int { return strings.Compare(a.Group, b.Group) })
		bindings[topic] = bound
	}
	p.changed(bindings)
}
