package main

import (
	"math/bits"
	"sync"
	"time"
)

// receipt is what one group received, compared with the ledger.
type receipt struct {
	group  string
	about  subject // what the group is bound to; without a topic: to every topic
	all    bool    // mode collect: messages of every run count
	ledger *ledger

	mu      sync.Mutex
	streams []received
	counts  check
	latency *latency
	unique  int64
	last    time.Time       // of the newest delivery
	probed  map[string]bool // topics of which a probe came
}

// received is what came of one stream.
type received struct {
	seen places
	next uint64 // above the highest place that came
}

// check is what was wrong with the deliveries, all groups together.
type check struct {
	Lost       int64 `json:"lost"`         // confirmed, and not delivered
	Duplicate  int64 `json:"duplicate"`    // delivered again
	OutOfOrder int64 `json:"out_of_order"` // came after a later one of its stream
	Alien      int64 `json:"alien"`        // nobody sent it, or on another topic, or to another group
}

func newReceipt(group string, about subject, l *ledger) *receipt {
	return &receipt{
		group: group, about: about, ledger: l, streams: make([]received, len(l.streams)), latency: newLatency(),
		probed: map[string]bool{},
	}
}

// take checks one delivery.
func (r *receipt) take(topic string, body []byte, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := readStamp(body)
	if ok && s.stream == probeStream && (r.all || s.run == r.ledger.run) {
		r.probed[topic] = true
		return
	}
	r.last = now
	if r.all && ok {
		r.unique++
		return
	}
	if !ok || s.run != r.ledger.run || int(s.stream) >= len(r.streams) || len(body) != r.ledger.size {
		r.counts.Alien++
		return
	}
	sent := r.ledger.streams[s.stream]
	if sent.topic != topic || !r.wants(sent.subject) || s.place >= sent.sent.Load() {
		r.counts.Alien++
		return
	}
	got := &r.streams[s.stream]
	if got.seen.has(s.place) {
		r.counts.Duplicate++
		return
	}
	got.seen.add(s.place)
	r.unique++
	if s.place < got.next {
		r.counts.OutOfOrder++
	} else {
		got.next = s.place + 1
	}
	r.latency.record(now.Sub(s.due))
	if sent.window != nil {
		sent.meet(s.place)
	}
}

func (r *receipt) wants(about subject) bool {
	return about.kind == r.about.kind && (r.about.topic == "" || about.topic == r.about.topic)
}

// missing counts what was confirmed and has not come.
func (r *receipt) missing() (lost int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, s := range r.ledger.streams {
		if !r.wants(s.subject) {
			continue
		}
		s.mu.Lock()
		for j, word := range s.accepted {
			var seen uint64
			if j < len(r.streams[i].seen) {
				seen = r.streams[i].seen[j]
			}
			lost += int64(bits.OnesCount64(word &^ seen))
		}
		s.mu.Unlock()
	}
	return lost
}

// hasProbed tells whether a probe of every topic that the group is bound to came.
func (r *receipt) hasProbed(topics []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, topic := range topics {
		if !r.probed[topic] && r.wants(subject{topic, r.about.kind}) {
			return false
		}
	}
	return true
}

// count counts the messages that came, each once.
func (r *receipt) count() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unique
}
