package mysql

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// TestSweep trims in the background, beside appending and reading, and tells of it the next time; a sweep that is
// stopped leaves the rest.
func TestSweep(t *testing.T) {
	t.Parallel()
	d := mustDial(t, options(t))
	j := mustCreate(t, d, "b")
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- j.Run(ctx) }()
	seq := kite.Seq(1)
	add := func(n int) {
		t.Helper()
		for range n {
			mustAppend(t, j, message("a", seq, "body"), message("kept", seq, "body"))
			seq++
		}
	}
	add(100)
	for !j.sweeping.Load() {
		runtime.Gosched()
	}
	var all store.Trimmed
	for end := time.Now().Add(patience); ; {
		if err := j.Checkpoint(func(func(*kite.Record) bool) {}); err != nil {
			t.Fatal(err)
		}
		trimmed, err := j.Trim(store.Needs{BeforeMs: startMs + 1<<40, Floors: map[string]kite.Seq{"kept": 1}})
		if err != nil {
			t.Fatal(err)
		}
		all.Units, all.Bytes = all.Units+trimmed.Units, all.Bytes+trimmed.Bytes
		if first, _ := j.Bounds("a"); first > 50 && all.Units > 0 && all.Bytes > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("not trimmed: %+v", all)
		}
		add(3)
	}
	stop()
	if err := await(t, ran, "the end of Run"); err != nil {
		t.Error(err)
	}
	first, next := j.Bounds("a")
	if got := bodies(t, j, "a"); len(got) != int(next-first) {
		t.Errorf("read %d messages from %d to %d", len(got), first, next)
	}
	if got := bodies(t, j, "kept"); len(got) != int(seq)-1 {
		t.Errorf("read %d messages that were needed, want %d", len(got), seq-1)
	}
	var bytes int64
	if err := d.readers.QueryRow("SELECT bytes FROM kite_journal WHERE id=?", j.held.Journal).Scan(&bytes); err != nil || bytes != j.bytes.Load() {
		t.Errorf("the journal has %d bytes, its row says %d, %v", j.bytes.Load(), bytes, err)
	}
	again := mustClaim(t, d, j.Held(), "b")
	if b, n := again.Bounds("a"); b != first || n != next {
		t.Errorf("bounds of another one: %d to %d, want %d to %d", b, n, first, next)
	}
}
