package deliver

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// shard is the one owner of its groups' flows. Others post events; run works them off in turns:
//
//	take the events -> apply routes, heads, answers -> fire what is due -> pump the blocked flows of groups
//	that have credit again, then the ready ones
//	-> flush the courier -> hand progress to the lane
//
// A flow is ready when something happened that may let it send: its topic grew, an answer freed a
// place, a member joined, a retry fell due. It leaves the queue when it has nothing to send or nobody
// to send to.
type shard struct {
	options   Options
	reader    Reader
	lane      Submitter
	courier   Courier
	standings Standings
	log       *slog.Logger
	dropped   atomic.Int64 // fly messages that found no room
	waited    kite.Timings // from stored to sent for the first time

	mu     sync.Mutex
	events events
	topics map[string]*topic
	wake   chan struct{} // capacity 1

	// Owned by run.
	taken   events
	nowMs   int64
	flows   map[flowKey]*flow
	groups  map[string]*group
	ready   []*flow
	freed   []*group // have credit for blocked flows
	slots   slots
	retries retryHeap
	dirty   []*flow
	savedMs int64
	saveMs  int64 // until the next save
	sweptMs int64
	probeMs int64                      // when blocked flows whose group is online try again, 0: there are none
	dying   map[uint32]dying           // dead letters on their way through the lane
	kept    map[flowKey]*kite.Standing // what was ordered about groups without a flow
	letters map[flowKey]*kite.Settled  // the dead letters that are done with
	dyingID uint32
	saving  map[uint32]saved // progress on its way through the lane
	pumping pumping
}

type flowKey struct{ topic, group string }

// events is what was posted between two turns. It is bounded by what posts it: acks and members by
// the connections' credit, growth by the topics, fly messages by flyWaiting.
type events struct {
	rerouted bool
	routes   []kite.Route
	grown    []*topic
	acks     []kite.Ack
	joined   []string
	left     []kite.Member
	emptier  []string // the groups they left
	fly      [][]kite.Item
	flying   int // messages in fly
	done     []journaled
	asks     []chan<- []FlowStats // each has room for the answer
	looks    []look
	tuned    *Options
}

// journaled is what the lane made of one of our items, or of an order.
type journaled struct {
	id   uint32
	kind kite.Kind
	ok   bool
	control
}

func newShard(o Options, reader Reader, lane Submitter, courier Courier, standings Standings, heads map[string]kite.Seq, log *slog.Logger) *shard {
	s := &shard{
		options: o, reader: reader, lane: lane, courier: courier, standings: standings, log: log,
		wake: make(chan struct{}, 1), topics: make(map[string]*topic, len(heads)),
		flows: map[flowKey]*flow{}, groups: map[string]*group{},
		dying: map[uint32]dying{}, saving: map[uint32]saved{},
		kept: map[flowKey]*kite.Standing{}, letters: map[flowKey]*kite.Settled{},
	}
	for name, head := range heads {
		s.topics[name] = &topic{head: head}
	}
	s.pumping.visit = s.visit
	return s
}

// post adds to the events of the next turn.
func (s *shard) post(add func(*events)) {
	s.mu.Lock()
	add(&s.events)
	s.mu.Unlock()
	s.signal()
}

func (s *shard) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// journaled takes back a batch that the lane has handled.
func (s *shard) journaled(b *kite.Batch) {
	s.post(func(e *events) {
		for i := range b.Items {
			item := &b.Items[i]
			done := journaled{id: item.Opaque, kind: item.Kind, ok: item.Verdict == kite.OK}
			if item.Kind == kite.KindOrder {
				done.control, _ = controlOf(item)
			}
			e.done = append(e.done, done)
		}
	})
}

// sweepEvery is how often flows are pumped though nothing happened: messages of groups that are
// offline expire.
const sweepEvery = time.Minute

// probeEvery is how often a blocked flow tries again whose group is online, ms. Usually an answer or a
// member unblocks it; but nobody tells when a member has warmed up, or when other groups give slots back.
const probeEvery = 100

