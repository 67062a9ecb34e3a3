package delay

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/kiteq/kiteq/handler/sequence"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/mmap"
)

// bench is a lane and a scheduler on a journal on disk, class written.
type bench struct {
	b         *testing.B
	journal   store.Journal
	lane      *sequence.Lane
	scheduler *Scheduler
	answered  chan int64 // committed messages
	stop      func()
}

// Durable counts the delayed messages that got their place in the topic.
func (x *bench) Durable(batches []*kite.Batch) {
	n := int64(0)
	for _, b := range batches {
		for i := range b.Items {
			if item := &b.Items[i]; item.Kind == kite.KindCommit && item.Verdict == kite.OK && !item.Repeat {
				n++
			}
		}
	}
	if n > 0 {
		x.answered <- n
	}
}

func newBench(b *testing.B) *bench {
	b.Helper()
	log := slog.New(slog.DiscardHandler)
	j, err := mmap.Open(mmap.Options{Dir: b.TempDir(), Sync: mmap.SyncOS}.WithDefaults(), log)
	if err != nil {
		b.Fatal(err)
	}
	lane, err := sequence.Open(sequence.Options{}.WithDefaults(), j, routes{}, log)
	if err != nil {
		b.Fatal(err)
	}
	x := &bench{b: b, journal: j, lane: lane, scheduler: New(j, lane, lane.Recovered().Delayed, log), answered: make(chan int64, 1024)}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 2)
	go func() { done <- lane.Run(ctx, x, x.scheduler) }()
	go func() { done <- x.scheduler.Run(ctx) }()
	x.stop = func() {
		cancel()
		<-done
		<-done
		_ = j.Close()
	}
	return x
}

// publish submits messages due at what due gives, 1000 at once.
func (x *bench) publish(first, n int, due func(i int) time.Time) {
	for from := 0; from < n; from += 1000 {
		b := &kite.Batch{}
		for i := from; i < min(n, from+1000); i++ {
			b.Items = append(b.Items, message(first+i, due(i)))
		}
		done := make(chan bool, 1)
		b.Release = func(*kite.Batch) { done <- true }
		if err := x.lane.Submit(b); err != nil {
			x.b.Fatal(err)
		}
		<-done
	}
}

func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkFar is the memory of messages that wait for up to 30 days, a million and four of them: it grows with
// the minutes, and not with the messages. What messages cost that do not wait (the indexes of the open segment)
// is measured first.
func BenchmarkFar(b *testing.B) {
	for _, c := range []struct {
		name     string
		messages int
		later    bool
	}{{"now/1M", 1_000_000, false}, {"now/4M", 4_000_000, false}, {"later/1M", 1_000_000, true}, {"later/4M", 4_000_000, true}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				x := newBench(b)
				now := time.Now()
				before := heapBytes()
				x.publish(1, c.messages, func(i int) time.Time {
					if !c.later {
						return now
					}
					return now.Add(5*time.Minute + time.Duration(i)*((kite.MaxDelay-time.Hour)/time.Duration(c.messages)))
				})
				grown := heapBytes() - before
				b.ReportMetric(float64(grown)/float64(c.messages), "heapB/msg")
				b.ReportMetric(float64(grown)/(1<<20), "heapMiB")
				x.stop()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.messages), "ns/msg")
		})
	}
}

// BenchmarkDue commits half a million messages that come due in one second: two slices of the minute's bound.
func BenchmarkDue(b *testing.B) {
	const messages = 500_000
	var spent time.Duration
	for b.Loop() {
		x := newBench(b)
		due := time.Now().Add(8 * time.Second)
		x.publish(1, messages, func(i int) time.Time { return due.Add(time.Duration(i%1000) * time.Millisecond) })
		if late := time.Since(due); late > 0 {
			b.Skipf("publishing took %v longer than the messages wait: the machine is too busy", late)
		}
		for n := int64(0); n < messages; {
			n += <-x.answered
		}
		spent += time.Since(due)
		x.stop()
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N*messages), "ns/due-msg")
	b.ReportMetric(spent.Seconds()/float64(b.N), "s/500k-due-in-1s")
}
