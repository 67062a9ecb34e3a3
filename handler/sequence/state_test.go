package sequence

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kiteq/kiteq/internal/kite"
)

func differences(want, got picture) string {
	return cmp.Diff(want, got, cmp.AllowUnexported(flowKey{}), cmpopts.EquateEmpty())
}

// TestReplayEqualsLive sends random turns and compares the live state with what a stop or a crash at any
// time leads to: with one apply for both, they are the same.
func TestReplayEqualsLive(t *testing.T) {
	t.Parallel()
	for range 6 {
		seed := rand.Uint64()
		t.Run("", func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed)
			replayEqualsLive(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func replayEqualsLive(t *testing.T, random *rand.Rand) {
	r := newMMapRig(t, Options{DedupeWindow: 10 * time.Second, Retention: time.Second})
	r.routes.all = []kite.Route{durable("trade", "s-a"), durable("fee", "s-a")}
	waited, gone := 0, 0
	for turn := range 120 {
		r.clock = r.clock.Add(time.Duration(random.IntN(700)) * time.Millisecond)
		if random.IntN(20) == 0 {
			r.clock = r.clock.Add(time.Duration(random.IntN(240)-120) * time.Second) // somebody sets it, also back
		}
		items := make([]kite.Item, 0, 8)
		for range 1 + random.IntN(8) {
			items = append(items, randomItem(random, r.state))
			if last := &items[len(items)-1]; last.Published() && random.IntN(3) == 0 {
				last.DueMs = kite.UnixMs(r.clock) + random.Int64N(80_000) - 1000
			}
		}
		for _, waiting := range r.waiting() {
			if due := waiting.DueMs <= kite.UnixMs(r.clock); due && random.IntN(3) > 0 || random.IntN(50) == 0 {
				items = append(items, waiting)
				waited++
			}
			if random.IntN(20) == 0 {
				order := kite.AppendOrder(nil, &kite.Order{Action: kite.ActionCancel})
				items = append(items, kite.Item{Record: kite.Record{Kind: kite.KindOrder, ID: waiting.ID, Body: order}})
				gone++
			}
		}
		r.turn(items...)
		live := r.state.picture()
		switch random.IntN(12) {
		case 0:
			r.checkpoint(r.options.Load().Retention)
		case 1:
			r.crash()
		case 2:
			r.reopen()
		case 3:
			r.checkpoint(0)
			r.crash()
		}
		if diff := differences(live, r.state.picture()); diff != "" {
			t.Fatalf("after turn %d the replayed state differs from the live one (-live +replayed):\n%s", turn, diff)
		}
	}
	if len(r.state.heads) < 3 || len(r.state.standings) < 4 || waited < 1 || gone < 3 {
		t.Errorf("the history was too thin to say anything: %d heads, %d standings, %d waited, %d cancelled", len(r.state.heads), len(r.state.standings), waited, gone)
	}
}

func randomItem(random *rand.Rand, s *State) kite.Item {
	topic := []string{"trade", "fee"}[random.IntN(2)]
	group := []string{"s-a", "s-b"}[random.IntN(2)]
	n := 1 + random.IntN(120)
	switch random.IntN(9) {
	case 0, 1:
		return item(message, topic, n)
	case 2, 3:
		return item(prepared, topic, n)
	case 4:
		return item(commit, topic, n)
	case 5:
		return item(rollback, topic, n)
	case 6:
		return item(park, topic, n)
	case 7:
		return dead(topic, group, 1+kite.Seq(random.IntN(int(s.heads[topic])+1)))
	}
	head := int(s.heads[topic]) + 1
	from := kite.Seq(1 + random.IntN(head))
	return progress(topic, group, kite.Progress{
		Floor:   kite.Seq(1 + random.IntN(head)/2),
		Settled: []kite.Range{{From: from, To: from + kite.Seq(random.IntN(3))}},
		Retries: []kite.Retry{{Seq: kite.Seq(1 + random.IntN(head)), Attempts: uint8(random.IntN(100)), DueMs: random.Int64N(1 << 40)}},
	})
}

func TestRecovered(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{})
	r.turn(item(message, "trade", 1), item(message, "trade", 2), item(prepared, "trade", 3), item(prepared, "fee", 4))
	r.turn(item(park, "fee", 4), dead("trade", "s-a", 2), progress("trade", "s-b", kite.Progress{
		Floor: 2, Retries: []kite.Retry{{Seq: 2, Attempts: 5, DueMs: 77}},
	}))
	r.crash()
	got := r.Recovered()
	if got.Heads["trade"] != 2 || got.Heads["trade/s-a"] != 1 {
		t.Errorf("heads %v", got.Heads)
	}
	parked := map[kite.MessageID]bool{}
	for _, open := range got.Open {
		parked[open.ID] = open.ParkedMs > 0
		if open.Group != "p-trade" || open.PreparedMs != kite.UnixMs(start) || open.Position == 0 {
			t.Errorf("undecided %+v", open)
		}
	}
	if was, ok := parked[id(3)]; len(parked) != 2 || !ok || was || !parked[id(4)] {
		t.Errorf("undecided %v", parked)
	}
	if s := got.Standing("trade", "s-a"); s == nil || !s.Contains(2) || s.Contains(1) {
		t.Errorf("the standing of s-a does not have its dead letter settled: %+v", s)
	}
	if s := got.Standing("trade", "s-b"); s == nil || s.Floor() != 2 || s.Retries[2].Attempts != 5 || s.Retries[2].DueMs != 77 {
		t.Errorf("the standing of s-b: %+v", s)
	}
	if s := got.Standing("fee", "s-a"); s != nil {
		t.Errorf("a standing out of nothing: %+v", s)
	}
	got.Standing("trade", "s-b").Raise(100)
	if floor := r.state.standings[flowKey{"trade", "s-b"}].Floor(); floor != 2 {
		t.Errorf("what was handed out is the lane's own: floor %d", floor)
	}
}

// TestDedupe remembers ids for a time and up to a number, whatever comes in between.
func TestDedupe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		options Options
		between int           // other messages before the repeat
		pause   time.Duration // before the repeat
		repeat  bool
	}{
		{"at once", Options{DedupeWindow: time.Minute}, 0, 0, true},
		{"within the window", Options{DedupeWindow: time.Minute}, 20, time.Minute - time.Millisecond, true},
		{"after the window", Options{DedupeWindow: time.Minute}, 20, time.Minute, false},
		{"after the window, idle", Options{DedupeWindow: time.Minute}, 0, time.Minute, false},
		{"many", Options{DedupeWindow: time.Minute}, 500, time.Second, true},
	} {
		for _, crash := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				r := newMMapRig(t, c.options)
				r.turn(item(message, "trade", 1))
				for n := range c.between {
					r.turn(item(message, "trade", 100+n))
				}
				if crash {
					r.checkpoint(0)
					r.crash()
				}
				r.clock = r.clock.Add(c.pause)
				if got := r.turn(item(message, "trade", 1))[0]; got.Verdict != kite.OK || got.Repeat != c.repeat {
					t.Errorf("verdict %v, repeat %v, want repeat %v", got.Verdict, got.Repeat, c.repeat)
				}
				want := c.between + 1
				if !c.repeat {
					want++
				}
				if ids := r.read("trade"); len(ids) != want {
					t.Errorf("%d messages stored, want %d", len(ids), want)
				}
			})
		}
	}
}