func (s *shard) run(ctx context.Context) {
	timer := time.NewTimer(sweepEvery)
	defer timer.Stop()
	for wait := time.Duration(0); ; wait = time.Duration(s.nextDue()-s.nowMs) * time.Millisecond {
		if len(s.ready)+len(s.freed) == 0 && wait > 0 {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
			case <-s.wake:
			case <-timer.C:
			}
		}
		s.nowMs = kite.UnixMs(time.Now())
		s.turn()
		if ctx.Err() != nil {
			s.save()
			return
		}
	}
}

func (s *shard) turn() {
	e := s.take()
	if e.tuned != nil {
		s.tune(*e.tuned)
	}
	if e.rerouted {
		s.reroute(e.routes)
	}
	for _, name := range e.joined { // before the heads: what came after a member is for it, too
		s.admit(name)
	}
	for _, t := range e.grown {
		s.grow(t)
	}
	for _, done := range e.done {
		s.recorded(done)
	}
	for i := range e.acks {
		s.answer(&e.acks[i])
	}
	for _, m := range e.left {
		s.lose(m)
	}
	for _, name := range e.emptier {
		if g := s.groups[name]; g != nil && !s.courier.Online(name) {
			g.offlineMs = s.nowMs
		}
	}
	for _, name := range e.joined {
		if g := s.groups[name]; g != nil {
			g.offlineMs = 0
			s.unblock(g)
			s.relieveAll(g)
		}
	}
	for _, items := range e.fly {
		s.fly(items)
	}
	for _, ask := range e.asks {
		ask <- s.stats()
	}
	for i := range e.looks {
		e.looks[i].answer <- s.look(&e.looks[i])
	}
	e.reset()
	s.fire()
	s.pumpFreed()
	s.pumpReady()
	s.courier.Flush()
	if s.nowMs-s.savedMs >= s.saveMs {
		s.save()
	}
}

func (e *events) reset() {
	clear(e.grown)
	clear(e.acks)
	clear(e.left)
	clear(e.fly)
	clear(e.asks)
	clear(e.looks)
	*e = events{
		grown: e.grown[:0], acks: e.acks[:0], joined: e.joined[:0], left: e.left[:0],
		fly: e.fly[:0], done: e.done[:0], asks: e.asks[:0], looks: e.looks[:0], emptier: e.emptier[:0],
	}
}

// nextDue returns when the next turn is needed though nobody posts, Unix ms.
func (s *shard) nextDue() int64 {
	due := s.sweptMs + sweepEvery.Milliseconds()
	if deadline, ok := s.slots.deadline(); ok {
		due = min(due, deadline)
	}
	if len(s.retries) > 0 {
		due = min(due, s.retries[0].dueMs)
	}
	if len(s.dirty) > 0 {
		due = min(due, s.savedMs+s.saveMs)
	}
	if s.probeMs > 0 {
		due = min(due, s.probeMs)
	}
	return max(due, s.nowMs)
}

// reroute starts the flows of new routes, changes those of changed ones and stops the others.
func (s *shard) reroute(routes []kite.Route) {
	bound := make(map[flowKey]bool, len(routes))
	for i := range routes {
		route := &routes[i]
		key := flowKey{route.Topic, route.Group}
		bound[key] = true
		f := s.flows[key]
		if f == nil {
			t := s.joinTopic(key.topic)
			f = s.start(route, t.known+1)
			s.flows[key], t.flows = f, append(t.flows, f)
		}
		f.route(route, s.log, s.options.Watermark)
		s.makeReady(f)
	}
	for key, f := range s.flows {
		if !bound[key] {
			f.bound = false
		}
	}
}

// group is what the flows of one consumer group share.
type group struct {
	blocked []*flow // nobody could take their next message; from head on, the longest blocked first
	head    int
	freed   bool // is in the shard's list
	// offlineMs is since when nobody is connected, Unix ms: at the earliest since its first flow began; 0: somebody is.
	offlineMs int64
	// stalled is who has messages for a member without credit: the longest first.
	stalled map[kite.Member]*fifo[*flow]
}

