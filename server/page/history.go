package page

import (
	"sync"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/server/admin"
)

// The bounds of what is remembered: ten minutes, and at most 5,000 lines of 3.6 KB. Only what moved within the
// ten minutes has a line, so the bound is one of busy topics and groups.
const (
	sampleEvery = 2 * time.Second
	points      = 300
	maxTracks   = 5000
)

// subject is what a line is about: a topic on its way to a group, a topic (no group), or all (no topic).
type subject struct{ topic, group string }

// history is the last ten minutes of the broker.
type history struct {
	mu      sync.Mutex
	samples int64 // so far; sample i lies at i % points
	times   [points]int64
	tracks  map[subject]*track
	timings [points]timings
	left    int // subjects that the newest sample found no room for
	newest  *sample
	changed chan struct{} // closed by the next sample
}

// track is one line: messages a second in and out, and messages that wait.
type track struct {
	moved            int64 // the sample in which one of them last was not 0
	in, out, backlog [points]float32
}

// sample is the broker at one moment. It is never changed: who has it may read it without a lock.
type sample struct {
	at       time.Time
	counters admin.Counters
	now      map[subject]flow
}

// timings are what the broker had measured at one moment.
type timings struct{ acked, sent kite.Timing }

// latency is how long half and 99 of 100 took between two moments; 0 when there were none.
type latency struct{ Half, Most time.Duration }

func newLatency(before, now *kite.Timing) latency {
	t := now.Since(before)
	return latency{t.Quantile(0.5), t.Quantile(0.99)}
}

// flow is a subject at one moment.
type flow struct {
	In, Out float64 // messages a second, since the sample before
	Backlog int64   // messages; of a topic, that of its group that is furthest behind
	total   int64   // of Out, a count
}

func newHistory() *history {
	return &history{tracks: map[subject]*track{}, changed: make(chan struct{}), newest: &sample{now: map[subject]flow{}}}
}

// add takes the next sample.
func (h *history) add(at time.Time, c admin.Counters) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := newSample(h.newest, at, c)
	h.newest = next
	place := int(h.samples % points)
	h.timings[place] = timings{c.Acked, c.Sent}
	h.times[place] = at.Unix()
	for key, t := range h.tracks {
		t.in[place], t.out[place], t.backlog[place] = 0, 0, 0
		if h.samples-t.moved >= points {
			delete(h.tracks, key)
		}
	}
	h.left = 0
	for key, f := range next.now {
		if f.In != 0 || f.Out != 0 || f.Backlog != 0 {
			h.note(key, place, f)
		}
	}
	h.samples++
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *history) note(key subject, place int, f flow) {
	t := h.tracks[key]
	if t == nil {
		if len(h.tracks) >= maxTracks && key != (subject{}) {
			h.left++
			return
		}
		t = &track{}
		h.tracks[key] = t
	}
	t.moved = h.samples
	t.in[place], t.out[place], t.backlog[place] = float32(f.In), float32(f.Out), float32(f.Backlog)
}

// newSample compares the counters with those before. A count that begins anew counts from 0; the first sample has
// nothing to compare with.
func newSample(before *sample, at time.Time, c admin.Counters) *sample {
	s := &sample{at: at, counters: c, now: make(map[subject]flow, 1+len(c.Topics)+len(c.Flows))}
	elapsed := 0.0
	if !before.at.IsZero() {
		elapsed = at.Sub(before.at).Seconds()
	}
	rate := func(before, now int64) float64 {
		if elapsed <= 0 {
			return 0
		}
		if now < before {
			before = 0
		}
		return float64(now-before) / elapsed
	}
	var all flow
	for _, topic := range c.Topics {
		f := flow{In: rate(before.counters.Received[topic], c.Received[topic])}
		all.In += f.In
		s.now[subject{topic: topic}] = f
	}
	for i := range c.Flows {
		counted := &c.Flows[i]
		key := subject{counted.Topic, counted.Group}
		f := flow{Out: rate(before.now[key].total, counted.Delivered), Backlog: counted.Backlog, total: counted.Delivered}
		if _, known := before.now[key]; !known {
			f.Out = 0 // it was counted before it was seen
		}
		s.now[key] = f
		topic := s.now[subject{topic: counted.Topic}]
		topic.Out += f.Out
		topic.Backlog = max(topic.Backlog, f.Backlog)
		s.now[subject{topic: counted.Topic}] = topic
		all.Out += f.Out
		all.Backlog += f.Backlog
	}
	s.now[subject{}] = all
	return s
}

func ms(d time.Duration) float32 { return float32(d.Seconds() * 1000) }

// latencies returns those of the samples up to the one that is ago samples old, the lock held. Before the first
// sample nothing was measured.
func (h *history) latencies(ago, samples int) (acked, sent latency) {
	at := func(ago int) *timings {
		if i := h.samples - 1 - int64(ago); i >= 0 && int64(ago) < points {
			return &h.timings[i%points]
		}
		return nil
	}
	now, before := at(ago), at(ago+samples)
	for before == nil && samples > 0 { // as far back as is known
		samples--
		before = at(ago + samples)
	}
	if now == nil {
		return latency{}, latency{}
	}
	return newLatency(&before.acked, &now.acked), newLatency(&before.sent, &now.sent)
}

// recent returns the latencies of the last minute.
func (h *history) recent() (acked, sent latency) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.latencies(0, int(time.Minute/sampleEvery))
}

// latest returns the newest sample, and what is closed when there is a newer one.
func (h *history) latest() (*sample, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.newest, h.changed
}

// plot is a line as the browser draws it.
type plot struct {
	Times   []int64   `json:"times"` // Unix s, ascending
	In      []float32 `json:"in"`    // messages a second
	Out     []float32 `json:"out"`
	Backlog []float32 `json:"backlog"` // messages
	// Acked and Sent are of all subjects together: how long 99 of 100 took, ms; 0 when there were none.
	Acked []float32 `json:"acked,omitempty"`
	Sent  []float32 `json:"sent,omitempty"`
	// Missing is true when more subjects were busy than are remembered, and this is one of those.
	Missing bool `json:"missing,omitempty"`
}

// plot returns the line of the subject, zeros where nothing was.
func (h *history) plot(key subject) plot {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := int(min(h.samples, points))
	p := plot{Times: make([]int64, n), In: make([]float32, n), Out: make([]float32, n), Backlog: make([]float32, n)}
	t := h.tracks[key]
	if t == nil {
		p.Missing = h.left > 0
		t = &track{}
	}
	for i := range n {
		place := int((h.samples - int64(n-i)) % points)
		p.Times[i], p.In[i], p.Out[i], p.Backlog[i] = h.times[place], t.in[place], t.out[place], t.backlog[place]
		if key == (subject{}) {
			acked, sent := h.latencies(max(0, n-1-i), 1)
			p.Acked, p.Sent = append(p.Acked, ms(acked.Most)), append(p.Sent, ms(sent.Most))
		}
	}
	return p
}
