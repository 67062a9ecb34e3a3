package file

import (
	"maps"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

// picture is what one reading of the file says. It is never changed once it is shown.
type picture struct {
	brokers  registry.Brokers  // of the topics that have any
	bindings registry.Bindings // of the topics that have any
	// notes are what was put right without asking, for the log.
	notes []string
}

// Groups have no time of birth in a file, and a broker needs one: a group that it does not know yet gets
// what was stored since then. Here, SinceMs is
//
//	0      for the groups of the first reading: everything that is retained is theirs. A group that
//	       was added while the broker was down loses nothing, and one that the broker knows goes on
//	       where it stood, whatever we say.
//	looked for a group that comes later: the last time the file was read, was right and did not have it.
//	       What was stored between the edit and the reading that shows it, be it a minute or, with a
//	       mistake in between, a day, is the group's.
//
// A group keeps its time as long as it is in every reading. One that goes and returns begins anew.

// inherit gives every group its SinceMs, from the picture before, which is nil at the first reading.
func (p *picture) inherit(before *picture, lookedMs int64) {
	if before == nil {
		return
	}
	for topic, groups := range p.bindings {
		for i := range groups {
			groups[i].SinceMs = lookedMs
			if old := before.find(topic, groups[i].Group); old != nil {
				groups[i].SinceMs = old.SinceMs
			}
		}
	}
}

// find returns what the group bound on the topic, or nil.
func (p *picture) find(topic, group string) *registry.GroupBindings {
	groups := p.bindings[topic]
	i := slices.IndexFunc(groups, func(g registry.GroupBindings) bool { return g.Group == group })
	if i < 0 {
		return nil
	}
	return &groups[i]
}

// unserved returns the topics for which the file does not list the broker at addr.
func (p *picture) unserved(addr string, topics []string) []string {
	var missing []string
	for _, topic := range topics {
		if !slices.Contains(p.brokers[topic], addr) {
			missing = append(missing, topic)
		}
	}
	return missing
}

// brokersOf returns the part that a watch of the topics shows: every topic that was asked for is in it.
func (p *picture) brokersOf(topics []string) registry.Brokers {
	part := registry.Brokers{}
	for _, topic := range topics {
		part[topic] = p.brokers[topic]
	}
	return part
}

// bindingsOf is brokersOf for bindings.
func (p *picture) bindingsOf(topics []string) registry.Bindings {
	part := registry.Bindings{}
	for _, topic := range topics {
		part[topic] = p.bindings[topic]
	}
	return part
}

func sameBrokers(a, b registry.Brokers) bool { return maps.EqualFunc(a, b, slices.Equal) }

func sameBindings(a, b registry.Bindings) bool {
	return maps.EqualFunc(a, b, func(a, b []registry.GroupBindings) bool { return slices.EqualFunc(a, b, sameGroup) })
}

func sameGroup(a, b registry.GroupBindings) bool {
	sameText := func(a, b error) bool { return a.Error() == b.Error() }
	return a.Group == b.Group && a.SinceMs == b.SinceMs && slices.Equal(a.Bindings, b.Bindings) && slices.EqualFunc(a.Bad, b.Bad, sameText)
}

// difference returns what is wanted and not there, and what is there and not wanted.
func difference(want, have []kite.Binding) (missing, extra []kite.Binding) {
	without := func(list, of []kite.Binding) []kite.Binding {
		return slices.DeleteFunc(slices.Clone(list), func(b kite.Binding) bool { return slices.Contains(of, b) })
	}
	return without(want, have), without(have, want)
}
