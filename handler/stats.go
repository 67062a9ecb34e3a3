package handler

import (
	"sync/atomic"

	"github.com/kiteq/kiteq/internal/kite"
)

// Refusal is why a publish was answered false.
type Refusal int

// The refusals.
const (
	RefusedRate        Refusal = iota // over accept_per_second
	RefusedBusy                       // a queue or the store is full
	RefusedStopping                   // the broker stops
	RefusedDisk                       // little of it is free
	RefusedMemory                     // little of it is free
	RefusedUnavailable                // the journal takes nothing
	RefusedTopic                      // not served
	RefusedID                         // no message id
	RefusedExpired
	RefusedSize     // of the message, or of its type or group
	RefusedDelay    // a time that cannot be
	RefusedFly      // fly, and not committed
	RefusedConflict // the id is that of something else
	RefusedRight    // the group may not publish to the topic
	refusals
)

func (r Refusal) String() string {
	return [...]string{"rate", "busy", "stopping", "disk", "memory", "unavailable", "topic", "id", "expired", "size", "delay", "fly", "conflict", "right"}[r]
}

// refusalOf is the refusal of a batch that the lane did not take, or could not write.
func refusalOf(code kite.Code) Refusal {
	if code == kite.Busy {
		return RefusedBusy
	}
	return RefusedUnavailable
}

// Stats is what clients have sent since the start.
type Stats struct {
	// Accepted counts the publishes that the accept limit let through.
	Accepted int64
	// Received counts those of them that were to a topic which is served, by topic. A topic that is served
	// again after it was not begins with 0.
	Received map[string]int64
	// Refused counts the publishes that were answered false, by reason.
	Refused map[string]int64
	// Acked are those that were answered true after they were stored: from the read that brought them.
	Acked kite.Timing
}

// Stats returns the counters, which lag behind the reads under way.
func (h *Handler) Stats() Stats {
	topics := *h.topics.Load()
	s := Stats{Accepted: h.accepted.Load(), Received: make(map[string]int64, len(topics)), Refused: map[string]int64{}, Acked: h.acked.Read()}
	for name, t := range topics {
		s.Received[name] = t.received.Load()
	}
	for why := range refusals {
		s.Refused[why.String()] = h.refused[why].Load()
	}
	return s
}

// topic is one that is served.
type topic struct {
	name     string
	received atomic.Int64
}

// tally counts the publishes of one read. Most go to one topic: its counter is added to once.
type tally struct {
	accepted int64
	topic    *topic
	received int64
}

func (c *tally) receive(t *topic) {
	if t != c.topic {
		c.flush()
		c.topic = t
	}
	c.received++
}

func (c *tally) flush() {
	if c.topic != nil {
		c.topic.received.Add(c.received)
		c.received = 0
	}
}
