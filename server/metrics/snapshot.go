package metrics

import (
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Snapshot is a broker at one moment. What is called a count grows from the broker's start on.
type Snapshot struct {
	Version string // of the broker
	At      time.Time

	// Ready: the broker serves. RegistryReady: it hears its registry. Poisoned: the journal takes nothing any more.
	Ready, RegistryReady, Poisoned bool

	Topics []Topic
	Flows  []Flow
	// Members is how many clients of each group are connected, producers too.
	Members map[string]int

	// Accepted counts the publishes that the accept limit let through, Refused those that were answered false,
	// by reason.
	Accepted int64
	Refused  map[string]int64
	// Acked is how long publishes took from the read to their answer, Waited how long messages had been stored when
	// they were sent, Appended and Synced what each turn of the lane took to be written and to be synced.
	Acked, Waited, Appended, Synced kite.Timing

	// Waiting are the requests, and their payload bytes, that wait for the lane, with their bounds. Busy is
	// how long the lane has worked.
	Waiting, WaitingMax           int
	WaitingBytes, WaitingBytesMax int64
	Busy                          time.Duration

	// Open and Parked transactions are undecided; OldestTx is when the oldest of both was prepared, Unix ms; 0
	// without one. Checks, Conflicts, HookChecks and HookFailures are counts.
	Open, Parked                                int
	OldestTx                                    int64
	Checks, Conflicts, HookChecks, HookFailures int64

	// Delayed messages wait for their time, DelayedNear of them in memory. FlyDropped counts fly messages that
	// nobody could take, BadBindings the bindings that could not be understood.
	Delayed, DelayedNear, FlyDropped, BadBindings int64

	// DiskFree and Memory are what is free of the journal's disk and what the process has, with the marks at which
	// publishes are refused, bytes; 0: not known. Held: they are refused.
	DiskFree, DiskLow, Memory, MemoryHigh int64
	Held                                  bool

	// Keys counts the keys and tokens that were shown, by what came of it; nil without rules.
	Keys map[string]int64

	Connections, ConnectionsMax          int
	ConnectionsRefused, Handshakes       int64 // counts: over a bound, and of TLS that failed
	Reads, ReadBytes, Writes, WriteBytes int64 // counts
	// PartialBytes are of frames that are not whole. KeysRefused and KeysHeld are counts of keys that were wrong and
	// that were not looked at; KeysWaiting wait for it.
	PartialBytes, KeysRefused, KeysHeld, KeysWaiting int64
}

// Topic is a served topic.
type Topic struct {
	Name string
	// Received counts the publishes since it is served, Stored the messages it ever had.
	Received, Stored int64
}

// Flow is a topic on its way to a group.
type Flow struct {
	Topic, Group string
	// Attempts counts the deliveries, repeats too, Failed those of them without an ack, Flown those of fly
	// messages, and DeadEver the dead letters that were ever written.
	Attempts, Failed, Flown, DeadEver int64
	// Backlog is what the group has not settled, Lag how many of it were never sent.
	Backlog, Lag, InFlight, Armed, Dead int64
	// OldestMs is when the oldest unsettled message was stored, OfflineMs since when nobody of the group is
	// connected, Unix ms; 0 when there is none, or somebody is.
	OldestMs, OfflineMs int64
	Paused, BreakerOpen bool
}

// add adds what is counted, and takes the oldest.
func (f *Flow) add(g *Flow) {
	f.Attempts, f.Failed, f.Flown, f.DeadEver = f.Attempts+g.Attempts, f.Failed+g.Failed, f.Flown+g.Flown, f.DeadEver+g.DeadEver
	f.Backlog, f.Lag, f.InFlight, f.Armed, f.Dead = f.Backlog+g.Backlog, f.Lag+g.Lag, f.InFlight+g.InFlight, f.Armed+g.Armed, f.Dead+g.Dead
	f.OldestMs, f.OfflineMs = older(f.OldestMs, g.OldestMs), older(f.OfflineMs, g.OfflineMs)
	f.Paused, f.BreakerOpen = f.Paused || g.Paused, f.BreakerOpen || g.BreakerOpen
}

// older returns the earlier of two times of which 0 is none.
func older(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
