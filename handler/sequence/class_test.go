package sequence

import (
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/memory"
	"github.com/kiteq/kiteq/store/mmap"
	"github.com/kiteq/kiteq/store/mock"
)

// TestClassOfTurn syncs a turn for the strongest class that it holds: what a message, and every decision about
// it, is answered with. Progress waits for nobody, a dead letter is of the journal's own class.
func TestClassOfTurn(t *testing.T) {
	t.Parallel()
	const synced, written = kite.ClassSynced, kite.ClassWritten
	settles := progress("pay", "s-a", kite.Progress{Floor: 1})
	for _, c := range []struct {
		name string
		turn []kite.Item
		// Asked for when the journal's own class is synced, and written. "pay" is always synced, "logs" never.
		synced, written []kite.Class
	}{
		{"others", []kite.Item{item(message, "trade", 1)}, []kite.Class{synced}, []kite.Class{written}},
		{"always", []kite.Item{item(message, "pay", 1)}, []kite.Class{synced}, []kite.Class{synced}},
		{"os", []kite.Item{item(message, "logs", 1)}, []kite.Class{written}, []kite.Class{written}},
		{"always after os", []kite.Item{item(message, "logs", 1), item(message, "pay", 2)}, []kite.Class{synced}, []kite.Class{synced}},
		{"always before os", []kite.Item{item(message, "pay", 1), item(message, "logs", 2)}, []kite.Class{synced}, []kite.Class{synced}},
		{"prepared", []kite.Item{item(prepared, "pay", 1)}, []kite.Class{synced}, []kite.Class{synced}},
		{"prepared os", []kite.Item{item(prepared, "logs", 1)}, []kite.Class{written}, []kite.Class{written}},
		{"a turn in two steps", []kite.Item{item(prepared, "pay", 1), item(commit, "", 1), item(message, "logs", 2)}, []kite.Class{synced, synced}, []kite.Class{synced, synced}},
		{"commit", []kite.Item{item(commit, "", 91)}, []kite.Class{synced}, []kite.Class{synced}},
		{"rollback", []kite.Item{item(rollback, "", 91)}, []kite.Class{synced}, []kite.Class{synced}},
		{"park", []kite.Item{item(park, "", 91)}, []kite.Class{synced}, []kite.Class{synced}},
		{"commit os", []kite.Item{item(commit, "", 92)}, []kite.Class{written}, []kite.Class{written}},
		{"rollback os", []kite.Item{item(rollback, "", 92)}, []kite.Class{written}, []kite.Class{written}},
		{"park os", []kite.Item{item(park, "", 92)}, []kite.Class{written}, []kite.Class{written}},
		{"dead letter", []kite.Item{dead("logs", "s-a", 1)}, []kite.Class{synced}, []kite.Class{written}},
		{"progress", []kite.Item{settles}, nil, nil},
		{"repeat", []kite.Item{item(message, "pay", 90)}, nil, nil},
	} {
		for sync, want := range map[mmap.Sync][]kite.Class{mmap.SyncAlways: c.synced, mmap.SyncOS: c.written} {
			t.Run(c.name+" over "+sync.String(), func(t *testing.T) {
				t.Parallel()
				j, err := mmap.Open(mmap.Options{Dir: t.TempDir(), Sync: sync, SegmentBytes: 64 << 10}, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				r := newRig(t, j, Options{Classes: map[string]kite.Class{"pay": synced, "logs": written}})
				r.turn(item(message, "pay", 90), item(prepared, "pay", 91), item(prepared, "logs", 92))
				r.spy.synced = nil
				for _, got := range r.turn(slices.Clone(c.turn)...) {
					if got.Verdict != kite.OK {
						t.Errorf("%v %s: %v", got.Kind, got.Topic, got.Verdict)
					}
				}
				if !slices.Equal(r.spy.synced, want) {
					t.Errorf("synced for %v, want %v", r.spy.synced, want)
				}
			})
		}
	}
}

// TestClassAfterShed leaves out, with the refused messages of a full journal, the class they asked for.
func TestClassAfterShed(t *testing.T) {
	t.Parallel()
	r := newRig(t, &anyClass{Journal: mustMemory(t, memory.Options{MaxMessages: 2})}, Options{Classes: map[string]kite.Class{"pay": kite.ClassSynced}})
	r.turn(item(prepared, "trade", 1), item(message, "trade", 2))
	r.spy.synced = nil
	got := r.turn(item(message, "pay", 3), item(commit, "", 1))
	if want := []kite.Code{kite.Busy, kite.OK}; !slices.Equal(verdicts(got), want) {
		t.Fatalf("verdicts %v, want %v", verdicts(got), want)
	}
	if want := []kite.Class{kite.ClassMem}; !slices.Equal(r.spy.synced, want) {
		t.Errorf("synced for %v, want %v", r.spy.synced, want)
	}
}

// anyClass is a journal in memory that says it can be synced.
type anyClass struct{ store.Journal }

func (j *anyClass) Sync(kite.Class) error { return nil }

// TestClassThatCannotBeHad ends the start, with the topic's name.
func TestClassThatCannotBeHad(t *testing.T) {
	t.Parallel()
	for name, j := range map[string]store.Journal{"memory": mustMemory(t, memory.Options{}), "mock": mock.New()} {
		_, err := Open(Options{Classes: map[string]kite.Class{"pay": kite.ClassSynced}}.WithDefaults(), j, &routes{}, slog.New(slog.DiscardHandler))
		if !errors.Is(err, kite.Invalid) {
			t.Errorf("%s: %v, want code invalid", name, err)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}
