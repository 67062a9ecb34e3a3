package txn

import (
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Options of the checks.
type Options struct {
	// First is how long a transaction stays undecided before the first check. It should be longer than
	// the longest local transaction. Default 10s, 100ms to 1h.
	First time.Duration `toml:"first_check" reload:"live"`
	// Longest bounds the pause between two checks; it doubles from First on. Default 5m, First to 24h.
	Longest time.Duration `toml:"longest_pause" reload:"live"`
	// MaxChecks is how many checks are sent before the transaction is parked. Default 15, 1 to 1000.
	MaxChecks int `toml:"max_checks" reload:"live"`
	// ParkedRetention is how long a parked transaction waits for an operator before it is rolled back.
	// Default 720h, 1m to 8760h.
	ParkedRetention time.Duration `toml:"parked_retention" reload:"live"`
}

// WithDefaults returns the options with the default in place of every zero.
func (o Options) WithDefaults() Options {
	if o.First == 0 {
		o.First = 10 * time.Second
	}
	if o.Longest == 0 {
		o.Longest = max(5*time.Minute, o.First)
	}
	if o.MaxChecks == 0 {
		o.MaxChecks = 15
	}
	if o.ParkedRetention == 0 {
		o.ParkedRetention = 30 * 24 * time.Hour
	}
	return o
}

// Validate returns every problem, joined.
func (o Options) Validate() error {
	var problems kite.Problems
	problems.Check(o.First >= 100*time.Millisecond && o.First <= time.Hour, "first check %v: use 100ms to 1h", o.First)
	problems.Check(o.Longest >= o.First && o.Longest <= 24*time.Hour, "longest pause between checks %v: use %v to 24h", o.Longest, o.First)
	problems.Check(o.MaxChecks >= 1 && o.MaxChecks <= 1000, "max checks %d: use 1 to 1000", o.MaxChecks)
	problems.Check(o.ParkedRetention >= time.Minute && o.ParkedRetention <= 365*24*time.Hour, "parked retention %v: use 1m to 8760h", o.ParkedRetention)
	return problems.Err()
}
