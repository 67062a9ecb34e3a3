package deliver

import (
	"fmt"
	"slices"
	"sort"

	"github.com/kiteq/kiteq/internal/kite"
)

// order lets a key's messages out one after the other, in the order of their Seqs. A key is the hash of a
// message property, or, for order by topic, one for everything: two properties with one hash wait for
// each other and nothing else comes of it.
//
// Each key has a turn. Its message is the only one of the key that a member may have, and the later ones
// are held behind it: as 8 bytes each, read again from the journal when it is their turn. The message
// keeps the turn through nacks, timeouts, lost connections and the pauses between attempts. It gives it
// up when it is settled (acknowledged, dead with its letter recorded, trimmed) and no member has a repeat
// of it: a late ack settles a message, and a repeat that is still out would be handled after its successor.
//
//	cursor --key busy--> held --------+
//	   |                              v  the message before it is settled
//	   +----key idle----------------> step --sent--> pending (in flight, due, armed, dying) --settled--> next of the key
//	                                  |  ^
//	          its member has no credit|  |credit, or the member left
//	                                  v  |
//	                                 waiting
//
// What is held, and steps that were never sent, do not count to the window (pending): a key that is stuck
// takes one place of it and stops nobody, until heldMost messages are held. Then the cursor stops.
//
// A key sticks to its member while that one is of the group, others joining or not, and waits for its
// credit while the other keys go on. The member of an idle key is remembered, for the last idleMost keys.
// Nothing of this is journaled: after a restart the cursor begins at the floor and meets what is unsettled
// in the order of Seq, so the earliest of a key takes the turn.
type order struct {
	mode    mode
	keys    map[uint64]*turn   // the busy ones and the idle ones that are remembered
	at      *turn              // whose message is being sent
	armed   map[kite.Seq]*turn // whose message is with no member: armed, due or dying
	next    steps
	waiting map[kite.Member]*steps // for the credit of their member
	held    int                    // messages behind others, and steps that pending does not count
	busy    int                    // keys whose turn somebody has
	ring    fifo[*turn]            // all keys, for forgetting idle ones
}

// Bounds of an ordered flow.
const (
	heldMost = 1 << 16 // messages held: the cursor stops. At most about 10 MiB, with a key for each
	idleMost = 1 << 16 // idle keys whose member is remembered: of more one that was not used for long is forgotten
)

// turn is a key and the message whose turn it is.
type turn struct {
	key    uint64
	seq    kite.Seq // 0: the key is idle
	flaw   string   // why there is no key
	sent   bool     // a member has the message, and its answer is awaited
	member kite.Member
	held   fifo[kite.Seq]
	used   bool // again, since the ring came by
}

// step is a message that can be sent as far as its key goes.
type step struct {
	turn *turn
	tried
	counted bool // by pending: it was sent before
}

// steps are in two queues: at a full window no new message may be in the way of one that frees a place.
type steps struct{ again, fresh fifo[step] }

func (q *steps) push(st step) {
	if st.counted {
		q.again.push(st)
	} else {
		q.fresh.push(st)
	}
}

// inTurn returns both queues, the new messages first when the next probe of an open breaker is to be one.
func (q *steps) inTurn(fresh bool) (first, second *fifo[step]) {
	if fresh {
		return &q.fresh, &q.again
	}
	return &q.again, &q.fresh
}

func (q *steps) len() int { return q.again.len() + q.fresh.len() }

// mode is which messages of a flow wait for which, and who gets them.
type mode struct {
	order     kite.Ordering
	property  string
	broadcast bool
}

func modeOf(route *kite.Route) mode {
	by, property := route.Order()
	return mode{by, property, route.Broadcast()}
}

func newOrder(m mode) *order {
	return &order{mode: m, keys: map[uint64]*turn{}, armed: map[kite.Seq]*turn{}, waiting: map[kite.Member]*steps{}}
}

// adopt takes the flow's newest mode, when nothing is under way. What was held is read again.
func (f *flow) adopt() {
	f.changing = false
	if f.order != nil {
		f.order.end()
	}
	f.order, f.broadcast = nil, nil
	switch {
	case f.mode.broadcast:
		f.broadcast = newBroadcast()
	case f.mode.order != kite.OrderNone:
		f.order = newOrder(f.mode)
	}
	f.cursor = f.done.Floor()
}

// enter gives the message at the cursor its turn, or holds it behind its key. It returns false, and has
// changed nothing, when the flow cannot go on.
func (s *shard) enter(f *flow, r *kite.Record) bool {
	o := f.order
	var key uint64
	if o.mode.order == kite.OrderByKey {
		var ok bool
		if key, ok = s.courier.Key(r, o.mode.property); !ok {
			return s.buryKeyless(f, r)
		}
	}
	t := o.turn(key)
	if t.seq != 0 {
		t.held.push(r.Seq)
		o.held++
		return true
	}
	retry := f.restored[r.Seq]
	t.seq = r.Seq
	o.busy++
	switch {
	case retry.DueMs > s.nowMs:
		s.postpone(f, t, retry)
	case s.attemptTurn(f, t, r, retry.Attempts):
		f.pending++
	case f.blocked || f.waking:
		o.rest(t)
		return false
	default:
		o.held++
		o.wait(step{turn: t, tried: tried{seq: r.Seq, attempts: retry.Attempts}})
	}
	delete(f.restored, r.Seq)
	return true
}

