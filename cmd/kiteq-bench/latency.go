package main

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// maxLatency is the longest that a histogram tells apart; what takes longer counts as this.
const maxLatency = 10 * time.Minute

// latency is a histogram of durations in microseconds, with three digits. One goroutine at a time uses it.
type latency struct{ h *hdrhistogram.Histogram }

func newLatency() *latency {
	return &latency{hdrhistogram.New(1, maxLatency.Microseconds(), 3)}
}

func (l *latency) record(d time.Duration) {
	us := min(max(d.Microseconds(), 1), maxLatency.Microseconds())
	_ = l.h.RecordValue(us) // it is in the range
}

func (l *latency) merge(other *latency) { l.h.Merge(other.h) }

// figures are a histogram's percentiles, microseconds.
type figures struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_us"`
	P50   int64   `json:"p50_us"`
	P90   int64   `json:"p90_us"`
	P99   int64   `json:"p99_us"`
	P999  int64   `json:"p999_us"`
	Max   int64   `json:"max_us"`
}

// figures returns nil when nothing was recorded.
func (l *latency) figures() *figures {
	if l.h.TotalCount() == 0 {
		return nil
	}
	at := l.h.ValueAtQuantile
	return &figures{l.h.TotalCount(), l.h.Mean(), at(50), at(90), at(99), at(99.9), l.h.Max()}
}
