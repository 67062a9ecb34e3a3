package deliver

import (
	"fmt"
	"maps"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
)

// broadcast brings each message of a flow to every member that was there when it was published. A copy is
// a message on its way to one member; nacks, timeouts and the attempts that count are that member's alone.
// The message is settled when each of its copies has ended: acknowledged, failed for good, or the member
// left. If one failed the message is a dead letter that says so. If all members left without an
// acknowledgement it is sent anew to whoever is there.
//
// A member that joins gets what comes after it; the first one in an empty group gets what waited. When all
// that a message was meant for are gone before the cursor reached it, it goes to everybody there.
//
// A copy without credit waits in its member's line. The flow goes on until its window is full of messages
// that are not settled, or copiesMost copies have not ended: a stuck member stops its group there. Nothing
// of this is journaled but what is settled: after a restart the unsettled are sent to those who are there
// then, the attempts counted anew.
type broadcast struct {
	listeners []*listener
	of        map[kite.Member]*listener
	rounds    map[kite.Seq]*round
	again     fifo[kite.Seq] // rounds whose members all left
	copies    int            // that have not ended
}

// copiesMost bounds the copies of a flow that have not ended: at it the cursor stops.
const copiesMost = 1 << 16

// listener is a member of a broadcast group.
type listener struct {
	member kite.Member
	since  kite.Seq    // the first message that was published after it joined
	line   fifo[tried] // copies that wait for its credit
}

// round is a message of which copies were made.
type round struct {
	open   []*listener // whose copies have not ended
	all    int         // members it went to
	acked  bool        // by one at least
	failed int
	last   ending // of the copies that failed
	dying  bool   // its dead letter is on its way
}

// ending is how a copy ends: acknowledged, failed after some attempts, or, when it is neither, its member left.
type ending struct {
	acked    bool
	attempts uint8
	reason   string // why it failed
}

func newBroadcast() *broadcast {
	return &broadcast{of: map[kite.Member]*listener{}, rounds: map[kite.Seq]*round{}}
}

// admit takes in the group's new members.
func (s *shard) admit(group string) {
	for _, f := range s.flows {
		if f.broadcast != nil && f.group == group {
			s.admitTo(f)
			s.makeReady(f)
		}
	}
}

func (s *shard) admitTo(f *flow) {
	b := f.broadcast
	var since kite.Seq
	if len(b.listeners) > 0 {
		since = f.head
	}
	for _, m := range s.courier.Members(f.group) {
		if b.of[m] == nil {
			l := &listener{member: m, since: since}
			b.of[m], b.listeners = l, append(b.listeners, l)
		}
	}
}

// audience returns whom the message is for.
func (b *broadcast) audience(seq kite.Seq) []*listener {
	var there []*listener
	for _, l := range b.listeners {
		if l.since <= seq {
			there = append(there, l)
		}
	}
	if len(there) == 0 {
		return slices.Clone(b.listeners)
	}
	return there
}

// scatter makes copies of the message at the cursor for everybody. It returns false, and has changed
// nothing, when the flow cannot go on. The watermark counts a message once.
func (s *shard) scatter(f *flow, r *kite.Record) bool {
	b := f.broadcast
	if len(b.listeners) == 0 {
		s.admitTo(f)
	}
	if len(b.listeners) == 0 {
		s.block(f)
		return false
	}
	if wait := f.bucket.take(s.nowMs); wait > 0 {
		s.wakeLater(f, wait, CauseWatermark)
		return false
	}
	f.pending++
	s.open(f, r, &round{})
	return true
}

// open sends the round's copies.
func (s *shard) open(f *flow, r *kite.Record, rd *round) {
	b := f.broadcast
	audience := b.audience(r.Seq)
	b.rounds[r.Seq] = rd
	b.copies += len(audience)
	rd.open, rd.all = slices.Clone(audience), len(audience)
	for _, l := range audience {
		if t := (tried{seq: r.Seq}); l.line.len() > 0 || !s.sendCopy(f, l, t, r) {
			l.line.push(t)
		}
	}
}

