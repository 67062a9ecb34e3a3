package mmap

import (
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// TestCompactDelayed compacts segments in which few messages wait: their bytes stay for the minute that leads
// to them from here or from a later segment, and then for the commit that lies there.
func TestCompactDelayed(t *testing.T) {
	t.Parallel()
	const due = 1_800_000_000_000
	minute := kite.DelayStream(kite.Minute(due))
	p := &pinned{o: Options{Dir: t.TempDir(), SegmentBytes: pinnedSegment}, seq: map[string]int{}}
	p.j = mustOpen(t, p.o)
	fast := func(segments int) {
		t.Helper()
		for n := len(p.j.segments) + segments; len(p.j.segments) < n; {
			if err := p.append(p.record(kite.KindMessage, "fast", 9000)); err != nil {
				t.Fatal(err)
			}
		}
	}
	add := func(r *kite.Record) *kite.Record {
		t.Helper()
		if r.DueMs != 0 && r.Kind == kite.KindDelayed {
			p.seq[minute]++
			r.Seq = kite.Seq(p.seq[minute])
		}
		if err := p.append(r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	later := func(kind kite.Kind) *kite.Record {
		r := p.record(kite.KindPrepared, "slow", 300)
		r.Kind, r.DueMs = kind, due
		return r
	}
	fast(1)
	own, prepared := add(later(kite.KindDelayed)), add(later(kite.KindPrepared))
	fast(2)
	waits := add(&kite.Record{Kind: kite.KindDelayed, ID: prepared.ID, Topic: "slow", TimeMs: 1, DueMs: due, Ref: prepared.Position})
	fast(2)
	compact := func(about string, floors map[string]kite.Seq, stay ...*kite.Record) {
		t.Helper()
		if err := p.cover(); err != nil {
			t.Fatal(err)
		}
		p.needs = store.Needs{BeforeMs: 1 << 60, Floors: floors}
		if err := p.trim(); err != nil {
			t.Fatal(err)
		}
		for _, r := range stay {
			found := kite.MessageID{}
			if err := p.j.Load(r.Position, func(got *kite.Record) { found = got.ID }); err != nil || found != r.ID {
				t.Errorf("%s: %s at %d is %s, %v", about, r.Kind, r.Position, found, err)
			}
		}
	}
	compact("waiting", map[string]kite.Seq{minute: 1}, own, prepared, waits)
	for _, r := range []*kite.Record{own, prepared} {
		add(p.commit(r))
	}
	fast(1)
	compact("due", map[string]kite.Seq{"slow": 1}, own, prepared)
	n := 0
	if err := p.j.Read("slow", 1, func(*kite.Record) bool { n++; return true }); err != nil || n != 2 {
		t.Errorf("%d messages of 2, %v", n, err)
	}
	if gaps := len(p.j.segments[0].gaps); gaps == 0 && !p.j.noHoles.Load() {
		t.Error("the segment with the bytes was not compacted")
	}
}
