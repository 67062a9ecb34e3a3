package client

import "sync/atomic"

// Stats counts what happened since Dial.
type Stats struct {
	Published   int64 // publishes sent, repeats included
	Acked       int64 // publishes that a broker confirmed
	Refused     int64 // publishes that a broker refused
	Timeouts    int64 // publishes without an answer within AckTimeout
	Delivered   int64 // deliveries given to a handler
	Nacked      int64 // deliveries whose handler failed
	Corrupt     int64 // deliveries nacked since their body does not decompress
	Unmatched   int64 // deliveries nacked since no subscription takes them
	Overflowed  int64 // deliveries nacked since too many were waiting
	Abandoned   int64 // deliveries nacked or dropped since the client closes or their connection is gone
	Checks      int64 // checks answered, by whatever verdict
	Connects    int64 // connections made
	Unsolicited int64 // frames ignored: late, or answers to nothing
	Malformed   int64 // frames ignored: they do not decode
}

type counters struct {
	published, acked, refused, timeouts, delivered, nacked, corrupt, unmatched, overflowed,
	abandoned, checks, connects, unsolicited, malformed atomic.Int64
}

func (c *counters) stats() Stats {
	return Stats{
		Published: c.published.Load(), Acked: c.acked.Load(), Refused: c.refused.Load(), Timeouts: c.timeouts.Load(),
		Delivered: c.delivered.Load(), Nacked: c.nacked.Load(), Corrupt: c.corrupt.Load(), Unmatched: c.unmatched.Load(),
		Overflowed: c.overflowed.Load(), Abandoned: c.abandoned.Load(), Checks: c.checks.Load(),
		Connects: c.connects.Load(), Unsolicited: c.unsolicited.Load(), Malformed: c.malformed.Load(),
	}
}
