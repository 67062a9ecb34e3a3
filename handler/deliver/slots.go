package deliver

import (
	"math/rand/v2"

	"github.com/kiteq/kiteq/internal/kite"
)

// slot is one delivery that was sent and not answered. A late one has timed out: its message was
// re-armed, but the member still holds it, so its credit stays taken for long.
type slot struct {
	flow       *flow
	member     kite.Member
	turn       *turn        // whose message it is, in an ordered flow
	to         *listener    // whose copy it is, in a broadcast
	fly        *kite.Record // the message itself, when it is not in the journal
	seq        kite.Seq     // 0: fly, or forgotten by a seek
	sentMs     int64
	generation uint16
	attempts   uint8
	limit      uint8
	letter     bool // seq is the place of a requeued dead letter
	probe      bool // an open breaker waits for the answer
	state      state
}

// state is how far a delivery has come without an answer.
type state uint8

const (
	sent     state = iota // until the ack timeout
	late                  // its message was re-armed; it still holds its member's credit
	forgiven              // its credit was given back; an answer still counts
	states
)

// The opaque of a delivery names its slot: bit 31 set and bit 30 clear (checks have it set), 13 bits of
// the slot's generation, 17 bits of its number. A generation tells a late answer from one to the
// slot's next tenant.
const (
	slotBits       = 17
	maxSlots       = 1 << slotBits
	generationMask = 1<<13 - 1
	deliveryBit    = 1 << 31
	originBits     = 3 << 30
)

// slots holds the unanswered deliveries of a shard.
type slots struct {
	all   []slot
	free  []uint32
	lines [states]line
}

// line holds slots in the order of their deadlines: each waits equally long. Entries whose slot has moved on
// are passed over.
type line struct {
	queue []queued
	head  int
}

type queued struct {
	deadlineMs int64
	index      uint32
	generation uint16
}

// take reserves a slot and returns its opaque; ok is false when all are taken.
func (t *slots) take() (index, opaque uint32, ok bool) {
	if n := len(t.free); n > 0 {
		index = t.free[n-1]
		t.free = t.free[:n-1]
	} else if len(t.all) < maxSlots {
		index = uint32(len(t.all))
		// Random: two shards hand out other numbers to a connection that goes from group to group.
		t.all = append(t.all, slot{generation: uint16(rand.Uint32N(generationMask + 1))})
	} else {
		return 0, 0, false
	}
	s := &t.all[index]
	s.generation = (s.generation + 1) & generationMask
	return index, deliveryBit | uint32(s.generation)<<slotBits | index, true
}

// put gives the slot back.
func (t *slots) put(index uint32) {
	t.all[index] = slot{generation: t.all[index].generation}
	t.free = append(t.free, index)
}

// find returns the slot that the member's opaque names.
func (t *slots) find(opaque uint32, m kite.Member) (uint32, bool) {
	index := opaque & (maxSlots - 1)
	if opaque&originBits != deliveryBit || int(index) >= len(t.all) {
		return 0, false
	}
	s := &t.all[index]
	return index, s.member == m && uint32(s.generation) == opaque>>slotBits&generationMask
}

// watch enters the delivery into a state until the deadline, which is not before any entered earlier.
func (t *slots) watch(index uint32, in state, deadlineMs int64) {
	t.all[index].state = in
	t.lines[in].add(queued{deadlineMs, index, t.all[index].generation})
}

// hasten moves every deadline of the state that is later to this one, so that earlier ones may be entered from now
// on.
func (t *slots) hasten(in state, latestMs int64) {
	l := &t.lines[in]
	for i := l.head; i < len(l.queue); i++ {
		l.queue[i].deadlineMs = min(l.queue[i].deadlineMs, latestMs)
	}
}

// deadline returns the earliest deadline of all.
func (t *slots) deadline() (earliest int64, ok bool) {
	for in := range states {
		if ms, some := t.first(in); some && (!ok || ms < earliest) {
			earliest, ok = ms, true
		}
	}
	return earliest, ok
}

// overdue takes out a delivery whose time in the state is over.
func (t *slots) overdue(in state, nowMs int64) (uint32, bool) {
	if deadline, ok := t.first(in); !ok || deadline > nowMs {
		return 0, false
	}
	l := &t.lines[in]
	index := l.queue[l.head].index
	l.head++
	return index, true
}

// first returns the deadline of the first entry that still stands.
func (t *slots) first(in state) (int64, bool) {
	l := &t.lines[in]
	for ; l.head < len(l.queue); l.head++ {
		q := l.queue[l.head]
		if s := &t.all[q.index]; s.member != nil && s.generation == q.generation && s.state == in {
			return q.deadlineMs, true
		}
	}
	l.queue, l.head = l.queue[:0], 0
	return 0, false
}

func (l *line) add(q queued) {
	if l.head > 1024 && l.head > len(l.queue)/2 {
		l.queue = l.queue[:copy(l.queue, l.queue[l.head:])]
		l.head = 0
	}
	l.queue = append(l.queue, q)
}
