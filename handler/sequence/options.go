package sequence

import (
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Options of the lane.
type Options struct {
	// DedupeWindow is how long the id of a message is remembered: a repeat within it is answered true
	// and stored once. Default 10m, 1s to 24h.
	DedupeWindow time.Duration `toml:"dedupe_window"`
	// MaxOpen bounds the undecided transactions, parked ones too, about 350 bytes each; more are answered
	// busy. Default 1000000, at least 1000.
	MaxOpen int `toml:"max_open" reload:"live"`
	// InboxItems bounds the requests that wait for the lane; more are answered busy. Default 65536,
	// at least 1024.
	InboxItems int `toml:"inbox_items" reload:"live"`
	// InboxBytes bounds the payload bytes that wait for the lane. Default 64 MiB, at least 4 MiB.
	InboxBytes kite.ByteSize `toml:"inbox_bytes" reload:"live"`
	// CheckpointBytes is after how much appended payload the state is written as a checkpoint and
	// what nobody needs is trimmed. Default 256 MiB, at least 1 MiB.
	CheckpointBytes kite.ByteSize `toml:"checkpoint_bytes" reload:"live"`
	// DeliverFirst delivers messages before they are synced: sooner, and a power cut may take back what a
	// consumer has seen; its publisher was not answered then. Default false.
	DeliverFirst bool `toml:"-"`
	// Classes are the topics whose messages are to be of another class than the journal's own, and
	// which. A turn is made as durable as the strongest of its messages asks for. Default none.
	Classes map[string]kite.Class `toml:"-"`
	// Retention is how long messages are kept after every durable group has settled them. Default 1h.
	Retention time.Duration `toml:"retention" reload:"live"`
	// RetentionBytes ends Retention early: while the journal is larger, the oldest of what everybody has
	// settled goes. What a durable group still needs stays. Default 0: no limit. It counts at checkpoints,
	// so the journal may be larger by CheckpointBytes.
	RetentionBytes kite.ByteSize `toml:"retention_bytes" reload:"live"`
}

// WithDefaults returns the options with the default in place of every zero.
func (o Options) WithDefaults() Options {
	if o.DedupeWindow == 0 {
		o.DedupeWindow = 10 * time.Minute
	}
	if o.MaxOpen == 0 {
		o.MaxOpen = 1_000_000
	}
	if o.InboxItems == 0 {
		o.InboxItems = 1 << 16
	}
	if o.InboxBytes == 0 {
		o.InboxBytes = 64 << 20
	}
	if o.CheckpointBytes == 0 {
		o.CheckpointBytes = 256 << 20
	}
	if o.Retention == 0 {
		o.Retention = time.Hour
	}
	return o
}

// Validate returns every problem, joined.
func (o Options) Validate() error {
	var problems kite.Problems
	problems.Check(o.DedupeWindow >= time.Second && o.DedupeWindow <= 24*time.Hour, "dedupe window %v: use 1s to 24h", o.DedupeWindow)
	problems.Check(o.MaxOpen >= 1000, "max open %d: use 1000 or more", o.MaxOpen)
	problems.Check(o.InboxItems >= 1024, "inbox items %d: use 1024 or more", o.InboxItems)
	problems.Check(o.InboxBytes >= 4<<20, "inbox bytes %v: use 4MiB or more", o.InboxBytes)
	problems.Check(o.CheckpointBytes >= 1<<20, "checkpoint bytes %v: use 1MiB or more", o.CheckpointBytes)
	problems.Check(o.Retention > 0, "retention %v: use more than 0", o.Retention)
	problems.Check(o.RetentionBytes >= 0, "retention bytes %v: use 0 or more", o.RetentionBytes)
	return problems.Err()
}
