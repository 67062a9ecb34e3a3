package kite

import (
	"slices"
	"sync/atomic"
	"time"
)

// TimingBounds are the upper bounds of the buckets of Timings, inclusive; what took longer is in one more.
var TimingBounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// Timings counts how long things took, in buckets. It is for what happens to batches: an observation costs a
// search and two atomic additions, however many messages it stands for. The zero value is empty.
type Timings struct {
	counts [len(TimingBounds) + 1]atomic.Int64
	nanos  atomic.Int64
}

// Observe notes that n things took d each. A negative d, of clocks that differ, counts as 0.
func (t *Timings) Observe(d time.Duration, n int) {
	d = max(d, 0)
	i, _ := slices.BinarySearch(TimingBounds[:], d)
	t.counts[i].Add(int64(n))
	t.nanos.Add(int64(d) * int64(n))
}

// Timing is what Timings have counted.
type Timing struct {
	// Counts has one for each of TimingBounds, what was above the one before and not above it, and one for
	// what was longer.
	Counts [len(TimingBounds) + 1]int64
	// Sum is all of it together.
	Sum time.Duration
}

// Read returns the counts, one read after the other while others are added to.
func (t *Timings) Read() (r Timing) {
	for i := range t.counts {
		r.Counts[i] = t.counts[i].Load()
	}
	r.Sum = time.Duration(t.nanos.Load())
	return r
}

// Count is how many things were observed.
func (t *Timing) Count() (n int64) {
	for _, c := range t.Counts {
		n += c
	}
	return n
}

// Since returns what was counted after before.
func (t Timing) Since(before *Timing) Timing {
	for i := range t.Counts {
		t.Counts[i] -= before.Counts[i]
	}
	t.Sum -= before.Sum
	return t
}

// Quantile returns how long the quickest share took at the most, 0 < share <= 1: an estimate, as if what lies in a
// bucket were spread evenly over it. What was longer than the last bound counts as that. It is 0 when nothing was
// counted.
func (t *Timing) Quantile(share float64) time.Duration {
	wanted := share * float64(t.Count())
	below := 0.0
	for i, bound := range TimingBounds {
		n := float64(t.Counts[i])
		if n > 0 && below+n >= wanted {
			low := time.Duration(0)
			if i > 0 {
				low = TimingBounds[i-1]
			}
			return low + time.Duration((wanted-below)/n*float64(bound-low))
		}
		below += n
	}
	if t.Count() == 0 {
		return 0
	}
	return TimingBounds[len(TimingBounds)-1]
}
