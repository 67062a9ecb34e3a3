package sequence

import (
	"sync/atomic"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Stats is what the lane has done since the start, and what it holds.
type Stats struct {
	// Busy is how long it worked: its share of the time that went by is how near the lane is to its limit.
	Busy time.Duration
	// Appended and Synced are one of each for a turn's records; Synced is near zero for a class that syncs nothing.
	Appended, Synced kite.Timing
	// Waiting is how many requests wait for it, and WaitingBytes how large their payloads are.
	Waiting      int
	WaitingBytes int64
	// Delayed is how many messages wait for their time; Conflicts counts the decisions that were refused
	// because the opposite stands.
	Delayed, Conflicts int64
}

// Stats returns the counters.
func (l *Lane) Stats() Stats {
	s := Stats{
		Busy: time.Duration(l.counts.busy.Load()), Appended: l.counts.appended.Read(), Synced: l.counts.synced.Read(),
		Delayed: l.Delayed(), Conflicts: l.Conflicts(),
	}
	s.Waiting, s.WaitingBytes = l.inbox.depth()
	return s
}

// counters are added to once a turn.
type counters struct {
	busy             atomic.Int64 // ns
	appended, synced kite.Timings
}

func (c *counters) worked(since time.Time) { c.busy.Add(int64(time.Since(since))) }
