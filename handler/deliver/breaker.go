package deliver

import (
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// breaker keeps a flow from burning the attempts of its backlog while the group can process nothing, for
// instance because its database is away.
//
// It opens when BreakerAfter different messages have failed with no ack between them, and two seconds later
// another failure comes and still no ack has. Different ones, so that one message that nobody can process goes
// its way to the dead letters and holds nobody up; two seconds, so that a hiccup is none. A lost connection
// says nothing about processing and does not count.
//
// While it is open one message at a time is sent, the probe: the one that has been due the longest, and every
// other time a new one, so that a few hopeless messages do not hide that others would be taken. Between two
// probes is a pause that doubles. No failure uses up an attempt then: nothing dies at its limit, but for
// messages that expire nothing is lost, however long it lasts. The first ack closes it.
//
// Broadcast groups have none: each member's copies wait for that member alone.
//
// On the way of a message that is acked it costs one comparison.
type breaker struct {
	failed  map[kite.Seq]struct{} // the different messages that failed since the last ack; nil: none
	sinceMs int64                 // when there were enough of them
	open    bool
	probing bool // the probe is in flight
	fresh   bool // the next probe is a new message, if there is one
	pauseMs int64
	nextMs  int64 // no probe before, Unix ms
}

const (
	breakerGrace      = 2 * time.Second
	breakerPause      = time.Second
	breakerPauseLimit = 30 * time.Second
)

// failed counts a nack or a timeout, and opens the breaker when it is one too many.
func (s *shard) failed(sl *slot) {
	f := sl.flow
	b := &f.breaker
	switch {
	case b.open && sl.probe:
		b.pauseMs = min(2*b.pauseMs, breakerPauseLimit.Milliseconds())
		b.nextMs = s.nowMs + b.pauseMs
		b.probing, b.fresh, f.waking = false, !b.fresh, false
		return
	case b.open || s.options.BreakerAfter < 0 || sl.letter || sl.to != nil:
		return
	case b.failed == nil:
		b.failed = map[kite.Seq]struct{}{}
	}
	if len(b.failed) < s.options.BreakerAfter {
		b.failed[sl.seq], b.sinceMs = struct{}{}, s.nowMs
		return
	}
	if s.nowMs-b.sinceMs >= breakerGrace.Milliseconds() {
		b.open, b.pauseMs, b.nextMs = true, breakerPause.Milliseconds(), s.nowMs+breakerPause.Milliseconds()
		s.log.Warn("breaker opened: only probes are delivered", "topic", f.topic, "group", f.group, "failed", len(b.failed))
	}
}

// lostProbe lets another probe go when the one in flight was lost with its connection.
func (s *shard) lostProbe(sl *slot) {
	if b := &sl.flow.breaker; b.open && sl.probe {
		b.probing, b.nextMs, sl.flow.waking = false, s.nowMs+b.pauseMs, false
	}
}

// succeeded notes an ack.
func (s *shard) succeeded(f *flow) {
	if f.breaker.failed == nil {
		return
	}
	if f.breaker.open {
		s.log.Info("breaker closed", "topic", f.topic, "group", f.group)
		f.waking = false // the heap may still hold when the next probe was due: it wakes for nothing
	}
	f.breaker = breaker{}
}

// probing notes that the probe has left: the flow waits for what becomes of it.
func (s *shard) probing(f *flow, sl *slot) {
	sl.probe, f.breaker.probing = true, true
	s.wakeLater(f, s.options.AckTimeout.Milliseconds(), CauseBreaker)
}

// probes tells whether an open breaker lets a message through now, and has the flow woken when it will.
func (s *shard) probes(f *flow) bool {
	b := &f.breaker
	if !b.probing && b.nextMs > s.nowMs {
		s.wakeLater(f, b.nextMs-s.nowMs, CauseBreaker)
		return false
	}
	return !b.probing
}
