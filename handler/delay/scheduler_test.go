package delay

import (
	"container/heap"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestOnTime publishes messages for the next hours and moments, in any order, and gets each at its millisecond.
func TestOnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1000)
		for range 300 {
			r.publish(time.Duration(rand.Int64N(int64(3*time.Hour))), time.Duration(rand.Int64N(int64(2*time.Minute))), -time.Second)
			time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
		}
		r.publish(26 * time.Hour)
		time.Sleep(4 * time.Hour)
		r.expect(900, time.Millisecond)
		if all := r.topic(); !slices.IsSortedFunc(all, func(a, b arrived) int { return int(a.timeMs - b.timeMs) }) {
			t.Error("not in the order of time")
		}
		if s := r.scheduler.Stats(); s != (Stats{Minutes: 1}) {
			t.Errorf("%d messages are in memory, %d minutes are far", s.Entries, s.Minutes)
		}
		time.Sleep(23 * time.Hour)
		r.expect(901, time.Millisecond)
	})
}

// TestSlices has far more messages in a minute than it may hold, many of them in one millisecond, and more come
// while they are committed.
func TestSlices(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 40)
		for range 10 {
			var delays []time.Duration
			for range 100 {
				delays = append(delays, 5*time.Minute+time.Duration(rand.IntN(6))*time.Second)
			}
			r.publish(delays...)
		}
		time.Sleep(4*time.Minute + 59*time.Second)
		for range 500 {
			r.publish(time.Duration(rand.IntN(5000)) * time.Millisecond)
			time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
		}
		time.Sleep(time.Minute)
		r.expect(1500, glance)
	})
}

// pages is a journal of one minute, and all that a minute has in memory is looked at.
type pages struct{ records []kite.Record }

func (p *pages) Read(_ string, from kite.Seq, visit func(*kite.Record) bool) error {
	for i := int(from) - 1; i < len(p.records); i++ {
		if r := p.records[i]; !visit(&r) {
			break
		}
	}
	return nil
}

// TestMinuteBound takes messages out of a minute in the order of their time, while others come, and never has
// more of them in memory than it may.
func TestMinuteBound(t *testing.T) {
	t.Parallel()
	for range 30 {
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 0))
		limit := 4 + random.IntN(40)
		p, m := &pages{}, newMinute(5, 1, limit)
		grow := func(n int) {
			for range n {
				p.records = append(p.records, kite.Record{
					Kind: kite.KindDelayed, Topic: "trade", Seq: kite.Seq(len(p.records) + 1), DueMs: 300_000 + random.Int64N(4), Position: 1,
				})
			}
			m.unread = true
		}
		grow(random.IntN(500))
		taken := map[uint32]int{}
		for more := 20; !m.idle(); more-- {
			if m.sweep(); m.unread {
				if err := m.read(p); err != nil {
					t.Fatal(err)
				}
			}
			if len(m.queue) > limit {
				t.Fatalf("seed %d: %d in memory, %d are the bound", seed, len(m.queue), limit)
			}
			for range random.IntN(limit) {
				if len(m.queue) > 0 {
					taken[m.queue[0].place]++
					heap.Pop(&m.queue)
				}
			}
			if more > 0 && random.IntN(4) == 0 {
				grow(random.IntN(30))
			}
		}
		for place := range p.records {
			if taken[uint32(place+1)] == 0 {
				t.Fatalf("seed %d: place %d of %d is forgotten", seed, place+1, len(p.records))
			}
		}
	}
}

// lane refuses what it is told to, and takes the rest.
type lane struct {
	mu     sync.Mutex
	full   int // Submit refuses so often
	refuse int // and then so many items
	taken  map[kite.MessageID]int
}

func (l *lane) Submit(b *kite.Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full--; l.full >= 0 {
		return kite.Errorf(kite.Busy, "full")
	}
	for i := range b.Items {
		item := &b.Items[i]
		if item.Verdict = kite.OK; l.refuse > 0 {
			l.refuse--
			item.Verdict = kite.Busy
			continue
		}
		l.taken[item.ID]++
	}
	b.Release(b)
	return nil
}

// count returns how many messages were taken, and -1 when one was taken twice.
func (l *lane) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, times := range l.taken {
		if times != 1 {
			return -1
		}
	}
	return len(l.taken)
}

// stack is a journal of many minutes; one of them may be broken.
type stack struct {
	minutes map[string][]kite.Record
	broken  atomic.Value // the name of a stream
}

func (s *stack) Read(stream string, from kite.Seq, visit func(*kite.Record) bool) error {
	if stream == s.broken.Load() {
		return errors.New("the disk is gone")
	}
	return (&pages{s.minutes[stream]}).Read(stream, from, visit)
}

// overdue makes a scheduler that was away for so many minutes, with five messages in each.
func overdue(minutes int, l *lane) (*Scheduler, *stack) {
	j, waiting, n := &stack{minutes: map[string][]kite.Record{}}, map[int64]kite.Seq{}, 0
	now := kite.Minute(kite.UnixMs(time.Now()))
	for number := now - int64(minutes); number < now; number++ {
		waiting[number] = 1
		for place := range 5 {
			n++
			r := message(n, time.UnixMilli(number*60_000+int64(place))).Record
			r.Kind, r.Seq = kite.KindDelayed, kite.Seq(place+1)
			j.minutes[kite.DelayStream(number)] = append(j.minutes[kite.DelayStream(number)], r)
		}
	}
	return New(j, l, waiting, slog.New(slog.DiscardHandler)), j
}

// TestLongStop commits at once what came due while nobody was there, however many minutes there are.
func TestLongStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lane{taken: map[kite.MessageID]int{}, full: 3, refuse: 7}
		s, _ := overdue(5*maxMinutes, l)
		go func() { _ = s.Run(t.Context()) }()
		time.Sleep(refused * 20)
		synctest.Wait()
		if n := l.count(); n != 25*maxMinutes {
			t.Errorf("%d messages committed, want %d", n, 25*maxMinutes)
		}
	})
}

// TestBrokenMinute goes on with the others while one minute cannot be read, and with that one when it can.
func TestBrokenMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lane{taken: map[kite.MessageID]int{}}
		s, j := overdue(10, l)
		j.broken.Store(kite.DelayStream(kite.Minute(kite.UnixMs(time.Now())) - 9))
		go func() { _ = s.Run(t.Context()) }()
		time.Sleep(3 * glance)
		synctest.Wait()
		if n := l.count(); n != 45 {
			t.Errorf("%d messages committed, want those of 9 minutes", n)
		}
		j.broken.Store("")
		time.Sleep(2 * glance)
		synctest.Wait()
		if n := l.count(); n != 50 {
			t.Errorf("%d messages committed, want all", n)
		}
	})
}

// TestClockSet sets the scheduler's clock: forward, and all that is due by it is asked for, which the lane
// refuses by its own clock; and back, and what was in memory gives way.
func TestClockSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 100)
		r.publish(time.Minute, 10*time.Minute, 2*time.Hour)
		synctest.Wait()
		r.shift.Store(int64(3 * time.Hour))
		time.Sleep(2 * glance)
		r.expect(0, 0)
		r.shift.Store(0)
		time.Sleep(10 * glance)
		if s := r.scheduler.Stats(); s != (Stats{Entries: 1, Minutes: 2}) {
			t.Errorf("%d messages are in memory, %d minutes are far; want what is due in a minute", s.Entries, s.Minutes)
		}
		time.Sleep(3 * time.Hour)
		r.expect(3, time.Millisecond)
	})
}
