package delay

import (
	"cmp"
	"container/heap"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Reader finds the messages that are due in a minute (kite.DelayStream), in the order of their places.
type Reader interface {
	Read(stream string, from kite.Seq, visit func(*kite.Record) bool) error
}

// Submitter takes what must be journaled.
type Submitter interface {
	Submit(b *kite.Batch) error
}

// Scheduler has a message committed when its time has come.
//
// Messages wait in the journal, by minutes. Of a far minute the scheduler knows that it is there, and where in
// it to begin. The minutes up to the next one are read: their messages are in memory, at most maxEntries of all
// of them. One timer serves all, and one batch at a time is with the lane.
//
// It is always right to commit a message again: the lane knows which it has, and which is too early. So nothing
// here needs to be exact, and a restart begins with what the lane has recovered.
type Scheduler struct {
	journal Reader
	lane    Submitter
	log     *slog.Logger
	wall    func() time.Time // may be set; pauses go by time.Now, which has a clock of its own
	limit   int              // entries of one minute in memory

	wake     chan struct{}    // capacity 1
	returned chan *kite.Batch // capacity 1: there is one batch

	mu      sync.Mutex
	horizon int64              // minutes up to this belong into memory
	near    map[int64]kite.Seq // of them, those with news: minute -> the first place that nobody has looked at
	far     map[int64]kite.Seq // those behind

	entries atomic.Int64

	// Of Run.
	minutes []*minute   // in memory, ascending
	batch   *kite.Batch // nil while the lane has it
	flight  []flier     // its items
	pause   time.Time   // nothing is submitted before
}

// flier is an entry that the lane has.
type flier struct {
	minute *minute
	entry  entry
}

const (
	// maxEntries bounds the messages in memory, 40 bytes each; a minute may have a quarter of them.
	maxEntries = 1 << 20
	// maxMinutes bounds the minutes in memory: after a long stop there may be very many that are due.
	maxMinutes = 64
	// batchItems is how many commits the lane gets at once.
	batchItems = 4096
	// glance is how often the clock is looked at while something waits: somebody may have set it.
	glance = time.Second
	// refused is how long the scheduler waits when the lane or the journal refuses.
	refused = 100 * time.Millisecond
)

// New returns a scheduler that does nothing before Run. waiting are the minutes that the lane has recovered,
// with the place before which nothing waits; the scheduler takes it over.
func New(journal Reader, lane Submitter, waiting map[int64]kite.Seq, log *slog.Logger) *Scheduler {
	s := &Scheduler{
		journal: journal, lane: lane, log: log.With("component", "delay"), wall: time.Now, limit: maxEntries / 4,
		wake: make(chan struct{}, 1), returned: make(chan *kite.Batch, 1), near: map[int64]kite.Seq{}, far: waiting,
	}
	s.batch = &kite.Batch{Release: func(b *kite.Batch) { s.returned <- b }}
	return s
}

// Durable is the lane's news: messages for later.
func (s *Scheduler) Durable(batches []*kite.Batch) {
	for _, b := range batches {
		for i := range b.Items {
			if item := &b.Items[i]; item.Kind == kite.KindDelayed && item.Verdict == kite.OK {
				s.note(kite.Minute(item.DueMs), item.Seq)
			}
		}
	}
}

func (s *Scheduler) note(minute int64, place kite.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.far
	if minute <= s.horizon {
		news = s.near
	}
	if _, known := news[minute]; known {
		return
	}
	news[minute] = place
	if minute <= s.horizon || len(news) == 1 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Run commits what comes due until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	timer := time.NewTimer(s.pass())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-timer.C:
		case b := <-s.returned:
			s.settle(b)
		}
		timer.Reset(s.pass())
	}
}

// Stats is what the scheduler holds.
type Stats struct {
	// Entries is how many messages are in memory, Minutes in how many minutes others wait.
	Entries, Minutes int
}

// Stats returns what the scheduler holds now.
func (s *Scheduler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Entries: int(s.entries.Load()), Minutes: len(s.near) + len(s.far)}
}

// pass reads what has come near, submits what is due, and returns how long nothing will be.
func (s *Scheduler) pass() time.Duration {
	now, nowMs := time.Now(), kite.UnixMs(s.wall())
	s.minutes = slices.DeleteFunc(s.minutes, (*minute).idle)
	others := s.approach(kite.Minute(nowMs) + 1)
	more := s.read(now)
	s.submit(now, nowMs)
	switch {
	case more:
		return 0
	case !others && len(s.minutes) == 0:
		return time.Hour
	}
	return s.rest(now, nowMs)
}

