package guard

import "github.com/kiteq/kiteq/internal/kite"

// Options are what is kept free.
type Options struct {
	// DiskLow is how much of the journal's file system is left free: with less publishes are refused until there is a
	// quarter more, and all else goes on. At most a twentieth of the file system. Default 1 GiB, at least 1 B, which
	// leaves it to the journal's reserve.
	DiskLow kite.ByteSize `toml:"disk_low" reload:"live"`
	// MemoryHigh is how much memory the process may have, mapped files aside, before publishes are refused until it
	// has a tenth less. Default 0: four fifths of what its control group, or the machine, has.
	MemoryHigh kite.ByteSize `toml:"memory_high" reload:"live"`
}

// WithDefaults returns the options with the default in place of every zero.
func (o Options) WithDefaults() Options {
	if o.DiskLow == 0 {
		o.DiskLow = 1 << 30
	}
	return o
}

// Validate returns every problem, joined.
func (o Options) Validate() error {
	var problems kite.Problems
	problems.Check(o.DiskLow >= 1, "disk low %v: use 1B or more", o.DiskLow)
	problems.Check(o.MemoryHigh == 0 || o.MemoryHigh >= 64<<20, "memory high %v: use 64MiB or more, or 0 for what the machine has", o.MemoryHigh)
	return problems.Err()
}
