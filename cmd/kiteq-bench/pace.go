package main

import "time"

// pace says when a connection's messages are due. One goroutine uses it.
//
// With a rate the times are fixed in advance (open loop): a broker that stalls does not make the
// generator wait politely, and the messages that became due meanwhile count their delay.
type pace struct {
	start time.Time
	end   time.Time     // zero: none
	every time.Duration // 0: a message is due when there is room for it
	left  int64         // messages still to send; negative: no limit
	sent  int64
}

// newPace is the share of connection conn of conns. Connections take turns: each begins a fraction of
// its interval after the one before.
func newPace(o options, conn, conns int, start time.Time) *pace {
	p := &pace{start: start, left: -1}
	if o.d > 0 {
		p.end = start.Add(o.d)
	}
	if o.n > 0 {
		p.left = o.n / int64(conns)
		if int64(conn) < o.n%int64(conns) {
			p.left++
		}
	}
	if o.rate > 0 {
		p.every = time.Duration(float64(conns) / o.rate * float64(time.Second))
		p.start = start.Add(p.every * time.Duration(conn) / time.Duration(conns))
	}
	return p
}

// next tells when the next message is due; false when there is none.
func (p *pace) next(now time.Time) (due time.Time, ok bool) {
	due = now
	if p.every > 0 {
		due = p.start.Add(time.Duration(p.sent) * p.every)
	}
	return due, p.left != 0 && (p.end.IsZero() || due.Before(p.end))
}

// took says that the next message was sent.
func (p *pace) took() {
	p.sent++
	if p.left > 0 {
		p.left--
	}
}