// buryKeyless makes a dead letter of the message that has no key, with a turn that is nobody's.
func (s *shard) buryKeyless(f *flow, r *kite.Record) bool {
	t := &turn{seq: r.Seq, flaw: fmt.Sprintf("order key missing: property %s, by which group %s is ordered", f.mode.property, f.group)}
	if !s.attemptTurn(f, t, r, f.restored[r.Seq].Attempts) {
		return false
	}
	f.pending++
	return true
}

// turn returns the key's turn.
func (o *order) turn(key uint64) *turn {
	t := o.keys[key]
	if t != nil {
		t.used = true
		return t
	}
	t = &turn{key: key}
	o.keys[key] = t
	o.ring.push(t)
	return t
}

// rest makes the key idle.
func (o *order) rest(t *turn) {
	t.seq = 0
	if t.flaw != "" { // it is nobody's
		return
	}
	if o.busy--; len(o.keys)-o.busy > idleMost {
		o.forgetOne()
	}
}

// forgetOne forgets an idle key that was not used again since the ring came by: about the one that was idle
// for longest, without a step for each message.
func (o *order) forgetOne() {
	for {
		t := o.ring.pop()
		if t.seq == 0 && !t.used {
			delete(o.keys, t.key)
			return
		}
		t.used = false
		o.ring.push(t)
	}
}

// wait queues the step for the credit of its key's member.
func (o *order) wait(st step) {
	q := o.waiting[st.turn.member]
	if q == nil {
		q = &steps{}
		o.waiting[st.turn.member] = q
	}
	q.push(st)
}

// pumpOrder sends the messages whose turn it is. It returns false when the flow can do no more now.
func (s *shard) pumpOrder(f *flow) bool {
	o := f.order
	f.due = slices.DeleteFunc(f.due, func(t tried) bool {
		turn := o.armed[t.seq]
		if t.letter {
			turn = nil
		}
		if turn != nil {
			o.next.push(step{turn, t, true})
		}
		return turn != nil
	})
	for member, q := range o.waiting {
		first, second := q.inTurn(f.breaker.fresh)
		if !s.pumpWaiting(f, first) || !s.pumpWaiting(f, second) {
			return false
		}
		if q.len() == 0 {
			delete(o.waiting, member)
			s.relieve(f.peers, member) // it may have more
		}
	}
	first, second := o.next.inTurn(f.breaker.fresh)
	return s.pumpNext(f, first) && s.pumpNext(f, second)
}

// pumpWaiting sends while the member has credit. It returns false when the flow can do no more now.
func (s *shard) pumpWaiting(f *flow, q *fifo[step]) bool {
	for q.len() > 0 && s.hasRoom(f, q.first()) && s.step(f, q.first()) {
		q.pop()
	}
	return !f.blocked && !f.waking
}

// pumpNext sends the steps, and has those wait whose member has no credit. It returns false when the flow
// can do no more now.
func (s *shard) pumpNext(f *flow, q *fifo[step]) bool {
	for q.len() > 0 && s.hasRoom(f, q.first()) {
		done := s.step(f, q.first())
		if !done && (f.blocked || f.waking) {
			return false
		}
		if st := q.pop(); !done {
			f.order.wait(st)
		}
	}
	return true
}

func (s *shard) hasRoom(f *flow, st step) bool { return st.counted || f.pending < s.options.Window }

// step sends the message, or finds that there is nothing to send. It returns false when it has to wait.
func (s *shard) step(f *flow, st step) bool {
	o := f.order
	switch {
	case f.done.Contains(st.seq): // a late answer came
		s.leave(f, st)
		s.moveOn(f, st.turn, st.seq)
		return true
	case f.changing && !st.counted:
		o.held--
		return true // it is read again in the new mode
	}
	sent, found := false, false
	err := s.reader.Read(f.topic, st.seq, func(r *kite.Record) bool {
		if found = r.Seq == st.seq; found {
			sent = s.attemptTurn(f, st.turn, r, st.attempts)
		}
		return false
	})
	switch {
	case err != nil:
		s.log.Error("read failed, the flow waits", "topic", f.topic, "group", f.group, "seq", st.seq, "err", err)
		s.wakeLater(f, readAgain, CauseRead)
		return false
	case !found: // trimmed: it was settled or its time is over
		s.leave(f, st)
		s.settle(f, st.seq)
		s.moveOn(f, st.turn, st.seq)
		return true
	case sent && !st.counted:
		o.held--
		f.pending++
	}
	return sent
}

// leave takes the step out of the count.
func (s *shard) leave(f *flow, st step) {
	if st.counted {
		f.pending--
	} else {
		f.order.held--
	}
}