// TestDedupeOpen knows an undecided id for as long as it is undecided.
func TestDedupeOpen(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{DedupeWindow: time.Second})
	r.turn(item(prepared, "trade", 1))
	r.clock = r.clock.Add(time.Hour)
	r.turn(item(message, "trade", 2))
	r.reopen()
	if got := r.turn(item(prepared, "trade", 1))[0]; !got.Repeat {
		t.Errorf("an open transaction is prepared again: %+v", got)
	}
	if got := r.turn(item(commit, "trade", 1))[0]; got.Verdict != kite.OK || got.Seq != 2 {
		t.Errorf("a late commit: verdict %v, seq %d", got.Verdict, got.Seq)
	}
	if got := r.turn(item(commit, "trade", 1))[0]; !got.Repeat {
		t.Errorf("the same again: %+v", got)
	}
}

func TestUnknownKind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		r    kite.Record
	}{
		{"kind", kite.Record{Kind: 77}},
		{"progress", kite.Record{Kind: kite.KindProgress, Body: []byte{0xff}}},
		{"dead letter", kite.Record{Kind: kite.KindDead, Body: []byte{0xff}}},
	} {
		if err := newState().apply(&c.r); err == nil {
			t.Errorf("%s: no error", c.name)
		}
	}
}

func FuzzApply(f *testing.F) {
	p, d := progress("t", "g", kite.Progress{Floor: 3, Retries: []kite.Retry{{Seq: 4, Attempts: 1, DueMs: 9}}}), dead("t", "g", 3)
	f.Add(uint8(kite.KindProgress), p.Body)
	f.Add(uint8(kite.KindDead), d.Body)
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		s := newState()
		if err := s.apply(&kite.Record{Kind: kite.Kind(kind), Topic: "t", Group: []byte("g"), Body: body}); err != nil {
			return
		}
		again := newState()
		s.records(func(r *kite.Record) bool {
			if err := again.apply(r); err != nil {
				t.Fatalf("a checkpoint of %v does not apply: %v", r.Kind, err)
			}
			return true
		})
	})
}