// sendCopy returns false when the copy has to wait for its member.
func (s *shard) sendCopy(f *flow, l *listener, t tried, r *kite.Record) bool {
	if r.Expired(s.nowMs) {
		s.endCopy(f, l, r.Seq, ending{attempts: t.attempts, reason: "expired"}, r)
		return true
	}
	ok, err := s.handCopy(f, l, slot{seq: r.Seq, limit: r.Limit, attempts: t.attempts + 1}, r)
	switch {
	case err != nil:
		s.endCopy(f, l, r.Seq, ending{attempts: t.attempts, reason: err.Error()}, r)
		return true
	case !ok:
		s.stall(f, l.member)
		return false
	}
	f.acquired++
	return true
}

// handCopy sends the member its copy, for whose answer the slot waits. It returns false when the member
// cannot take it now, and an error when it never can.
func (s *shard) handCopy(f *flow, l *listener, waits slot, r *kite.Record) (bool, error) {
	index, opaque, ok := s.slots.take()
	if !ok {
		return false, nil
	}
	if ok, err := s.courier.SendTo(l.member, opaque, r); !ok {
		s.slots.put(index)
		return false, err
	}
	sl := &s.slots.all[index]
	waits.flow, waits.member, waits.to, waits.generation, waits.sentMs = f, l.member, l, sl.generation, s.nowMs
	*sl = waits
	s.slots.watch(index, sent, s.nowMs+s.options.AckTimeout.Milliseconds())
	return true, nil
}

// pumpCopies sends what waits in the members' lines, and anew what everybody left. It returns false when
// the flow can do no more now.
func (s *shard) pumpCopies(f *flow) bool {
	b := f.broadcast
	due := f.due // the messages are dead ones that the lane had no room for
	f.due = slices.DeleteFunc(slices.Clone(due), func(t tried) bool { return !t.letter })
	for _, t := range due {
		if !t.letter {
			s.finish(f, t.seq, nil)
		}
	}
	if len(b.listeners) == 0 {
		s.admitTo(f)
	}
	for b.again.len() > 0 && len(b.listeners) > 0 {
		seq := b.again.first()
		if !s.readCopy(f, seq, func(r *kite.Record) bool { s.open(f, r, b.rounds[seq]); return true }) {
			return false
		}
		b.again.pop()
	}
	for _, l := range b.listeners {
		if l.line.len() == 0 {
			continue
		}
		for l.line.len() > 0 {
			t := l.line.first()
			if b.open(l, t.seq) && !s.readCopy(f, t.seq, func(r *kite.Record) bool { return s.sendCopy(f, l, t, r) }) {
				break
			}
			l.line.pop()
		}
		if f.waking {
			return false
		}
		if l.line.len() == 0 {
			s.relieve(f.peers, l.member) // it may have more
		}
	}
	return true
}

// readCopy finds the message; what was trimmed is settled. It returns what send does, and false when the
// flow has to wait since it cannot read.
func (s *shard) readCopy(f *flow, seq kite.Seq, send func(*kite.Record) bool) bool {
	done, found := false, false
	err := s.reader.Read(f.topic, seq, func(r *kite.Record) bool {
		if found = r.Seq == seq; found {
			done = send(r)
		}
		return false
	})
	switch {
	case err != nil:
		s.log.Error("read failed, the flow waits", "topic", f.topic, "group", f.group, "seq", seq, "err", err)
		s.wakeLater(f, readAgain, CauseRead)
		return false
	case !found:
		f.pending--
		s.settle(f, seq)
		f.broadcast.close(seq)
		return true
	}
	return done
}

// open tells whether the member's copy of the message has not ended.
func (b *broadcast) open(l *listener, seq kite.Seq) bool {
	rd := b.rounds[seq]
	return rd != nil && slices.Contains(rd.open, l)
}

// heard handles a member's answer to its copy.
func (s *shard) heard(sl *slot, a *kite.Ack) {
	switch {
	case a.OK:
		s.endCopy(sl.flow, sl.to, sl.seq, ending{acked: true}, nil)
	case sl.state == sent:
		s.rearmCopy(sl, "nack: "+a.Feedback)
	}
}

