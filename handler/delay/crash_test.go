package delay

import (
	"encoding/binary"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/mmap"
	"github.com/kiteq/kiteq/store/storetest"
)

// killer is a journal that tells before and after all that is done to the disk.
type killer struct {
	store.Journal
	step    func()
	trimmed int
}

func (k *killer) Append(batch []*kite.Record) error {
	k.step()
	defer k.step()
	return k.Journal.Append(batch)
}

func (k *killer) Checkpoint(state func(yield func(*kite.Record) bool)) error {
	k.step()
	defer k.step()
	return k.Journal.Checkpoint(state)
}

func (k *killer) Trim(needs store.Needs) (store.Trimmed, error) {
	defer k.step()
	trimmed, err := k.Journal.Trim(needs)
	k.trimmed += trimmed.Units
	return trimmed, err
}

// ledger is what was answered so far: true are messages that must arrive, false those that were cancelled and must
// not. One whose cancelling is under way may do either.
type ledger struct {
	mu sync.Mutex
	in map[int]bool
}

// note enters an item that is answered, or one that is submitted.
func (l *ledger) note(item *kite.Item, answered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, cancels := int(binary.BigEndian.Uint64(item.ID[8:])), item.Kind == kite.KindOrder
	switch {
	case answered && item.Kind != kite.KindPrepared && item.Topic != "noise":
		l.in[n] = !cancels
	case cancels:
		delete(l.in, n)
	}
}

func (l *ledger) copy() map[int]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.in)
}

func open(t *testing.T, dir string) store.Journal {
	t.Helper()
	j, err := mmap.Open(mmap.Options{Dir: dir, SegmentBytes: 4 << 10}.WithDefaults(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// TestCrash kills a broker before and after each thing that it does to its disk, while messages are published
// for later, prepared and committed, cancelled, and come due. What then starts on that disk, at that moment, commits
// each message that was answered, once, and none before its time, and none that was cancelled.
func TestCrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, answered := t.TempDir(), &ledger{in: map[int]bool{}}
		var survivors []func()
		first := &killer{Journal: open(t, dir)}
		first.step = func() {
			copied := t.TempDir()
			storetest.CopyDir(t, dir, copied)
			survivors = append(survivors, survive(t, copied, answered.copy()))
		}
		r := openRig(t, first, 100)
		r.run()
		for n := 1; n <= 12; n++ {
			due := time.Now().Add(time.Duration(n*n) * 700 * time.Millisecond)
			plain, prepared, unwanted := message(2*n, due), message(2*n+1, due), message(100+n, due)
			cancel := kite.Item{Record: kite.Record{
				Kind: kite.KindOrder, ID: unwanted.ID, Body: kite.AppendOrder(nil, &kite.Order{Action: kite.ActionCancel}),
			}}
			prepared.Kind = kite.KindPrepared
			noise := message(1000+n, time.Now())
			noise.Topic, noise.Body = "noise", make([]byte, 6000) // a segment of its own
			for _, items := range [][]kite.Item{
				{plain, unwanted, prepared},
				{noise, cancel}, // the scheduler has those of the first minutes in memory
				{{Record: kite.Record{Kind: kite.KindCommit, ID: prepared.ID}}},
			} {
				r.submit(answered, items)
				time.Sleep(600 * time.Millisecond) // the first ones are decided when they are due, or after
			}
		}
		time.Sleep(2 * time.Minute)
		r.stop()
		if n, trims := len(survivors), first.trimmed; n < 60 || trims == 0 {
			t.Errorf("killed at %d moments only, %d segments trimmed", n, trims)
		}
		check(t, read(t, r.journal), answered.copy())
		if err := r.journal.Close(); err != nil {
			t.Error(err)
		}
		for _, ask := range survivors {
			ask()
		}
	})
}

// submit hands items to the lane and waits for the answer.
func (r *rig) submit(l *ledger, items []kite.Item) {
	answered := make(chan bool, 1)
	for i := range items {
		l.note(&items[i], false)
	}
	b := &kite.Batch{Items: items, Release: func(b *kite.Batch) {
		for i := range b.Items {
			if b.Items[i].Verdict != kite.OK {
				r.t.Errorf("verdict %v on %v", b.Items[i].Verdict, b.Items[i].Kind)
			}
			l.note(&b.Items[i], true)
		}
		answered <- true
	}}
	if err := r.lane.Submit(b); err != nil {
		r.t.Fatal(err)
	}
	<-answered
}

// survive starts a broker on what is left, beside the one that was killed only in its eyes. The function that
// it returns, after long enough, ends it and checks what it has made of it.
func survive(t *testing.T, dir string, answered map[int]bool) func() {
	t.Helper()
	r := openRig(t, open(t, dir), 100)
	r.run()
	return func() {
		r.stop()
		check(t, read(t, r.journal), answered)
		if err := r.journal.Close(); err != nil {
			t.Error(err)
		}
	}
}

func check(t *testing.T, all []arrived, answered map[int]bool) {
	t.Helper()
	seen := map[int]bool{}
	for _, m := range all {
		if seen[m.n] || m.timeMs < m.dueMs {
			t.Errorf("message %d, due at %d, is there at %d (and was there before: %v)", m.n, m.dueMs, m.timeMs, seen[m.n])
		}
		seen[m.n] = true
	}
	for n, wanted := range answered {
		if seen[n] != wanted {
			t.Errorf("message %d is there: %v, as it was answered it is %v", n, seen[n], wanted)
		}
	}
}
