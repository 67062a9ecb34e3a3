package page

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/server/admin"
)

// counted is a broker of one topic and one group.
func counted(received, delivered, backlog int64) admin.Counters {
	return admin.Counters{
		Topics: []string{"trade"}, Received: map[string]int64{"trade": received},
		Flows: []admin.Flow{{Topic: "trade", Group: "s-books", Delivered: delivered, Backlog: backlog}},
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	h := newHistory()
	at := time.Unix(1_800_000_000, 0)
	expect := func(why string, key subject, in, out float64, backlog int64) {
		t.Helper()
		now, _ := h.latest()
		if f := now.now[key]; f.In != in || f.Out != out || f.Backlog != backlog {
			t.Errorf("%s: %+v of %v, want %v in, %v out, %d wait", why, f, key, in, out, backlog)
		}
	}
	topic, group, all := subject{"trade", ""}, subject{"trade", "s-books"}, subject{}
	h.add(at, counted(1000, 500, 7))
	expect("at first, whatever was before", topic, 0, 0, 7)
	h.add(at.Add(2*time.Second), counted(1010, 506, 9))
	expect("after two seconds", topic, 5, 3, 9)
	expect("after two seconds", group, 0, 3, 9)
	expect("after two seconds", all, 5, 3, 9)
	h.add(at.Add(6*time.Second), counted(1010, 506, 0))
	expect("nothing more", all, 0, 0, 0)
	h.add(at.Add(7*time.Second), counted(4, 2, 0))
	expect("counts that began anew", all, 4, 2, 0)
	p := h.plot(all)
	if want := []int64{1_800_000_000, 1_800_000_002, 1_800_000_006, 1_800_000_007}; !slices.Equal(p.Times, want) {
		t.Errorf("times %v", p.Times)
	}
	if !slices.Equal(p.In, []float32{0, 5, 0, 4}) || !slices.Equal(p.Out, []float32{0, 3, 0, 2}) || !slices.Equal(p.Backlog, []float32{7, 9, 0, 0}) {
		t.Errorf("%+v", p)
	}
	if p := h.plot(subject{"none", "none"}); p.Missing || !slices.Equal(p.In, make([]float32, 4)) || p.Acked != nil {
		t.Errorf("of nobody: %+v", p)
	}
}

// TestHistoryEnds: after ten minutes the oldest is gone, and what did not move meanwhile takes no room.
func TestHistoryEnds(t *testing.T) {
	t.Parallel()
	h := newHistory()
	at := time.Unix(1_800_000_000, 0)
	next := func(c admin.Counters) {
		at = at.Add(sampleEvery)
		h.add(at, c)
	}
	idle := func(samples int) {
		for range samples {
			next(counted(0, 0, 0))
		}
	}
	next(counted(0, 0, 5))
	idle(points / 2)
	next(counted(0, 0, 3))
	idle(points/2 - 2)
	p := h.plot(subject{"trade", "s-books"})
	if len(p.Backlog) != points || p.Backlog[0] != 5 || p.Backlog[1] != 0 {
		t.Errorf("ten minutes: %d points, %v ...", len(p.Backlog), p.Backlog[:2])
	}
	idle(1)
	if p = h.plot(subject{"trade", "s-books"}); len(p.Backlog) != points || slices.Max(p.Backlog) != 3 {
		t.Errorf("later: %d points, at most %v", len(p.Backlog), slices.Max(p.Backlog))
	}
	idle(points / 2)
	if p = h.plot(subject{"trade", "s-books"}); slices.Max(p.Backlog) != 3 {
		t.Errorf("just before it is gone: at most %v", slices.Max(p.Backlog))
	}
	idle(1)
	if p = h.plot(subject{"trade", "s-books"}); slices.Max(p.Backlog) != 0 {
		t.Errorf("at last: at most %v", slices.Max(p.Backlog))
	}
	if len(h.tracks) != 0 {
		t.Errorf("%d lines are kept of what did not move", len(h.tracks))
	}
}

// TestHistoryIsBounded: of more busy groups than there are lines some have none, and are said to be missing.
func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	h := newHistory()
	var c admin.Counters
	for i := range maxTracks + 100 {
		c.Flows = append(c.Flows, admin.Flow{Topic: "trade", Group: fmt.Sprint("s-", i), Backlog: 1})
	}
	h.add(time.Unix(1_800_000_000, 0), c)
	h.add(time.Unix(1_800_000_002, 0), c)
	missing := 0
	for i := range c.Flows {
		p := h.plot(subject{"trade", c.Flows[i].Group})
		if p.Missing {
			missing++
		} else if p.Backlog[1] != 1 {
			t.Fatalf("group %d: %+v", i, p)
		}
	}
	if len(h.tracks) > maxTracks+1 || missing < 100 || missing > 102 {
		t.Errorf("%d lines, %d groups have none", len(h.tracks), missing)
	}
	if p := h.plot(subject{}); p.Missing || p.Backlog[1] != maxTracks+100 {
		t.Errorf("of all: %+v", p)
	}
}

// TestLatencies are those of the last minute, and of each sample in the plot.
func TestLatencies(t *testing.T) {
	t.Parallel()
	h := newHistory()
	if acked, sent := h.recent(); acked != (latency{}) || sent != (latency{}) {
		t.Errorf("before the first sample: %v %v", acked, sent)
	}
	var acked kite.Timings
	at := time.Unix(1_800_000_000, 0)
	sample := func(took time.Duration, n int) {
		acked.Observe(took, n)
		h.add(at, admin.Counters{Acked: acked.Read()})
		at = at.Add(sampleEvery)
	}
	sample(time.Hour, 1) // before the first sample: not seen
	sample(time.Millisecond, 100)
	sample(time.Millisecond, 0)
	sample(90*time.Millisecond, 100)
	got, sent := h.recent()
	if got.Half < 500*time.Microsecond || got.Half > time.Millisecond || got.Most < 50*time.Millisecond || got.Most > 100*time.Millisecond || sent != (latency{}) {
		t.Errorf("%v, %v", got, sent)
	}
	p := h.plot(subject{})
	if p.Acked[0] != 0 || p.Acked[1] > 1 || p.Acked[1] < 0.5 || p.Acked[2] != 0 || p.Acked[3] < 50 || p.Acked[3] > 100 {
		t.Errorf("%v", p.Acked)
	}
	for range time.Minute / sampleEvery {
		sample(0, 0)
	}
	if got, _ := h.recent(); got != (latency{}) {
		t.Errorf("a minute later: %v", got)
	}
}
