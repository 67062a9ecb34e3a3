package metrics

import (
	"cmp"
	"slices"
)

// Other is the topic and the group under which everything is added up that is over the bound. No topic and no group
// can have this name.
const Other = "/other"

// seats bounds how many names have series of their own. Who has one keeps it as long as it is there, or a count
// would wander between its own series and that of the others.
type seats[K comparable] struct {
	max   int
	taken map[K]bool
}

// seat gives seats to as many of the keys as there are, those that come first in the order of compare, and
// takes back those of keys that are not there any more. It returns how many have none.
func (s *seats[K]) seat(keys []K, compare func(a, b K) int) (without int) {
	there := make(map[K]bool, min(len(keys), s.max))
	var others []K
	for _, k := range keys {
		if s.taken[k] {
			there[k] = true
		} else {
			others = append(others, k)
		}
	}
	s.taken = there
	slices.SortFunc(others, compare)
	free := min(s.max-len(there), len(others))
	for _, k := range others[:free] {
		there[k] = true
	}
	return len(others) - free
}

// bounds are the seats of everything that has a name.
type bounds struct {
	topics seats[string]
	groups seats[string]
	flows  seats[[2]string]
}

func newBounds(most int) *bounds {
	return &bounds{topics: seats[string]{max: most}, groups: seats[string]{max: most}, flows: seats[[2]string]{max: most}}
}

// apply adds up what has no seat, and returns how many names that are.
func (b *bounds) apply(s *Snapshot) (without int) {
	var names []string
	for i := range s.Topics {
		names = append(names, s.Topics[i].Name)
	}
	without += b.topics.seat(names, cmp.Compare[string])
	other := Topic{Name: Other}
	topics := s.Topics
	s.Topics = nil
	for _, t := range topics {
		if b.topics.taken[t.Name] {
			s.Topics = append(s.Topics, t)
		} else {
			other.Received, other.Stored = other.Received+t.Received, other.Stored+t.Stored
		}
	}
	if len(s.Topics) < len(topics) {
		s.Topics = append(s.Topics, other)
	}
	return without + b.applyGroups(s) + b.applyFlows(s)
}

func (b *bounds) applyGroups(s *Snapshot) (without int) {
	var names []string
	for group := range s.Members {
		names = append(names, group)
	}
	if without = b.groups.seat(names, cmp.Compare[string]); without == 0 {
		return 0
	}
	members := map[string]int{}
	for group, n := range s.Members {
		if !b.groups.taken[group] {
			group = Other
		}
		members[group] += n
	}
	s.Members = members
	return without
}

func (b *bounds) applyFlows(s *Snapshot) (without int) {
	var names [][2]string
	for i := range s.Flows {
		names = append(names, [2]string{s.Flows[i].Topic, s.Flows[i].Group})
	}
	without = b.flows.seat(names, func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	other := Flow{Topic: Other, Group: Other}
	flows := s.Flows
	s.Flows = nil
	for i, f := range flows {
		if b.flows.taken[names[i]] {
			s.Flows = append(s.Flows, f)
		} else {
			other.add(&f)
		}
	}
	if without > 0 {
		s.Flows = append(s.Flows, other)
	}
	return without
}