// rest returns how long nothing is due, but not longer than until the next glance at the clock.
func (s *Scheduler) rest(now time.Time, nowMs int64) time.Duration {
	rest := glance
	for _, m := range s.minutes {
		if dueMs, ok := m.dueMs(); ok {
			rest = min(rest, time.Duration(dueMs-nowMs)*time.Millisecond)
		}
	}
	if s.batch == nil { // what is due waits for the lane's answer, which wakes us
		return glance
	}
	return max(rest, s.pause.Sub(now), 0)
}

// approach takes minutes into memory up to the horizon, the first ones first, and notes those in memory of which
// there is news. It tells whether others wait.
func (s *Scheduler) approach(horizon int64) (others bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if horizon != s.horizon {
		s.advance(horizon)
	}
	for _, number := range slices.Sorted(maps.Keys(s.near)) {
		i, held := slices.BinarySearchFunc(s.minutes, number, func(m *minute, n int64) int { return cmp.Compare(m.number, n) })
		switch {
		case held:
			s.minutes[i].unread = true
		case len(s.minutes) < maxMinutes:
			s.minutes = slices.Insert(s.minutes, i, newMinute(number, s.near[number], s.limit))
		default:
			continue
		}
		delete(s.near, number)
	}
	return len(s.near)+len(s.far) > 0
}

// advance moves the horizon, once a minute. When the clock was set back, what is in memory from beyond gives way.
func (s *Scheduler) advance(horizon int64) {
	s.horizon = horizon
	for number, place := range s.far {
		if number <= horizon {
			s.near[number] = place
			delete(s.far, number)
		}
	}
	for number, place := range s.near {
		if number > horizon {
			s.far[number] = place
			delete(s.near, number)
		}
	}
	s.minutes = slices.DeleteFunc(s.minutes, func(m *minute) bool {
		if m.number <= horizon || m.flying > 0 {
			return false
		}
		s.far[m.number] = 1 // those that are committed are known to the lane
		return true
	})
}

// read takes a piece of each minute that is not read to its end, as long as there is room; the first minute
// always has some. It tells whether there is more to read now.
func (s *Scheduler) read(now time.Time) (more bool) {
	entries := 0
	defer func() { s.entries.Store(int64(entries)) }()
	for _, m := range s.minutes {
		entries += len(m.queue)
	}
	for i, m := range s.minutes {
		if m.sweep(); !m.unread || now.Before(m.broken) || i > 0 && entries >= 4*s.limit {
			continue
		}
		before := len(m.queue)
		if err := m.read(s.journal); err != nil {
			s.log.Error("delayed messages not read, trying again", "minute", m.number, "err", err)
			m.broken = now.Add(glance)
			continue
		}
		entries += len(m.queue) - before
		m.sweep()
		more = more || m.unread
	}
	return more
}

// submit hands the lane the commits of what is due.
func (s *Scheduler) submit(now time.Time, nowMs int64) {
	if s.batch == nil || now.Before(s.pause) {
		return
	}
	b := s.batch
	for _, m := range s.minutes {
		for dueMs, ok := m.dueMs(); ok && dueMs <= nowMs && len(b.Items) < batchItems; dueMs, ok = m.dueMs() {
			e := heap.Pop(&m.queue).(entry)
			m.flying++
			s.flight = append(s.flight, flier{m, e})
			at := len(b.Arena)
			b.Arena = kite.AppendPlace(b.Arena, kite.Seq(e.place))
			b.Items = append(b.Items, kite.Item{Record: kite.Record{
				Kind: kite.KindCommit, ID: e.id, DueMs: dueMs, Ref: e.ref, Topic: m.names[e.topic], Body: b.Arena[at:len(b.Arena):len(b.Arena)],
			}})
		}
	}
	if len(b.Items) == 0 {
		return
	}
	b.Received = now
	s.batch = nil
	if err := s.lane.Submit(b); err != nil {
		s.log.Debug("messages that are due not submitted, trying again", "err", err)
		for i := range b.Items {
			b.Items[i].Verdict = kite.CodeOf(err)
		}
		s.settle(b)
	}
}

// settle takes the batch back. What the lane refused is due again.
func (s *Scheduler) settle(b *kite.Batch) {
	for i := range b.Items {
		item, f := &b.Items[i], &s.flight[i]
		f.minute.flying--
		switch item.Verdict {
		case kite.OK:
		case kite.TxUnknown:
			s.log.Error("a delayed message is not known to wait", "topic", item.Topic, "msg_id", item.ID.String(), "minute", f.minute.number)
		default:
			heap.Push(&f.minute.queue, f.entry)
			s.pause = time.Now().Add(refused)
		}
	}
	s.flight = s.flight[:0]
	b.Reset()
	s.batch = b
}
