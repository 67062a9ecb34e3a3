package deliver

import "github.com/kiteq/kiteq/internal/kite"

// A flow that is blocked does nothing until somebody in its group has credit. A stalled one goes on, and
// has messages for one member, without credit now: the next of a key, or copies. When that member gives
// credit back, one of the flows that wait for it has its turn, and the next one when it leaves some over.

// stall enters the flow among those that wait for the member.
func (s *shard) stall(f *flow, m kite.Member) {
	s.probe(f)
	if f.stalled[m] {
		return
	}
	if f.stalled == nil {
		f.stalled = map[kite.Member]bool{}
	}
	f.stalled[m] = true
	g := f.peers
	if g.stalled == nil {
		g.stalled = map[kite.Member]*fifo[*flow]{}
	}
	q := g.stalled[m]
	if q == nil {
		q = &fifo[*flow]{}
		g.stalled[m] = q
	}
	q.push(f)
}

// relieve lets the flow try again that has waited for the member the longest.
func (s *shard) relieve(g *group, m kite.Member) {
	if len(g.stalled) == 0 { // most of the time
		return
	}
	q := g.stalled[m]
	if q == nil {
		return
	}
	f := q.pop()
	if delete(f.stalled, m); q.len() == 0 {
		delete(g.stalled, m)
	}
	s.makeReady(f)
}

// relieveAll lets every flow of the group try again: credit came back, and nobody told whose.
func (s *shard) relieveAll(g *group) {
	for m, q := range g.stalled {
		for q.len() > 0 {
			f := q.pop()
			delete(f.stalled, m)
			s.makeReady(f)
		}
		delete(g.stalled, m)
	}
}

// unstall forgets the member, who left.
func (s *shard) unstall(m kite.Member) {
	for _, g := range s.groups {
		for g.stalled[m] != nil {
			s.relieve(g, m)
		}
	}
}
