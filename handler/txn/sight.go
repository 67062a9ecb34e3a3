package txn

import "github.com/kiteq/kiteq/internal/kite"

// Sight is what the checker has seen of an undecided transaction since the broker's start.
type Sight struct {
	// Checks counts those that were sent, since the last recheck when there was one.
	Checks int
	// Asked is who got the last one, "" when none was sent; AskedMs is when, Unix ms.
	Asked   string
	AskedMs int64
	// Answered is who answered one without deciding, "" when nobody did; AnsweredMs is when, Unix ms.
	Answered   string
	AnsweredMs int64
	// Parked transactions are not asked about. NextMs is when the next check is due, or when a parked one
	// is rolled back, Unix ms.
	Parked bool
	NextMs int64
}

// Look returns what was seen of the transaction; ok is false when it is not undecided.
func (c *Checker) Look(id kite.MessageID) (s Sight, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.book.open[id]
	if p == nil {
		return Sight{}, false
	}
	return p.sight(), true
}

// Recall returns what had been seen of a decided transaction that was asked about. Only the newest are
// remembered.
func (c *Checker) Recall(id kite.MessageID) (s Sight, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok = c.decided.sights[id]
	return s, ok
}

// maxDecided is how many decided transactions are remembered, some 200 bytes each.
const maxDecided = 4096

// memory holds what was seen of the newest decided transactions. One that was never asked about, which is
// nearly every one, leaves nothing.
type memory struct {
	sights map[kite.MessageID]Sight
	order  [maxDecided]kite.MessageID // a ring
	next   int
}

func (m *memory) add(p *pending) {
	if p.checks == 0 {
		return
	}
	if m.sights == nil {
		m.sights = map[kite.MessageID]Sight{}
	}
	delete(m.sights, m.order[m.next])
	m.order[m.next] = p.id
	m.next = (m.next + 1) % maxDecided
	m.sights[p.id] = p.sight()
}

func (p *pending) sight() Sight {
	return Sight{
		Checks: int(p.checks), Asked: p.asked, AskedMs: p.askedMs,
		Answered: p.answered, AnsweredMs: p.answeredMs, Parked: p.parked, NextMs: p.dueMs,
	}
}

// Stats counts the undecided.
type Stats struct {
	// Open are asked about, Parked wait for an operator.
	Open, Parked int
	// OldestMs is when the oldest of both was prepared, Unix ms; 0 when there is none.
	OldestMs int64
	// Sent counts the checks since the start.
	Sent int64
}

// Stats counts. It looks at every undecided transaction, without the lock that the lane's news wait for.
func (c *Checker) Stats() Stats {
	s := Stats{Sent: c.sent.Load()}
	for _, p := range c.snapshot() {
		if s.OldestMs == 0 || p.preparedMs < s.OldestMs {
			s.OldestMs = p.preparedMs
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Open, s.Parked = len(c.book.open)-c.book.parked, c.book.parked
	return s
}