// unblock lets the group's flows try again in this turn, as far as its credit goes: a member joined or gave
// credit back.
func (s *shard) unblock(g *group) {
	if !g.freed {
		g.freed = true
		s.freed = append(s.freed, g)
	}
}

// pop takes out the flow that has been blocked the longest, nil when there is none.
func (g *group) pop() *flow {
	for g.head < len(g.blocked) {
		f := g.blocked[g.head]
		g.blocked[g.head] = nil
		if g.head++; g.head > 64 && g.head > len(g.blocked)/2 {
			g.blocked = g.blocked[:copy(g.blocked, g.blocked[g.head:])]
			g.head = 0
		}
		f.blocked = false
		if f.bound {
			return f
		}
	}
	g.blocked, g.head = g.blocked[:0], 0
	return nil
}

func (g *group) isBlocked() bool { return g.head < len(g.blocked) }

func (s *shard) makeReady(f *flow) {
	if f.bound && !f.ready {
		f.ready = true
		s.ready = append(s.ready, f)
	}
}

// fire handles every deadline that has passed.
func (s *shard) fire() {
	for in, expire := range [states]func(uint32){sent: s.timeOut, late: s.forgive, forgiven: s.slots.put} {
		for {
			i, ok := s.slots.overdue(state(in), s.nowMs)
			if !ok {
				break
			}
			expire(i)
		}
	}
	for len(s.retries) > 0 && s.retries[0].dueMs <= s.nowMs {
		r := s.retries.pop()
		if r.to != nil {
			r.to.line.push(r.tried)
		} else if r.seq > 0 {
			r.flow.due = append(r.flow.due, r.tried)
		} else {
			r.flow.waking = false
		}
		s.makeReady(r.flow)
	}
	if s.nowMs-s.sweptMs >= sweepEvery.Milliseconds() {
		s.sweptMs = s.nowMs
		s.retire()
		for _, g := range s.groups {
			for f := g.pop(); f != nil; f = g.pop() { // each has its own messages that expire
				s.makeReady(f)
			}
			s.relieveAll(g)
		}
	}
	if s.probeMs > 0 && s.probeMs <= s.nowMs {
		s.probeMs = 0
		for name, g := range s.groups {
			if (g.isBlocked() || len(g.stalled) > 0) && s.courier.Online(name) {
				s.unblock(g)
				s.relieveAll(g)
			}
		}
	}
}

// pumpFreed hands the credit that came back to the flows that wait for it.
func (s *shard) pumpFreed() {
	again := s.freed[:0]
	for _, g := range s.freed {
		if g.freed = s.pumpBlocked(g); g.freed {
			again = append(again, g)
		}
	}
	clear(s.freed[len(again):])
	s.freed = again
}

// pumpBlocked gives the blocked flows of a group their turns, the longest blocked first, until its credit is
// gone: each takes what it has messages for, and only the last one is looked at in vain, however many answers
// came. It returns true when credit and blocked flows are left.
func (s *shard) pumpBlocked(g *group) (more bool) {
	for range successors {
		f := g.pop()
		if f == nil {
			return false
		}
		if s.pump(f) {
			s.makeReady(f)
		}
		// A message may be too large for the member that has credit, or that one warms up: others go on.
		if more = !f.blocked; !more && !s.courier.Free(f.group) {
			return false
		}
	}
	return more
}

// successors bounds the blocked flows that a group brings into the turn: what they send leaves at its end.
const successors = 64

// pumpReady gives each ready flow one turn. Who has more to send queues behind the others.
func (s *shard) pumpReady() {
	n := len(s.ready)
	for i := range n {
		f := s.ready[i]
		f.ready = false
		if f.bound && s.pump(f) {
			s.makeReady(f)
		}
	}
	s.ready = slices.Delete(s.ready, 0, n)
}
