package txn

import (
	"cmp"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
)

// Entry is an undecided transaction with what was seen of it.
type Entry struct {
	ID         kite.MessageID
	Topic      string
	Group      string // the publisher's
	PreparedMs int64
	Sight
}

// Place is where an entry stands in the order of List.
type Place struct {
	PreparedMs int64
	ID         kite.MessageID
}

// Compare orders places: the oldest first.
func (p Place) Compare(q Place) int {
	return cmp.Or(cmp.Compare(p.PreparedMs, q.PreparedMs), slices.Compare(p.ID[:], q.ID[:]))
}

// listChunk bounds how many entries List looks at while it holds the lock.
const listChunk = 1024

// List returns the undecided transactions behind the place after for which keep returns true, the oldest
// first, at most limit, and whether there may be more. keep must be quick.
//
// There may be very many, and the lane's news wait for the lock. So under it only the pointers are copied;
// who comes next is found without it, by what of an entry never changes.
func (c *Checker) List(after Place, limit int, keep func(*Entry) bool) (entries []Entry, more bool) {
	for candidates := c.behind(after); len(candidates) > 0; {
		n := min(listChunk, len(candidates))
		for _, e := range c.entries(candidates[:n]) {
			if !keep(&e) {
				continue
			}
			if len(entries) == limit {
				return entries, true
			}
			entries = append(entries, e)
		}
		candidates = candidates[n:]
	}
	return entries, false
}

// behind returns the undecided behind the place, sorted.
func (c *Checker) behind(after Place) []*pending {
	found := slices.DeleteFunc(c.snapshot(), func(p *pending) bool { return p.place().Compare(after) <= 0 })
	slices.SortFunc(found, func(p, q *pending) int { return p.place().Compare(q.place()) })
	return found
}

// snapshot returns who was undecided a moment ago. Only what never changes may be read of them.
func (c *Checker) snapshot() []*pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone([]*pending(c.book.queue))
}

// place never changes.
func (p *pending) place() Place { return Place{p.preparedMs, p.id} }

// entries describes those that are still undecided.
func (c *Checker) entries(of []*pending) []Entry {
	all := make([]Entry, 0, len(of))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range of {
		if c.book.open[p.id] == p {
			all = append(all, Entry{ID: p.id, Topic: p.topic, Group: p.group.name, PreparedMs: p.preparedMs, Sight: p.sight()})
		}
	}
	return all
}

// CheckNow makes the next check of the transaction due at once. It returns false when the transaction is not
// undecided, or parked.
func (c *Checker) CheckNow(id kite.MessageID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.book.open[id]
	if p == nil || p.parked {
		return false
	}
	c.book.move(p, kite.UnixMs(c.now()))
	c.signal()
	return true
}
