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

func TestQuantile(t *testing.T) {
	t.Parallel()
	var timings Timings
	empty := timings.Read()
	if got := empty.Quantile(0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	timings.Observe(800*time.Microsecond, 90) // above 500 us, up to 1 ms
	timings.Observe(20*time.Millisecond, 10)  // above 10 ms, up to 25 ms
	before := timings.Read()
	for _, want := range []struct {
		share float64
		took  time.Duration
	}{{0.45, 750 * time.Microsecond}, {0.9, time.Millisecond}, {0.95, 17500 * time.Microsecond}, {1, 25 * time.Millisecond}} {
		if got := before.Quantile(want.share); got != want.took {
			t.Errorf("%v of all: %v, want %v", want.share, got, want.took)
		}
	}
	timings.Observe(time.Hour, 1)
	last := timings.Read().Since(&before)
	if got := last.Quantile(0.5); last.Count() != 1 || last.Sum != time.Hour || got != time.Minute {
		t.Errorf("since: %+v, half of it within %v", last, got)
	}
}
