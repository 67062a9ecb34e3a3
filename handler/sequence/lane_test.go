package sequence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/memory"
)

func durable(topic, group string) kite.Route {
	return kite.Route{Topic: topic, Group: group, Bindings: []kite.Binding{kite.Fanout(group, topic)}}
}

// sink keeps what the lane said.
type sink struct {
	name  string
	order *[]string
	items []kite.Item
}

func (s *sink) Durable(batches []*kite.Batch) {
	if s.order != nil {
		*s.order = append(*s.order, s.name)
	}
	for _, b := range batches {
		s.items = append(s.items, b.Items...)
	}
}

func verdicts(items []kite.Item) (all []kite.Code) {
	for _, i := range items {
		all = append(all, i.Verdict)
	}
	return all
}

// TestPoison fails every append and every sync in turn: what was not made durable is answered so, changes
// nothing that the lane knows, and is followed by refusals.
func TestPoison(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 3; n++ {
		for _, op := range []string{"append", "sync"} {
			t.Run(fmt.Sprintf("%s %d", op, n), func(t *testing.T) {
				t.Parallel()
				r := memoryRig(t)
				if op == "append" {
					r.spy.failAppend = n
				} else {
					r.spy.failSync = n
				}
				for turn := 1; turn <= 4; turn++ {
					before := r.state.picture()
					got := r.turn(item(message, "trade", turn), item(prepared, "trade", 50+turn), item(message, "trade", turn))
					if turn < n {
						if !slices.Equal(verdicts(got), []kite.Code{0, 0, 0}) || !got[2].Repeat {
							t.Errorf("turn %d before the fault: %+v", turn, got)
						}
						continue
					}
					if want := []kite.Code{kite.Unavailable, kite.Unavailable, kite.Unavailable}; !slices.Equal(verdicts(got), want) {
						t.Errorf("turn %d: verdicts %v", turn, verdicts(got))
					}
					if diff := differences(before, r.state.picture()); diff != "" {
						t.Errorf("turn %d failed and changed the state:\n%s", turn, diff)
					}
					if err := r.Submit(&kite.Batch{Items: make([]kite.Item, 1)}); !errors.Is(err, kite.Unavailable) {
						t.Errorf("a later submit: %v", err)
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if err := r.Run(ctx); !errors.Is(err, kite.Unavailable) {
					t.Errorf("Run: %v", err)
				}
			})
		}
	}
}

// TestFull refuses what has no room and keeps the Seqs dense over it.
func TestFull(t *testing.T) {
	t.Parallel()
	r := newRig(t, mustMemory(t, memory.Options{MaxMessages: 3}), Options{})
	r.routes.all = []kite.Route{durable("trade", "s-a")}
	r.turn(item(message, "trade", 1), item(prepared, "trade", 2))
	before := r.state.picture()
	got := r.turn(item(message, "trade", 3), item(message, "trade", 4), item(message, "trade", 3))
	if want := []kite.Code{kite.Busy, kite.Busy, kite.Busy}; !slices.Equal(verdicts(got), want) {
		t.Errorf("verdicts %v, want %v", verdicts(got), want)
	}
	if diff := differences(before, r.state.picture()); diff != "" {
		t.Errorf("a refused turn changed the state:\n%s", diff)
	}
	// One more fits; a decision and progress get through beside what does not.
	got = r.turn(item(message, "trade", 3), item(message, "trade", 4), item(commit, "trade", 2),
		progress("trade", "s-a", kite.Progress{Floor: 2}), dead("trade", "s-b", 1))
	if want := []kite.Code{kite.Busy, kite.Busy, 0, 0, 0}; !slices.Equal(verdicts(got), want) {
		t.Errorf("verdicts %v, want %v", verdicts(got), want)
	}
	if got[2].Seq != 2 || r.state.standings[flowKey{"trade", "s-a"}].Floor() != 2 {
		t.Errorf("the commit has seq %d, want 2", got[2].Seq)
	}
	if got = r.turn(item(message, "trade", 3)); got[0].Verdict != kite.OK || got[0].Seq != 3 {
		t.Errorf("the third message: verdict %v, seq %d", got[0].Verdict, got[0].Seq)
	}
	// What everybody has settled makes room, at most once a second.
	r.turn(progress("trade", "s-a", kite.Progress{Floor: 4}))
	r.state.heads["trade/s-b"] = 0
	delete(r.state.heads, "trade/s-b") // its dead letter would hold the chunk
	if got = r.turn(item(message, "trade", 5)); got[0].Verdict != kite.Busy {
		t.Errorf("trimmed twice within a second: %v", got[0].Verdict)
	}
	r.clock = r.clock.Add(2 * time.Second)
	if got = r.turn(item(message, "trade", 5)); got[0].Verdict != kite.OK || got[0].Seq != 4 {
		t.Errorf("after a trim: verdict %v, seq %d", got[0].Verdict, got[0].Seq)
	}
}

// TestTurnBounds cuts what was submitted into turns that fit an entry, and never a batch.
func TestTurnBounds(t *testing.T) {
	t.Parallel()
	batch := func(items, bytes int) *kite.Batch {
		return &kite.Batch{Items: make([]kite.Item, items), Arena: make([]byte, bytes)}
	}
	for _, c := range []struct {
		name    string
		batches []*kite.Batch
		want    int
	}{
		{"one", []*kite.Batch{batch(1, 1)}, 1},
		{"one too many items", []*kite.Batch{batch(turnItems+1, 0), batch(1, 0)}, 1},
		{"one too large", []*kite.Batch{batch(1, turnBytes+1), batch(1, 0)}, 1},
		{"just", []*kite.Batch{batch(turnItems-1, turnBytes-1), batch(1, 1)}, 2},
		{"items", []*kite.Batch{batch(turnItems-1, 0), batch(2, 0)}, 1},
		{"bytes", []*kite.Batch{batch(1, turnBytes-1), batch(1, 1), batch(1, 1)}, 2},
	} {
		if got := new(Lane).fit(c.batches); got != c.want {
			t.Errorf("%s: %d batches in the first turn, want %d", c.name, got, c.want)
		}
	}
}

func TestInbox(t *testing.T) {
	t.Parallel()
	r := newRig(t, mustMemory(t, memory.Options{}), Options{InboxItems: 3, InboxBytes: 100})
	submit := func(items, bytes int) error {
		return r.Submit(&kite.Batch{Items: make([]kite.Item, items), Arena: make([]byte, bytes)})
	}
	for i, c := range []struct {
		items, bytes int
		want         kite.Code
		depth        int
	}{
		{2, 40, kite.OK, 2},
		{2, 1, kite.Busy, 2},  // too many
		{1, 61, kite.Busy, 2}, // too large
		{1, 60, kite.OK, 3},   // just
		{1, 0, kite.Busy, 3},
	} {
		if err := submit(c.items, c.bytes); kite.CodeOf(err) != c.want || r.Depth() != c.depth {
			t.Errorf("submit %d: %v, depth %d; want %v, %d", i, err, r.Depth(), c.want, c.depth)
		}
	}
	if batches, open := r.inbox.take(); len(batches) != 2 || !open || r.Depth() != 0 {
		t.Errorf("took %d batches, open %v", len(batches), open)
	}
	if err := submit(50, 1000); err != nil {
		t.Errorf("an empty inbox takes a batch of any size: %v", err)
	}
}

// TestRun answers in the order of submission, sink after sink, gives batches back, and finishes at a stop
// what was submitted before.
func TestRun(t *testing.T) {
	t.Parallel()
	r := memoryRig(t)
	var order []string
	first, second := &sink{name: "answers", order: &order}, &sink{name: "deliveries", order: &order}
	released := make(chan *kite.Batch, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx, first, second) }()
	for n := range 20 {
		b := &kite.Batch{Items: []kite.Item{item(message, "trade", n)}, Release: func(b *kite.Batch) { released <- b }}
		if err := r.Submit(b); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(released) != 20 || len(first.items) != 20 || len(second.items) != 20 {
		t.Fatalf("%d batches released, %d and %d items told", len(released), len(first.items), len(second.items))
	}
	for n, got := range first.items {
		if got.ID != id(n) || got.Verdict != kite.OK || got.Seq != kite.Seq(n+1) {
			t.Errorf("item %d: %+v", n, got.Record)
		}
	}
	for i, name := range order {
		if want := []string{"answers", "deliveries"}[i%2]; name != want {
			t.Errorf("call %d went to %s, want %s", i, name, want)
		}
	}
	if err := r.Submit(&kite.Batch{Items: []kite.Item{item(message, "trade", 99)}}); !errors.Is(err, kite.Unavailable) {
		t.Errorf("after the stop: %v", err)
	}
}

// TestStopBeforeStart finishes even what was submitted before Run, when ctx is over by then.
func TestStopBeforeStart(t *testing.T) {
	t.Parallel()
	r := memoryRig(t)
	if err := r.Submit(&kite.Batch{Items: []kite.Item{item(message, "trade", 1)}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &sink{}
	if err := r.Run(ctx, s); err != nil || len(s.items) != 1 || s.items[0].Verdict != kite.OK {
		t.Errorf("%v, %+v", err, s.items)
	}
}

// TestNeeds tells Trim what somebody may still read.
func TestNeeds(t *testing.T) {
	t.Parallel()
	volatile := durable("trade", "s-v")
	volatile.Bindings[0].Durable = false
	for _, c := range []struct {
		name   string
		routes []kite.Route
		floors map[string]kite.Seq
	}{
		{"nobody is bound", nil, map[string]kite.Seq{}},
		{"non-durable groups need nothing", []kite.Route{volatile}, map[string]kite.Seq{}},
		{"a group that settled nothing needs everything", []kite.Route{durable("trade", "s-new")}, map[string]kite.Seq{"trade": 1}},
		{"a group needs what is above its floor", []kite.Route{durable("trade", "s-a")}, map[string]kite.Seq{"trade": 3}},
		{"the slowest group counts", []kite.Route{durable("trade", "s-a"), durable("trade", "s-b"), volatile}, map[string]kite.Seq{"trade": 2}},
		{"the slowest group counts in any order", []kite.Route{durable("trade", "s-b"), durable("trade", "s-a")}, map[string]kite.Seq{"trade": 2}},
		{"a new group beside", []kite.Route{durable("trade", "s-a"), durable("trade", "s-new"), durable("fee", "s-a")}, map[string]kite.Seq{"trade": 1, "fee": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := memoryRig(t)
			for n := range 4 {
				r.turn(item(message, "trade", n))
			}
			r.turn(item(prepared, "trade", 10), item(prepared, "trade", 11), item(prepared, "trade", 12))
			r.turn(item(park, "trade", 11), item(rollback, "trade", 12), dead("trade", "s-c", 4),
				progress("trade", "s-a", kite.Progress{Floor: 3}), progress("trade", "s-b", kite.Progress{Floor: 2, Settled: []kite.Range{{From: 3, To: 5}}}))
			r.routes.all = c.routes
			c.floors["trade/s-c"] = 1
			got := r.needs(time.Minute)
			if diff := differences(picture{Heads: c.floors}, picture{Heads: got.Floors}); diff != "" {
				t.Errorf("floors (-want +got):\n%s", diff)
			}
			want := []kite.Position{r.state.open[id(10)].Position, r.state.open[id(11)].Position}
			slices.Sort(got.Open)
			if !slices.Equal(got.Open, want) {
				t.Errorf("open at %v, want %v: one undecided, one parked", got.Open, want)
			}
			if got.BeforeMs != kite.UnixMs(start.Add(-time.Minute)) {
				t.Errorf("before %d", got.BeforeMs)
			}
		})
	}
}

// TestNeedsOfUnservedTopics keeps what groups of a topic need that is not served now: who left the topic out
// of the configuration by mistake must find everything again.
func TestNeedsOfUnservedTopics(t *testing.T) {
	t.Parallel()
	r := memoryRig(t)
	for n := range 4 {
		r.turn(item(message, "trade", n))
	}
	r.turn(progress("trade", "s-a", kite.Progress{Floor: 4}), progress("trade", "s-b", kite.Progress{Floor: 2}))
	r.routes.unserved = []string{"trade"}
	if got := r.needs(0).Floors["trade"]; got != 2 {
		t.Errorf("floor %d, want that of the slowest group, 2", got)
	}
	r.routes.unserved = nil // it is served, and nobody is bound: both have left
	if got, ok := r.needs(0).Floors["trade"]; ok {
		t.Errorf("floor %d for groups that left", got)
	}
}

// trimmer tells whether Trim was asked.
type trimmer struct {
	store.Journal
	trims int
}

func (j *trimmer) Trim(n store.Needs) (store.Trimmed, error) {
	j.trims++
	return j.Journal.Trim(n)
}

// TestTrimWaitsForRoutes removes nothing as long as nobody knows who is bound.
func TestTrimWaitsForRoutes(t *testing.T) {
	t.Parallel()
	j := &trimmer{Journal: mustMemory(t, memory.Options{})}
	r := newRig(t, j, Options{})
	r.routes.unknown = true
	if r.checkpoint(0); j.trims != 0 {
		t.Error("trimmed before the bindings were read")
	}
	r.routes.unknown = false
	if r.checkpoint(0); j.trims != 1 {
		t.Errorf("%d trims", j.trims)
	}
}

// TestTrimKeepsBytesOfLateCommit commits, in a new segment, what was prepared in an old one: the bytes count.
func TestTrimKeepsBytesOfLateCommit(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{Retention: time.Millisecond, DedupeWindow: time.Second})
	r.routes.all = []kite.Route{durable("trade", "s-a")}
	r.turn(item(prepared, "trade", 1))
	for n := range 400 { // some segments of 16 KiB
		r.turn(item(message, "trade", 100+n))
	}
	r.turn(progress("trade", "s-a", kite.Progress{Floor: 401}), item(commit, "trade", 1))
	r.clock = r.clock.Add(time.Minute)
	r.checkpoint(time.Millisecond)
	r.crash()
	read, last := 0, ""
	err := r.spy.Read("trade", 1, func(m *kite.Record) bool {
		read, last = read+1, string(m.Body)
		return true
	})
	want := item(prepared, "trade", 1)
	if err != nil || last != string(want.Body) {
		t.Errorf("the last message is %q, %v; want the prepared bytes", last, err)
	}
	if read > 300 {
		t.Errorf("%d messages can be read: nothing was trimmed", read)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if err := (Options{}).WithDefaults().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	if err := (Options{DedupeWindow: 1, MaxOpen: 1, InboxItems: 1, InboxBytes: 1, CheckpointBytes: 1, Retention: -1}).Validate(); err == nil {
		t.Error("no error")
	} else if n := len(err.(interface{ Unwrap() []error }).Unwrap()); n != 6 {
		t.Errorf("%d problems named, want all 6: %v", n, err)
	}
}

func BenchmarkLaneCommit(b *testing.B) {
	for _, size := range []int{1, 64, 1000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			r := newRig(b, mustMemory(b, memory.Options{MaxBytes: 1 << 30, MaxMessages: 1 << 20}), Options{})
			body := make([]byte, 256)
			batch := &kite.Batch{Items: make([]kite.Item, size)}
			batches := []*kite.Batch{batch}
			b.SetBytes(int64(size * len(body)))
			b.ReportAllocs()
			n := 0
			full := &kite.Batch{} // a busy broker has had one, and what it takes must not be paid for again
			for range turnItems {
				n++
				full.Items = append(full.Items, item(message, "trade", n))
			}
			r.handle([]*kite.Batch{full})
			for b.Loop() {
				for i := range batch.Items {
					n++
					batch.Items[i] = kite.Item{Record: kite.Record{Kind: message, Command: 0x11, Limit: 100, ID: id(n), Topic: "trade", Type: body[:8], Group: body[:8], Body: body}}
				}
				r.handle(batches)
				if n > 500_000 { // make room: it is measured, too, as a broker pays for it
					r.clock = r.clock.Add(time.Hour)
					r.checkpoint(0)
					n = 0
				}
				if batch.Items[0].Verdict != kite.OK {
					b.Fatal(batch.Items[0].Verdict)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/msg")
		})
	}
}
