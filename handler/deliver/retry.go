package deliver

import (
	"container/heap"
	"fmt"

	"github.com/kiteq/kiteq/internal/kite"
)

// pumpDue sends what is due again. It returns false when the flow can do no more now.
func (s *shard) pumpDue(f *flow) bool {
	for n := 0; n < len(f.due); n++ {
		t := f.due[n]
		if f.over(t) { // a late answer came
			s.drop(f, t)
			continue
		}
		sent := false
		found, err := s.read(f, t, func(r *kite.Record) { sent = s.attempt(f, r, t) })
		switch {
		case err != nil:
			s.log.Error("read failed, the message waits", "topic", f.topic, "group", f.group, "seq", t.seq, "err", err)
			s.retries.push(retryEntry{dueMs: s.nowMs + readAgain, flow: f, tried: t})
		case !found && t.letter:
			s.deliveredLetter(f, t.seq, "its bytes are gone")
		case !found: // trimmed: it was settled or its time is over
			f.pending--
			s.settle(f, t.seq)
		case !sent:
			f.due = f.due[:copy(f.due, f.due[n:])]
			return false
		}
	}
	f.due = f.due[:0]
	return true
}

// answer handles a member's ack or nack.
func (s *shard) answer(a *kite.Ack) {
	index, ok := s.slots.find(a.Opaque, a.Member)
	if !ok {
		return // an answer to nothing: from before a reconnect, or the client's mistake
	}
	sl := s.slots.all[index]
	s.slots.put(index)
	a.Member.Release(sl.state == forgiven)
	switch {
	case sl.fly != nil:
		if !a.OK && sl.state == sent {
			s.flyAgain(sl)
		}
	case sl.forgotten():
	case a.OK && sl.letter:
		s.succeeded(sl.flow)
		s.deliveredLetter(sl.flow, sl.seq, afterRequeue)
	case sl.to != nil:
		s.heard(&sl, a)
	case a.OK:
		s.succeeded(sl.flow)
		if sl.state == sent {
			sl.flow.pending--
		}
		if !sl.flow.done.Contains(sl.seq) {
			s.settle(sl.flow, sl.seq)
		}
		if sl.turn != nil {
			s.acknowledged(&sl)
		}
	case sl.state == sent:
		s.failed(&sl)
		s.rearm(&sl, "nack: "+a.Feedback)
	}
	s.unblock(sl.flow.peers)
	s.relieve(sl.flow.peers, a.Member)
	s.makeReady(sl.flow)
}

const (
	// forgiveAfter is how long a late delivery holds its member's credit, ms.
	forgiveAfter = 60_000
	// forgetAfter is how long after that an answer still counts, ms.
	forgetAfter = 3_600_000
)

// timeOut re-arms a delivery that nobody answered. The member's credit stays taken: it may still be at it.
func (s *shard) timeOut(index uint32) {
	s.slots.watch(index, late, s.nowMs+forgiveAfter)
	sl := s.slots.all[index]
	sl.member.Late()
	switch {
	case sl.fly != nil:
		s.flyAgain(sl)
	case !sl.forgotten():
		s.failed(&sl)
		s.rearm(&sl, fmt.Sprintf("no answer within %v", s.options.AckTimeout))
	}
	s.makeReady(sl.flow)
}

// forgive gives back the credit of a delivery that will hardly be answered any more.
func (s *shard) forgive(index uint32) {
	sl := s.slots.all[index]
	if !sl.member.Forgive() {
		s.slots.watch(index, late, s.nowMs+forgiveAfter)
		return
	}
	s.slots.watch(index, forgiven, s.nowMs+forgetAfter)
	s.unblock(sl.flow.peers)
	s.relieve(sl.flow.peers, sl.member)
}

// lose re-arms everything that the member had not answered.
func (s *shard) lose(m kite.Member) {
	s.unstall(m)
	s.orphan(m)
	s.depart(m)
	for i := range s.slots.all {
		sl := s.slots.all[i]
		if sl.member != m {
			continue
		}
		s.slots.put(uint32(i))
		m.Release(sl.state == forgiven) // the session may live on in another group
		switch {
		case sl.state != sent || sl.forgotten():
		case sl.fly != nil:
			s.flyAgain(sl)
		default:
			s.lostProbe(&sl)
			s.rearm(&sl, "the connection was lost")
		}
		s.makeReady(sl.flow)
	}
}

// rearm arranges for the slot's message to be sent again, or buries it at its limit.
func (s *shard) rearm(sl *slot, reason string) {
	f := sl.flow
	f.failed++
	s.remember(sl, reason)
	if f.breaker.open {
		sl.attempts-- // it fails for what its group lacks
	}
	switch {
	case sl.to != nil:
		s.rearmCopy(sl, reason)
		return
	case sl.turn != nil:
		s.back(f, sl.turn, sl.seq)
	}
	t := tried{seq: sl.seq, attempts: sl.attempts, letter: sl.letter}
	if f.over(t) {
		if !t.letter {
			f.pending--
		}
		return
	}
	if sl.attempts >= sl.limit {
		s.buryAt(f, t, limitReason(sl.limit, reason), reason)
		return
	}
	dueMs := s.nowMs + f.retry.delayMs(sl.attempts)
	if !t.letter {
		f.armed = append(f.armed, kite.Retry{Seq: t.seq, Attempts: t.attempts, DueMs: dueMs})
		s.change(f)
	}
	if dueMs > s.nowMs {
		s.retries.push(retryEntry{dueMs: dueMs, flow: f, tried: t})
	} else {
		f.due = append(f.due, t)
	}
}

// retryEntry is when a message is sent again, or, with seq 0, when its flow goes on.
type retryEntry struct {
	dueMs int64
	flow  *flow
	to    *listener // of a broadcast
	tried
}

// retryHeap has the earliest entry first. It is bounded by the windows of the flows.
type retryHeap []retryEntry

func (h *retryHeap) push(e retryEntry) { heap.Push((*byDue)(h), e) }

func (h *retryHeap) pop() retryEntry { return heap.Pop((*byDue)(h)).(retryEntry) }

type byDue []retryEntry

func (h byDue) Len() int           { return len(h) }
func (h byDue) Less(i, j int) bool { return h[i].dueMs < h[j].dueMs }
func (h byDue) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byDue) Push(x any)        { *h = append(*h, x.(retryEntry)) }
func (h *byDue) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = retryEntry{}
	*h = (*h)[:last]
	return e
}
