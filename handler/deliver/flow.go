package deliver

import (
	"log/slog"
	"slices"
	"sort"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// flow brings one topic to one group. The cursor reads forward; what it has passed is settled (not
// matched, acknowledged, dead), in flight (a slot holds it) or armed (the retry heap, or due, holds
// it). pending counts the last two kinds and is bounded by the window, so a flow's memory does not
// grow with its backlog: what waits lies in the journal, and a retry reads it again.
//
//	head     one past the topic's newest durable message
//	cursor   the next message to read; floor <= cursor <= head
//	floor    everything below is settled (done.Floor)
//
// Only done is journaled, with the attempts of what is armed, never the cursor. After a restart the
// cursor begins at the floor and passes over what is settled: a little is repeated, nothing is lost.
type flow struct {
	topic, group string
	peers        *group // the flows of its group
	current      kite.Route
	matcher      *kite.Matcher
	durable      bool
	bucket       bucket

	bound    bool  // has a route
	pausedMs int64 // since when an operator holds the deliveries, Unix ms; 0: nobody does
	ready    bool  // is in the shard's queue
	blocked  bool  // nobody in the group can take a message
	waking   bool  // has to wait for wakeMs, which the heap holds
	wakeMs   int64
	cause    Cause // of waking
	breaker  breaker
	retry    policy

	done     kite.Settled
	head     kite.Seq
	cursor   kite.Seq
	pending  int
	due      []tried
	restored map[kite.Seq]kite.Retry // what was tried before the restart, until the cursor is there
	flies    []*kite.Record
	turn     uint64              // how many seeks there were
	failures map[tried][]Attempt // of what is not settled, by tried without its attempts; nil: none

	waiting []kite.Seq             // requeued dead letters that have not begun
	open    map[kite.Seq]requeuing // those that have: pending counts them

	mode      mode
	changing  bool                 // to mode, once nothing is pending
	order     *order               // nil: no message waits for another
	broadcast *broadcast           // nil: one member gets each message
	stalled   map[kite.Member]bool // whose credit it waits for while it goes on

	acquired int64 // deliveries that the watermark let through
	flown    int64 // deliveries of fly messages
	failed   int64 // deliveries that were nacked, not answered in time or lost with their connection

	dirty   bool // is in the shard's list
	whole   bool // the next progress tells everything
	settled []kite.Range
	armed   []kite.Retry
}

// tried is a message that was sent before, or a requeued dead letter.
type tried struct {
	seq      kite.Seq
	attempts uint8
	letter   bool // seq is its place in the dead letters
}

// start makes the flow of a new route, where its group stood or began. head is one past the topic's newest.
func (s *shard) start(route *kite.Route, head kite.Seq) *flow {
	f := &flow{topic: route.Topic, group: route.Group, peers: s.groups[route.Group], head: head}
	if f.peers == nil {
		f.peers = &group{}
		if !s.courier.Online(route.Group) {
			f.peers.offlineMs = s.nowMs
		}
		s.groups[route.Group] = f.peers
	}
	f.retry = s.options.Retry[route.Group]
	standing := s.standing(flowKey{route.Topic, route.Group})
	if standing != nil {
		s.resume(f, standing)
	}
	if !route.Durable() {
		f.done.Raise(f.head)
	} else if standing != nil {
		f.done, f.restored = standing.Settled, standing.Retries
	} else {
		f.done.Raise(Since(s.reader, route.Topic, f.head, route.SinceMs-s.options.BindSkew.Milliseconds()))
		s.change(f)
	}
	f.cursor = f.done.Floor()
	return f
}

// Since returns the first message of the topic, below head, that was stored at sinceMs (Unix ms) or later, and
// head when there is none. It looks at a few messages, however many there are.
func Since(reader Reader, topic string, head kite.Seq, sinceMs int64) kite.Seq {
	from, next := reader.Bounds(topic)
	next = min(next, head)
	if from >= next {
		return head
	}
	n := sort.Search(int(next-from), func(i int) bool {
		var timeMs int64
		err := reader.Read(topic, from+kite.Seq(i), func(r *kite.Record) bool {
			timeMs = r.TimeMs
			return false
		})
		return err != nil || timeMs >= sinceMs
	})
	return from + kite.Seq(n)
}

// route takes the flow's newest bindings.
func (f *flow) route(route *kite.Route, log *slog.Logger, watermark int) {
	f.bound = true
	if f.matcher != nil && f.current.Equal(route) {
		return
	}
	matcher, err := kite.NewMatcher(route.Bindings)
	if err != nil {
		log.Warn("binding left out", "topic", f.topic, "group", f.group, "err", err)
	}
	f.current, f.durable = *route, route.Durable()
	f.changing = f.mode != modeOf(route) || f.changing
	if f.mode = modeOf(route); f.matcher == nil {
		f.adopt()
	}
	f.matcher = matcher
	if w := int(route.Watermark()); w > 0 {
		watermark = w
	}
	f.bucket.set(watermark)
}

// pumpBudget bounds the messages that one flow passes before others have their turn.
const pumpBudget = 1024

// pumping is the state of one pump: its visitor is made once, not for each read.
type pumping struct {
	flow   *flow
	budget int
	visit  func(*kite.Record) bool
	// storedMs is when the first message was stored that it read, Unix ms.
	storedMs int64
}

// pump sends what the flow may send: fly messages, then what is due again, then what is new. It
// returns true when there is more to do now.
func (s *shard) pump(f *flow) bool {
	if !f.durable && !s.courier.Online(f.group) {
		s.skip(f)
		return false
	}
	if f.blocked || f.waking || f.pausedMs > 0 {
		return false
	}
	s.pumpFlies(f)
	if f.breaker.open && !s.probes(f) {
		return false
	}
	if len(f.waiting) > 0 {
		s.beginLetters(f)
	}
	s.pumping.flow, s.pumping.budget = f, pumpBudget
	fresh := f.breaker.fresh
	if !fresh && !s.pumpAgain(f) {
		return false
	}
	if f.changing && f.pending == 0 {
		f.adopt()
	}
	if s.mayRead(f) {
		if err := s.readOn(f); err != nil {
			s.log.Error("read failed, the flow waits", "topic", f.topic, "group", f.group, "seq", f.cursor, "err", err)
			s.wakeLater(f, readAgain, CauseRead)
			return false
		}
		if s.pumping.budget == pumpBudget && f.cursor < f.head && !f.blocked && !f.waking {
			s.pass(f, kite.Range{From: f.cursor, To: f.head}) // trimmed to the end
		}
	}
	if fresh && !f.waking && !f.blocked {
		s.pumpAgain(f)
	}
	return s.pumping.budget <= 0 || s.mayRead(f)
}

// readOn handles messages from the cursor on, and notes how long those that were sent had waited: as long as the
// first of them, for they come one after the other.
func (s *shard) readOn(f *flow) error {
	before := f.acquired
	s.pumping.storedMs = 0
	err := s.reader.Read(f.topic, f.cursor, s.pumping.visit)
	if n := f.acquired - before; n > 0 {
		s.waited.Observe(time.Duration(s.nowMs-s.pumping.storedMs)*time.Millisecond, int(n))
	}
	return err
}

// pumpAgain sends what was held back or sent before. It returns false when the flow can do no more now.
func (s *shard) pumpAgain(f *flow) bool {
	return (f.order == nil || s.pumpOrder(f)) && (f.broadcast == nil || s.pumpCopies(f)) && s.pumpDue(f)
}

// mayRead tells whether the cursor may go on.
func (s *shard) mayRead(f *flow) bool {
	return f.cursor < f.head && f.pending < s.options.Window && !f.blocked && !f.waking && !f.changing && !f.full()
}

// full tells whether too much is held back, or copied.
func (f *flow) full() bool {
	return f.order != nil && f.order.held >= heldMost || f.broadcast != nil && f.broadcast.copies >= copiesMost
}

// readAgain is how long a flow waits after a failed read, ms.
const readAgain = 5000

// visit handles the message at the cursor; it returns false when the flow cannot go on.
func (s *shard) visit(r *kite.Record) bool {
	f := s.pumping.flow
	if r.Seq >= f.head {
		return false
	}
	s.pumping.budget--
	if s.pumping.storedMs == 0 {
		s.pumping.storedMs = r.TimeMs
	}
	if r.Seq > f.cursor {
		s.pass(f, kite.Range{From: f.cursor, To: r.Seq}) // what lay between was trimmed
	}
	switch retry, armed := f.restored[r.Seq]; {
	case f.done.Contains(r.Seq):
	case !f.matcher.Matches(r.Type):
		s.settle(f, r.Seq)
	case f.order != nil:
		if !s.enter(f, r) {
			return false
		}
	case f.broadcast != nil:
		if !s.scatter(f, r) {
			return false
		}
	case armed && retry.DueMs > s.nowMs:
		f.pending++
		s.retries.push(retryEntry{dueMs: retry.DueMs, flow: f, tried: tried{seq: r.Seq, attempts: retry.Attempts}})
	default:
		if !s.attempt(f, r, tried{seq: r.Seq, attempts: retry.Attempts}) {
			return false
		}
		f.pending++
	}
	if len(f.restored) > 0 && f.order == nil {
		delete(f.restored, r.Seq)
	}
	f.cursor = r.Seq + 1
	return s.pumping.budget > 0 && f.pending < s.options.Window && !f.full()
}

// attempt sends the message, or buries it when its time or its attempts are over. It returns false,
// and has changed nothing, when nobody can take it now.
func (s *shard) attempt(f *flow, r *kite.Record, t tried) bool {
	switch {
	case f.breaker.probing:
		return false
	case r.Expired(s.nowMs):
		return s.bury(f, r, t, "expired", f.lastFeedback(t))
	case t.attempts >= r.Limit:
		last := f.lastFeedback(t)
		return s.bury(f, r, t, limitReason(r.Limit, last), last)
	}
	if wait := f.bucket.take(s.nowMs); wait > 0 {
		s.wakeLater(f, wait, CauseWatermark)
		return false
	}
	sl, err := s.send(f, r, t.attempts)
	if sl == nil {
		f.bucket.untake()
		return err != nil && s.bury(f, r, t, err.Error(), f.lastFeedback(t))
	}
	sl.seq, sl.letter, sl.limit = t.seq, t.letter, r.Limit
	if f.breaker.open {
		s.probing(f, sl)
	}
	f.acquired++
	return true
}

// send hands the message to a member of the group and returns the slot that waits for the answer. It
// returns nil when nobody can take it: with an error nobody ever will, else the flow is blocked.
func (s *shard) send(f *flow, r *kite.Record, attempts uint8) (*slot, error) {
	index, opaque, ok := s.slots.take()
	if !ok {
		s.block(f)
		return nil, nil
	}
	var t *turn
	var member kite.Member
	var err error
	if f.order != nil && f.order.at != nil {
		t = f.order.at
		member, err = s.sendTurn(f, t, opaque, r)
	} else {
		member, err = s.courier.Send(f.group, opaque, r)
	}
	if member == nil {
		s.slots.put(index)
		if err == nil {
			s.refused(f, t)
		}
		return nil, err
	}
	sl := &s.slots.all[index]
	if t != nil {
		sl.turn, t.sent = t, true
	}
	sl.flow, sl.member, sl.attempts, sl.sentMs = f, member, attempts+1, s.nowMs
	s.slots.watch(index, sent, s.nowMs+s.options.AckTimeout.Milliseconds())
	return sl, nil
}

// skip passes over everything: the group of a non-durable flow is offline.
func (s *shard) skip(f *flow) {
	s.pass(f, kite.Range{From: f.done.Floor(), To: f.head})
	f.failures = nil
	s.dropped.Add(int64(len(f.flies)))
	switch {
	case f.order != nil:
		f.order.forget(f)
	case f.broadcast != nil:
		f.broadcast.forget(f)
	}
	n := len(f.due)
	f.due = slices.DeleteFunc(f.due, func(t tried) bool { return !t.letter })
	f.pending -= n - len(f.due)
	f.flies = f.flies[:0]
}

// pass settles the range and moves the cursor behind it.
func (s *shard) pass(f *flow, r kite.Range) {
	f.done.Settle(r)
	f.cursor = max(f.cursor, r.To)
	f.settled = append(f.settled, r)
	s.change(f)
}

func (s *shard) settle(f *flow, seq kite.Seq) {
	f.done.Settle(kite.Range{From: seq, To: seq + 1})
	if f.failures != nil {
		delete(f.failures, tried{seq: seq})
	}
	if n := len(f.settled); n > 0 && f.settled[n-1].To == seq {
		f.settled[n-1].To++
	} else {
		f.settled = append(f.settled, kite.Range{From: seq, To: seq + 1})
	}
	s.change(f)
}

// block takes the flow out of the queue until its group can take messages again.
func (s *shard) block(f *flow) {
	if !f.blocked {
		f.blocked = true
		f.peers.blocked = append(f.peers.blocked, f)
	}
	s.probe(f)
}

// probe sees to it that the flow tries again soon though nobody tells.
func (s *shard) probe(f *flow) {
	if s.probeMs == 0 && s.courier.Online(f.group) {
		s.probeMs = s.nowMs + probeEvery
	}
}

// wakeLater takes the flow out of the queue for some ms.
func (s *shard) wakeLater(f *flow, ms int64, cause Cause) {
	if !f.waking {
		f.waking, f.wakeMs, f.cause = true, s.nowMs+ms, cause
		s.retries.push(retryEntry{dueMs: s.nowMs + ms, flow: f})
	}
}

// bucket is a token bucket: rate a second, half a second's worth at once.
type bucket struct {
	rate   float64
	tokens float64
	lastMs int64
}

func (b *bucket) set(rate int) {
	b.rate = float64(rate)
	b.tokens = b.burst()
}

func (b *bucket) burst() float64 { return max(1, b.rate/2) }

// take takes a token, or returns for how many ms there will be none.
func (b *bucket) take(nowMs int64) (waitMs int64) {
	if nowMs > b.lastMs {
		b.tokens = min(b.burst(), b.tokens+float64(nowMs-b.lastMs)*b.rate/1000)
		b.lastMs = nowMs
	}
	if b.tokens < 1 {
		return max(1, int64((1-b.tokens)*1000/b.rate))
	}
	b.tokens--
	return 0
}

func (b *bucket) untake() { b.tokens++ }
