package sequence

import (
	"hash/maphash"

	"github.com/kiteq/kiteq/internal/kite"
)

// fresh are the ids of one turn and what it makes of them. Slots of earlier turns count as free, so that
// the next turn costs what it holds and not what the largest one before it held.
type fresh struct {
	slots []freshSlot // a power of two, about half of them in use at most
	turn  uint32      // never 0, which is nobody's
	count int
	seed  maphash.Seed
}

type freshSlot struct {
	id      kite.MessageID
	turn    uint32
	outcome kite.Outcome
}

// freshRoom is how many slots there are at first.
const freshRoom = 1024

func (f *fresh) init() {
	f.slots, f.turn, f.seed = make([]freshSlot, freshRoom), 1, maphash.MakeSeed()
}

// reset forgets the turn's ids.
func (f *fresh) reset() {
	f.count = 0
	if f.turn++; f.turn == 0 {
		clear(f.slots)
		f.turn = 1
	}
}

// find returns what becomes of the id, if the turn has it.
func (f *fresh) find(id kite.MessageID) (kite.Outcome, bool) {
	if f.count == 0 {
		return kite.OutcomeUnknown, false
	}
	s := f.slot(id)
	return s.outcome, s.turn == f.turn
}

// set enters the id or changes what becomes of it.
func (f *fresh) set(id kite.MessageID, outcome kite.Outcome) {
	if f.count > len(f.slots)/2 {
		f.widen()
	}
	s := f.slot(id)
	if s.turn != f.turn {
		f.count++
	}
	*s = freshSlot{id: id, turn: f.turn, outcome: outcome}
}

// slot returns the id's, or the free one where it goes.
func (f *fresh) slot(id kite.MessageID) *freshSlot {
	last := len(f.slots) - 1
	for i := int(maphash.Comparable(f.seed, id)) & last; ; i = (i + 1) & last {
		if s := &f.slots[i]; s.turn != f.turn || s.id == id {
			return s
		}
	}
}

func (f *fresh) widen() {
	old := f.slots
	f.slots = make([]freshSlot, 2*len(old))
	for _, s := range old {
		if s.turn == f.turn {
			*f.slot(s.id) = s
		}
	}
}
