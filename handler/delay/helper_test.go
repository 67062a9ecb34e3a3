package delay

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/handler/sequence"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type routes struct{}

func (routes) Loaded() bool { return true }
func (routes) Routes() []kite.Route {
	return []kite.Route{{Topic: "trade", Group: "s-a", Bindings: []kite.Binding{kite.Fanout("s-a", "trade")}}}
}
func (routes) Knows(string) bool { return true }

// rig is a scheduler behind a real lane, in a bubble of synctest.
type rig struct {
	t         *testing.T
	journal   store.Journal
	lane      *sequence.Lane
	scheduler *Scheduler
	shift     atomic.Int64 // of the scheduler's clock, ns
	stop      func()
	published int
}

func newRig(t *testing.T, limit int) *rig {
	t.Helper()
	j, err := memory.New(memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := openRig(t, j, limit)
	r.run()
	return r
}

func openRig(t *testing.T, j store.Journal, limit int) *rig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	lane, err := sequence.Open(sequence.Options{CheckpointBytes: 2 << 10, DedupeWindow: time.Second, Retention: time.Second}.WithDefaults(), j, routes{}, log)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, journal: j, lane: lane, scheduler: New(j, lane, lane.Recovered().Delayed, log)}
	r.scheduler.limit = limit
	r.scheduler.wall = func() time.Time { return time.Now().Add(time.Duration(r.shift.Load())) }
	return r
}

// run starts the lane and the scheduler.
func (r *rig) run() {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 2)
	go func() { done <- r.lane.Run(ctx, r.scheduler) }()
	go func() { done <- r.scheduler.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				r.t.Error(err)
			}
		}
	})
	r.t.Cleanup(r.stop)
}

// publish submits messages, due after these delays, and returns when they are answered.
func (r *rig) publish(delays ...time.Duration) []kite.Item {
	r.t.Helper()
	b := &kite.Batch{}
	for _, d := range delays {
		r.published++
		b.Items = append(b.Items, message(r.published, time.Now().Add(d)))
	}
	answered := make(chan []kite.Item, 1)
	b.Release = func(b *kite.Batch) { answered <- b.Items }
	if err := r.lane.Submit(b); err != nil {
		r.t.Fatal(err)
	}
	return <-answered
}

func message(n int, due time.Time) kite.Item {
	var id kite.MessageID
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return kite.Item{Record: kite.Record{
		Kind: kite.KindMessage, Command: 0x11, Limit: 100, ID: id, Topic: "trade", Type: []byte("pay"), Group: []byte("p"),
		Body: []byte("body"), DueMs: kite.UnixMs(due),
	}}
}

// arrived is a message in its topic.
type arrived struct {
	n             int
	dueMs, timeMs int64
}

func (r *rig) topic() (all []arrived) {
	r.t.Helper()
	return read(r.t, r.journal)
}

func read(t *testing.T, j store.Journal) (all []arrived) {
	t.Helper()
	err := j.Read("trade", 1, func(m *kite.Record) bool {
		if m.Kind != kite.KindMessage || string(m.Body) != "body" || m.Seq != kite.Seq(len(all)+1) {
			t.Errorf("the topic has %s %s, seq %d of body %q", m.Kind, m.ID, m.Seq, m.Body)
		}
		all = append(all, arrived{int(binary.BigEndian.Uint64(m.ID[8:])), m.DueMs, m.TimeMs})
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// expect checks that the topic has so many messages, each once, none before its time and none over a time after it.
func (r *rig) expect(n int, late time.Duration) {
	r.t.Helper()
	synctest.Wait()
	all, seen := r.topic(), map[int]bool{}
	for _, m := range all {
		if seen[m.n] {
			r.t.Errorf("message %d comes twice", m.n)
		}
		seen[m.n] = true
		if m.dueMs > 0 && (m.timeMs < m.dueMs || m.timeMs > m.dueMs+late.Milliseconds()) {
			r.t.Errorf("message %d is due at %d and comes at %d", m.n, m.dueMs, m.timeMs)
		}
	}
	if len(all) != n {
		r.t.Errorf("the topic has %d messages, want %d", len(all), n)
	}
}
