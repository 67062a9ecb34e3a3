package handler

import "sync/atomic"

// Stats is what clients have sent since the start.
type Stats struct {
	// Accepted counts the publishes that the accept limit let through.
	Accepted int64
	// Received counts those of them that were to a topic which is served, by topic. A topic that is served
	// again after it was not begins with 0.
	Received map[string]int64
}

// Stats returns the counters, which lag behind the reads under way.
func (h *Handler) Stats() Stats {
	topics := *h.topics.Load()
	s := Stats{Accepted: h.accepted.Load(), Received: make(map[string]int64, len(topics))}
	for name, t := range topics {
		s.Received[name] = t.received.Load()
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
