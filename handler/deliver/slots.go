package deliver

import "github.com/kiteq/kiteq/internal/kite"

// slot is one delivery that was sent and not answered. A late one has timed out: its message was
// re-armed, but the member still holds it, so its credit stays taken until it answers or leaves.
type slot struct {
	flow       *flow
	member     kite.Member
	fly        *kite.Record // the message itself, when it is not in the journal
	seq        kite.Seq
	deadlineMs int64
	generation uint16
	attempts   uint8
	limit      uint8
	late       bool
}

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
	all  []slot
	free []uint32
	// queue holds slots in the order of their deadlines: every delivery waits equally long. Entries
	// whose slot has moved on are passed over.
	queue []queued
	head  int
}

type queued struct {
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
		t.all = append(t.all, slot{})
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

// watch enters the slot's deadline, which is not before any entered earlier.
func (t *slots) watch(index uint32, deadlineMs int64) {
	s := &t.all[index]
	s.deadlineMs = deadlineMs
	if t.head > 1024 && t.head > len(t.queue)/2 {
		t.queue = t.queue[:copy(t.queue, t.queue[t.head:])]
		t.head = 0
	}
	t.queue = append(t.queue, queued{index, s.generation})
}

// deadline returns the earliest deadline.
func (t *slots) deadline() (int64, bool) {
	for ; t.head < len(t.queue); t.head++ {
		q := t.queue[t.head]
		if s := &t.all[q.index]; s.member != nil && s.generation == q.generation && !s.late {
			return s.deadlineMs, true
		}
	}
	t.queue, t.head = t.queue[:0], 0
	return 0, false
}

// overdue returns a slot whose deadline has passed and that is not late yet.
func (t *slots) overdue(nowMs int64) (uint32, bool) {
	if deadline, ok := t.deadline(); !ok || deadline > nowMs {
		return 0, false
	}
	q := t.queue[t.head]
	t.head++
	return q.index, true
}
