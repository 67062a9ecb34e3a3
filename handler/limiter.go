package handler

import (
	"sync"
	"time"
)

// limiter is a token bucket for all connections together: rate publishes a second, half a second's worth
// at once, but at least one. The event loops take from it once a read, so its lock costs no message
// anything.
type limiter struct {
	rate, burst float64

	mu     sync.Mutex
	tokens float64
	last   time.Time
}

// newLimiter returns a full bucket.
func newLimiter(perSecond int, now time.Time) *limiter {
	burst := max(1, float64(perSecond)/2)
	return &limiter{rate: float64(perSecond), burst: burst, tokens: burst, last: now}
}

// take takes up to n tokens and returns how many.
func (l *limiter) take(n int, now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if passed := now.Sub(l.last); passed > 0 { // two loops may have read the clock in the other order
		l.tokens = min(l.burst, l.tokens+passed.Seconds()*l.rate)
		l.last = now
	}
	n = min(n, int(l.tokens))
	l.tokens -= float64(n)
	return n
}

// put gives back what was not used.
func (l *limiter) put(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens = min(l.burst, l.tokens+float64(n))
}
