package deliver

import "github.com/kiteq/kiteq/internal/kite"

// topic is what a shard knows of one topic: who follows it here, and how far it has grown.
type topic struct {
	// Owned by run.
	flows []*flow
	known kite.Seq // the newest Seq, as of this turn

	// Guarded by shard.mu.
	head     kite.Seq // the newest Seq
	followed bool     // is in the newest routes: growth of other topics wakes nobody
	grew     bool     // is in events.grown
}

// growth says that a topic has messages up to head.
type growth struct {
	topic string
	head  kite.Seq
}

// topicLocked returns the topic, a new one if it was not known.
func (s *shard) topicLocked(name string) *topic {
	t := s.topics[name]
	if t == nil {
		t = &topic{}
		s.topics[name] = t
	}
	return t
}

// joinTopic returns the topic of a new flow, which begins at the head of now.
func (s *shard) joinTopic(name string) *topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topicLocked(name)
	t.known = t.head
	return t
}

// flowsOn returns the flows of the topic.
func (s *shard) flowsOn(name string) []*flow {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.topics[name]; t != nil {
		return t.flows
	}
	return nil
}

// bind replaces the routes.
func (s *shard) bind(routes []kite.Route) {
	s.post(func(e *events) {
		e.routes, e.rerouted = routes, true
		for _, t := range s.topics {
			t.followed = false
		}
		for i := range routes {
			t := s.topicLocked(routes[i].Topic)
			t.followed = true
			e.grew(t) // perhaps while nobody followed it
		}
	})
}

// grew enters the topic among those that have grown; it tells whether it was not there. The shard is locked.
func (e *events) grew(t *topic) bool {
	if t.grew {
		return false
	}
	t.grew = true
	e.grown = append(e.grown, t)
	return true
}

// grown notes new heads. It brings a turn for topics that a flow follows, one for whatever has grown until then,
// and none for the others: every publish would wake every shard. Routes that come later find them, since both are
// under mu. It runs on the lane, and a turn of the lane may grow a thousand topics by one message each.
func (s *shard) grown(all []growth) {
	wake := false
	s.mu.Lock()
	for _, g := range all {
		t := s.topicLocked(g.topic)
		t.head = max(t.head, g.head)
		wake = t.followed && s.events.grew(t) || wake
	}
	s.mu.Unlock()
	if wake {
		s.signal()
	}
}

// take begins a turn with the events that were posted until now.
func (s *shard) take() *events {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken, s.events = s.events, s.taken
	for _, t := range s.taken.grown {
		t.known, t.grew = t.head, false
	}
	return &s.taken
}

// grow lets the topic's flows go on to its head.
func (s *shard) grow(t *topic) {
	for _, f := range t.flows {
		f.head = t.known + 1
		if !f.blocked || !f.durable { // a non-durable group may be gone
			s.makeReady(f)
		}
	}
}
