package mock

import (
	"errors"
	"sync"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// TestContract holds what of store.Journal a journal can keep that forgets.
func TestContract(t *testing.T) {
	t.Parallel()
	j := New()
	if err := j.Replay(func(*kite.Record) error { return errors.New("a record") }); err != nil {
		t.Fatal(err)
	}
	if err := j.Replay(nil); !errors.Is(err, kite.Invalid) {
		t.Errorf("second replay: %v, want code invalid", err)
	}
	var last kite.Position
	for range 3 {
		batch := []*kite.Record{
			{Kind: kite.KindMessage, Topic: "a", Seq: 1}, {Kind: kite.KindPrepared, Topic: "a"},
			{Kind: kite.KindDead, Topic: "a", Group: []byte("g"), Seq: 1}, {Kind: kite.KindProgress, Topic: "a"},
		}
		batch = append(batch, &kite.Record{Kind: kite.KindCommit, Topic: "a", Seq: 2, Ref: last})
		if err := errors.Join(j.Append(batch), j.Sync(j.Class()), j.Append(nil)); err != nil {
			t.Fatal(err)
		}
		for _, r := range batch {
			if r.Position <= last {
				t.Fatalf("position %d after %d: positions grow", r.Position, last)
			}
			last = r.Position
		}
	}
	if err := j.Append([]*kite.Record{{}}); !errors.Is(err, kite.Invalid) {
		t.Errorf("append without a kind: %v, want code invalid", err)
	}
	if err := j.Read("a", 1, func(*kite.Record) bool { t.Error("a record was found"); return true }); err != nil {
		t.Error(err)
	}
	if err := j.Load(last, func(*kite.Record) { t.Error("a record was found") }); !errors.Is(err, kite.Invalid) {
		t.Errorf("load: %v, want code invalid", err)
	}
	if first, next := j.Bounds("a"); first != next {
		t.Errorf("bounds %d to %d, want none", first, next)
	}
	if trimmed, err := j.Trim(store.Needs{}); err != nil || trimmed != (store.Trimmed{}) {
		t.Errorf("trim: %+v, %v", trimmed, err)
	}
	if err := errors.Join(j.Checkpoint(func(func(*kite.Record) bool) {}), j.Err()); err != nil {
		t.Error(err)
	}
	if err := j.Sync(kite.ClassSynced); j.Class() != kite.ClassMem || !errors.Is(err, kite.Invalid) {
		t.Errorf("class %s; a sync for class synced: %v, want code invalid", j.Class(), err)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	j := New()
	if err := errors.Join(j.Close(), j.Close()); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"replay":     func() error { return j.Replay(nil) },
		"append":     func() error { return j.Append([]*kite.Record{{Kind: kite.KindMessage}}) },
		"sync":       func() error { return j.Sync(j.Class()) },
		"read":       func() error { return j.Read("a", 1, nil) },
		"load":       func() error { return j.Load(1, nil) },
		"checkpoint": func() error { return j.Checkpoint(nil) },
		"trim":       func() error { _, err := j.Trim(store.Needs{}); return err },
	} {
		if err := call(); !errors.Is(err, kite.Unavailable) {
			t.Errorf("%s after close: %v, want code unavailable", name, err)
		}
	}
}

// TestReadersBesideTheLane is for the race detector.
func TestReadersBesideTheLane(t *testing.T) {
	t.Parallel()
	j := New()
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 1000 {
				if err := j.Read("a", 1, func(*kite.Record) bool { return false }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 1000 {
		if err := j.Append([]*kite.Record{{Kind: kite.KindMessage, Topic: "a", Seq: 1}}); err != nil {
			t.Error(err)
		}
	}
	wait.Wait()
}

func TestParseURL(t *testing.T) {
	t.Parallel()
	for raw, ok := range map[string]bool{"mock://": true, "mock://x": false, "mock://?a=1": false, "memory://": false} {
		if err := ParseURL(raw); (err == nil) != ok || !ok && !errors.Is(err, kite.Invalid) {
			t.Errorf("%s: %v, want ok %t", raw, err, ok)
		}
	}
}