// attemptTurn is attempt for the message whose turn it is.
func (s *shard) attemptTurn(f *flow, t *turn, r *kite.Record, attempts uint8) bool {
	o := f.order
	var done bool
	if t.flaw != "" {
		done = s.bury(f, r, tried{seq: r.Seq, attempts: attempts}, t.flaw, "")
	} else {
		o.at = t
		done = s.attempt(f, r, tried{seq: r.Seq, attempts: attempts})
		o.at = nil
	}
	switch {
	case done && !t.sent:
		o.armed[r.Seq] = t // its dead letter is on its way
	case done && len(o.armed) > 0:
		delete(o.armed, r.Seq)
	}
	return done
}

// postpone arms the message whose turn it is as it was before the restart.
func (s *shard) postpone(f *flow, t *turn, retry kite.Retry) {
	f.order.armed[t.seq] = t
	f.pending++
	s.retries.push(retryEntry{dueMs: retry.DueMs, flow: f, tried: tried{seq: t.seq, attempts: retry.Attempts}})
}

// sendTurn sends the message whose turn it is to its key's member.
func (s *shard) sendTurn(f *flow, t *turn, opaque uint32, r *kite.Record) (kite.Member, error) {
	if t.member == nil {
		if t.member = s.courier.Choose(f.group, t.key); t.member == nil {
			return nil, nil
		}
	}
	ok, err := s.courier.SendTo(t.member, opaque, r)
	switch {
	case err != nil: // this one takes no message of the size; the key stays with it for others
		return s.courier.Send(f.group, opaque, r)
	case !ok:
		return nil, nil
	}
	return t.member, nil
}

// refused stops the flow that found no credit: when another member has some, only what waits for this one.
func (s *shard) refused(f *flow, t *turn) {
	if t != nil && t.member != nil && s.courier.Free(f.group) {
		s.stall(f, t.member)
	} else {
		s.block(f)
	}
}

// acknowledged passes the turn on, unless another attempt of the message is with a member.
func (s *shard) acknowledged(sl *slot) {
	if sl.state == sent {
		sl.turn.sent = false
	}
	s.moveOn(sl.flow, sl.turn, sl.seq)
}

// back takes the message from its member, before it is armed again or after it was acknowledged.
func (s *shard) back(f *flow, t *turn, seq kite.Seq) {
	if t.sent = false; t.seq == seq { // else the turns were forgotten meanwhile
		f.order.armed[seq] = t
		if f.done.Contains(seq) {
			s.moveOn(f, t, seq)
		}
	}
}

// ended says that the message is settled and was with no member.
func (s *shard) ended(f *flow, seq kite.Seq) {
	switch {
	case f.order != nil:
		if t := f.order.armed[seq]; t != nil {
			s.moveOn(f, t, seq)
		}
	case f.broadcast != nil:
		f.broadcast.close(seq)
	}
}

// moveOn passes the turn of seq, which is settled, to the next message of the key, unless a member has it.
func (s *shard) moveOn(f *flow, t *turn, seq kite.Seq) {
	o := f.order
	if t.seq != seq || t.sent {
		return
	}
	if len(o.armed) > 0 {
		delete(o.armed, seq)
	}
	if t.held.len() == 0 {
		o.rest(t)
		return
	}
	t.seq = t.held.pop()
	retry := f.restored[t.seq]
	delete(f.restored, t.seq)
	if retry.DueMs > s.nowMs {
		o.held--
		s.postpone(f, t, retry)
		return
	}
	o.next.push(step{turn: t, tried: tried{seq: t.seq, attempts: retry.Attempts}})
	s.makeReady(f)
}

// orphan looks for another member for the keys of the one that left.
func (s *shard) orphan(m kite.Member) {
	for _, f := range s.flows {
		o := f.order
		if o == nil {
			continue
		}
		for _, t := range o.keys {
			if t.member == m {
				t.member = nil
			}
		}
		if q := o.waiting[m]; q != nil {
			for _, st := range slices.Concat(q.again.all(), q.fresh.all()) {
				o.next.push(st)
			}
			delete(o.waiting, m)
			s.makeReady(f)
		}
	}
}

// forget ends every turn: the messages are settled, or will be read again.
func (o *order) forget(f *flow) {
	if o.busy == 0 {
		return
	}
	f.pending -= o.next.again.len()
	for _, q := range o.waiting {
		f.pending -= q.again.len()
	}
	o.end()
	f.order = newOrder(o.mode)
}

// end tells late answers that their turns are over.
func (o *order) end() {
	for _, t := range o.keys {
		t.seq = 0
	}
}

// heldBehind returns the message of the same key that has the turn while seq is held.
func (f *flow) heldBehind(seq kite.Seq) (kite.Seq, bool) {
	if f.order == nil {
		return 0, false
	}
	for _, t := range f.order.keys {
		held := t.held.all()
		if i := sort.Search(len(held), func(i int) bool { return held[i] >= seq }); i < len(held) && held[i] == seq {
			return t.seq, true
		}
	}
	return 0, false
}