// rearmCopy arranges for the copy to be sent to its member again, or ends it at its limit.
func (s *shard) rearmCopy(sl *slot, reason string) {
	f, l := sl.flow, sl.to
	switch wait := f.retry.delayMs(sl.attempts); {
	case f.broadcast == nil || !f.broadcast.open(l, sl.seq): // a late answer came
	case sl.attempts >= sl.limit:
		s.endCopy(f, l, sl.seq, ending{attempts: sl.attempts, reason: limitReason(sl.limit, reason)}, nil)
	case wait > 0:
		s.retries.push(retryEntry{dueMs: s.nowMs + wait, flow: f, to: l, tried: tried{seq: sl.seq, attempts: sl.attempts}})
	default:
		l.line.push(tried{seq: sl.seq, attempts: sl.attempts})
	}
}

// endCopy ends the member's copy, and the round with its last one. r is the message, or nil outside of its reading.
func (s *shard) endCopy(f *flow, l *listener, seq kite.Seq, how ending, r *kite.Record) {
	b := f.broadcast
	if b == nil || !b.open(l, seq) {
		return
	}
	rd := b.rounds[seq]
	rd.open = slices.DeleteFunc(rd.open, func(other *listener) bool { return other == l })
	b.copies--
	switch {
	case how.acked:
		rd.acked = true
	case how.reason != "":
		rd.failed++
		rd.last = how
	}
	if len(rd.open) == 0 {
		s.finish(f, seq, r)
	}
}

// finish ends the message whose copies have all ended.
func (s *shard) finish(f *flow, seq kite.Seq, r *kite.Record) {
	b := f.broadcast
	rd := b.rounds[seq]
	switch {
	case rd == nil:
		f.pending--
	case rd.failed > 0:
		rd.dying = true
		t, reason := tried{seq: seq, attempts: rd.last.attempts}, fmt.Sprintf("failed at %d of %d members: %s", rd.failed, rd.all, rd.last.reason)
		if r == nil {
			s.buryAt(f, t, reason, rd.last.reason)
		} else if !s.bury(f, r, t, reason, rd.last.reason) {
			s.retries.push(retryEntry{dueMs: s.nowMs + buryAgain, flow: f, tried: t})
		}
	case rd.acked:
		f.pending--
		s.settle(f, seq)
		b.close(seq)
	default:
		b.again.push(seq)
	}
	s.makeReady(f)
}

// scatterFlies sends messages that are not journaled to everybody who can take them now.
func (s *shard) scatterFlies(f *flow) {
	if len(f.broadcast.listeners) == 0 {
		s.admitTo(f)
	}
	for _, r := range f.flies {
		for _, l := range f.broadcast.listeners {
			s.flyTo(f, l, r, 0)
		}
	}
	f.flies = slices.Delete(f.flies, 0, len(f.flies))
}

// flyTo sends the member its copy, or drops that.
func (s *shard) flyTo(f *flow, l *listener, r *kite.Record, attempts uint8) {
	if f.broadcast != nil && f.broadcast.of[l.member] == l && !r.Expired(s.nowMs) && attempts < flyAttempts {
		if ok, _ := s.handCopy(f, l, slot{fly: r, attempts: attempts + 1}, r); ok { // too large is not taken either
			f.flown++
			return
		}
	}
	s.dropped.Add(1)
}

// close forgets a settled message.
func (b *broadcast) close(seq kite.Seq) {
	if rd := b.rounds[seq]; rd != nil {
		b.copies -= len(rd.open)
		delete(b.rounds, seq)
	}
}

// depart ends the copies of the member that left.
func (s *shard) depart(m kite.Member) {
	for _, f := range s.flows {
		b := f.broadcast
		if b == nil || b.of[m] == nil {
			continue
		}
		l := b.of[m]
		delete(b.of, m)
		b.listeners = slices.DeleteFunc(b.listeners, func(other *listener) bool { return other == l })
		for _, seq := range slices.Sorted(maps.Keys(b.rounds)) {
			s.endCopy(f, l, seq, ending{}, nil)
		}
		s.makeReady(f)
	}
}

// forget ends every round: the group is offline and all is settled. Dead letters on their way are pending
// until they are recorded.
func (b *broadcast) forget(f *flow) {
	for _, t := range f.due {
		if !t.letter {
			delete(b.rounds, t.seq)
		}
	}
	for seq, rd := range b.rounds {
		if !rd.dying {
			f.pending--
			delete(b.rounds, seq)
		}
	}
	b.copies, b.again, b.listeners = 0, fifo[kite.Seq]{}, nil
	clear(b.of)
}
