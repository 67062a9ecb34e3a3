package main

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// result is what one run measured; its JSON form is the file of -json.
type result struct {
	Mode    string       `json:"mode"`
	Via     string       `json:"via"`
	Class   string       `json:"class"` // durability class of the broker's answers; "" when not seen
	Machine machine      `json:"machine"`
	Commit  string       `json:"commit"`
	Started time.Time    `json:"started"`
	Load    load         `json:"load"`
	Publish phase        `json:"publish"`
	Deliver *phase       `json:"deliver,omitempty"`
	Idle    *idleFigures `json:"idle,omitempty"`
	Broker  *cost        `json:"broker,omitempty"` // what it cost the process of -pid
	Check   check        `json:"check"`

	Refused    int64            `json:"refused"`    // publishes that the broker answered false
	Unanswered int64            `json:"unanswered"` // publishes of which nobody knows what became
	Reasons    map[string]int64 `json:"reasons,omitempty"`
}

// machine is where kiteq-bench ran.
type machine struct {
	Name string `json:"name"`
	CPUs int    `json:"cpus"`
	OS   string `json:"os"`
	Arch string `json:"arch"`
	Go   string `json:"go"`
}

// load is what was asked for.
type load struct {
	Conns     int     `json:"conns"`
	Window    int     `json:"window"`
	Rate      float64 `json:"rate_per_second"` // 0: closed loop
	Size      int     `json:"size_bytes"`
	N         int64   `json:"n"`
	Fly       bool    `json:"fly"`
	Seconds   float64 `json:"seconds"`
	Topics    int     `json:"topics"`
	Groups    int     `json:"groups"`
	Consumers int     `json:"consumers_per_group"`
}

// phase is the publishing or the delivering: messages that were confirmed, or received by all groups
// together, each once.
type phase struct {
	Messages  int64    `json:"messages"`
	Seconds   float64  `json:"seconds"`
	PerSecond float64  `json:"per_second"`
	Bytes     float64  `json:"bytes_per_second"` // of bodies
	Latency   *figures `json:"latency,omitempty"`
}

func newPhase(messages int64, took time.Duration, size int, l *latency) phase {
	p := phase{Messages: messages, Seconds: took.Seconds()}
	if took > 0 {
		p.PerSecond = float64(messages) / took.Seconds()
		p.Bytes = p.PerSecond * float64(size)
	}
	if l != nil {
		p.Latency = l.figures()
	}
	return p
}

func newResult(b *bench) *result {
	name := b.o.machine
	if name == "" {
		name, _ = os.Hostname()
	}
	o := b.o
	return &result{
		Mode: o.mode, Via: o.via, Commit: commit(o.commit), Started: time.Now(),
		Machine: machine{name, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version()},
		Load:    load{o.conns, o.window, o.rate, o.size, o.n, o.fly, o.d.Seconds(), len(b.topics), len(b.receipts), o.consumers},
	}
}

// commit is the given one, or that of this program's source.
func commit(given string) string {
	info, ok := debug.ReadBuildInfo()
	if given != "" || !ok {
		return given
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			given = s.Value + given
		}
		if s.Key == "vcs.modified" && s.Value == "true" {
			given += " (changed)"
		}
	}
	return given
}

// publish enters what the publishers saw.
func (r *result) publish(b *bench, took time.Duration, all []*latency) {
	sum := newLatency()
	for _, l := range all {
		sum.merge(l)
	}
	r.Publish = newPhase(b.ledger.accepted.Load(), took, b.o.size, sum)
	r.Refused, r.Unanswered = b.ledger.refused.Load(), b.ledger.unanswered.Load()
	b.ledger.mu.Lock()
	r.Reasons = maps.Clone(b.ledger.reasons)
	b.ledger.mu.Unlock()
}

// conclude enters what the groups received since from.
func (r *result) conclude(b *bench, from time.Time) {
	if len(b.receipts) == 0 {
		return
	}
	sum, last, unique := newLatency(), from, int64(0)
	for _, group := range b.receipts {
		r.Check.Lost += group.missing()
		group.mu.Lock()
		r.Check.Duplicate += group.counts.Duplicate
		r.Check.OutOfOrder += group.counts.OutOfOrder
		r.Check.Alien += group.counts.Alien
		unique += group.unique
		sum.merge(group.latency)
		if group.last.After(last) {
			last = group.last
		}
		group.mu.Unlock()
	}
	if b.o.mode == modeDrain || b.o.mode == modeCollect {
		sum = nil // the time in the backlog is no latency
	}
	p := newPhase(unique, last.Sub(from), b.o.size, sum)
	r.Deliver = &p
}

// code is what the process returns.
func (r *result) code() int {
	if r.Check.Lost > 0 || r.Check.Alien > 0 {
		return exitWrong
	}
	return exitOK
}

func (r *result) reasons() string {
	parts := []string{}
	for _, reason := range slices.Sorted(maps.Keys(r.Reasons)) {
		parts = append(parts, fmt.Sprintf("%d times %q", r.Reasons[reason], reason))
	}
	return strings.Join(parts, ", ")
}

// String is the result on one line.
func (r *result) String() string {
	var s strings.Builder
	class := r.Class
	if class == "" {
		class = "class not seen"
	}
	fmt.Fprintf(&s, "%s via %s, %s: ", r.Mode, r.Via, class)
	if r.Mode != modeCollect {
		fmt.Fprintf(&s, "published %v; ", r.Publish)
	}
	if r.Deliver != nil {
		fmt.Fprintf(&s, "delivered %v; ", *r.Deliver)
	}
	if r.Idle != nil {
		fmt.Fprintf(&s, "%d idle, %d ended, %d of %d heartbeats answered; ", r.Idle.Connections, r.Idle.Ended, r.Idle.Answered, r.Idle.Heartbeats)
	}
	if r.Broker != nil {
		fmt.Fprintf(&s, "%v; ", *r.Broker)
	}
	if r.Refused+r.Unanswered > 0 {
		fmt.Fprintf(&s, "%d refused, %d unanswered (%s); ", r.Refused, r.Unanswered, r.reasons())
	}
	c := r.Check
	if r.Deliver != nil {
		fmt.Fprintf(&s, "lost %d, duplicate %d, out of order %d, alien %d", c.Lost, c.Duplicate, c.OutOfOrder, c.Alien)
	}
	return strings.TrimSuffix(s.String(), "; ")
}

func (c cost) String() string {
	text := fmt.Sprintf("broker %.2f us CPU a message, RssAnon %.1f MiB (peak %.1f)", c.CPUPerMessage, float64(c.Anon)/(1<<20), float64(c.AnonPeak)/(1<<20))
	if c.Received > 0 {
		text += fmt.Sprintf(", %.2f bytes written a byte received", c.WrittenPerByte)
	}
	return text
}

func (p phase) String() string {
	text := fmt.Sprintf("%d in %.2fs, %.0f/s, %.1f MB/s", p.Messages, p.Seconds, p.PerSecond, p.Bytes/1e6)
	if p.Latency == nil {
		return text
	}
	ms := func(us int64) float64 { return float64(us) / 1000 }
	l := p.Latency
	return text + fmt.Sprintf(", ms p50 %.2f p99 %.2f p99.9 %.2f max %.2f", ms(l.P50), ms(l.P99), ms(l.P999), ms(l.Max))
}
