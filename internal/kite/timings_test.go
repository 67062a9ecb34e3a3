package kite

import (
	"testing"
	"time"
)

// TestTimings puts durations on, between and beyond the bounds.
func TestTimings(t *testing.T) {
	t.Parallel()
	var timings Timings
	timings.Observe(-time.Second, 1)
	timings.Observe(100*time.Microsecond, 2) // a bound is its own bucket's
	timings.Observe(100*time.Microsecond+1, 3)
	timings.Observe(time.Hour, 4)
	got := timings.Read()
	last := len(got.Counts) - 1
	if got.Counts[0] != 3 || got.Counts[1] != 3 || got.Counts[last] != 4 || got.Count() != 10 {
		t.Errorf("%+v", got)
	}
	if want := 5*100*time.Microsecond + 3 + 4*time.Hour; got.Sum != want {
		t.Errorf("sum %v, want %v", got.Sum, want)
	}
}
