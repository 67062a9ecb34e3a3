package handler

import (
	"math"
	"slices"
	"sync"
	"time"
)

// limiter is a token bucket for all connections together: rate publishes a second, half a second's worth
// at once, but at least one. The event loops take from it once a read and topic, so its lock costs no message
// anything.
//
// When the limit is hit the topics share it: each has a claim to an equal part of the rate, as far as it asks for
// that much, and takes beyond its claim only what nobody else has one to. A topic that floods the broker is refused,
// and one that sends a little is not. Claims grow with the second that they are for; what a topic asked for in the
// last one, or in this one already, is what it is expected to want. Who stays away has claims for two seconds at most.
type limiter struct {
	rate, burst float64

	mu     sync.Mutex
	tokens float64
	last   time.Time
	begun  time.Time // the second that claims are for
	shares []*share  // of the topics of this second and the last
}

// share is what one topic, or all that are not served, had of this second.
type share struct {
	topic         *topic
	before, asked float64 // in the last second, in this one
	taken         float64
}

// newLimiter returns a full bucket.
func newLimiter(perSecond int, now time.Time) *limiter {
	burst := max(1, float64(perSecond)/2)
	return &limiter{rate: float64(perSecond), burst: burst, tokens: burst, last: now, begun: now}
}

// take takes up to n tokens for the topic and returns how many.
func (l *limiter) take(t *topic, n int, now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if passed := now.Sub(l.last); passed > 0 { // two loops may have read the clock in the other order
		l.tokens = min(l.burst, l.tokens+passed.Seconds()*l.rate)
		l.last = now
	}
	if now.Sub(l.begun) >= time.Second {
		l.turnOver(now)
	}
	s := l.shareOf(t)
	if s == nil {
		s = &share{topic: t}
		l.shares = append(l.shares, s)
	}
	s.asked += float64(n)
	n = min(n, int(min(l.tokens, l.open(s))))
	l.tokens -= float64(n)
	s.taken += float64(n)
	return n
}

// open is how many tokens s may take: its claim, or what the others have no claim to, whichever is more.
func (l *limiter) open(s *share) float64 {
	each := l.rate / float64(len(l.shares))
	if each < 1 || len(l.shares) == 1 {
		return l.tokens
	}
	second := l.last.Sub(l.begun).Seconds()
	unclaimed := l.tokens
	for _, other := range l.shares {
		if other != s {
			unclaimed -= other.claim(each, second)
		}
	}
	return max(unclaimed, s.claim(each, second))
}

// claim is what the share may still have of its part, so far into the second.
func (s *share) claim(each, second float64) float64 {
	part := min(each, max(s.before, s.asked))
	return max(0, min(part, math.Floor(part*second)+1)-s.taken)
}

// put gives back what was not used.
func (l *limiter) put(t *topic, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens = min(l.burst, l.tokens+float64(n))
	if s := l.shareOf(t); s != nil {
		s.asked, s.taken = max(0, s.asked-float64(n)), max(0, s.taken-float64(n))
	}
}

func (l *limiter) shareOf(t *topic) *share {
	for _, s := range l.shares {
		if s.topic == t {
			return s
		}
	}
	return nil
}

// turnOver begins a new second. Who asked for nothing in the last one has no share any more.
func (l *limiter) turnOver(now time.Time) {
	old := now.Sub(l.begun) >= 2*time.Second
	l.begun = now
	l.shares = slices.DeleteFunc(l.shares, func(s *share) bool { return old || s.asked == 0 })
	for _, s := range l.shares {
		s.before, s.asked, s.taken = s.asked, 0, 0
	}
}
