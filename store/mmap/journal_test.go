package mmap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, Options{Dir: dir, SegmentBytes: minSegment})
	_, err := Open(Options{Dir: dir}, nil)
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("a second open: %v, want ErrLocked with the directory and the process", err)
	}
	mustClose(t, j)
	mustClose(t, mustOpen(t, Options{Dir: dir}))
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if _, err := Open(Options{Dir: dir}, nil); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("open in %s, which is a file: %v", dir, err)
		}
	}
	mustClose(t, mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "a", "b"), SegmentBytes: minSegment}))
}

// syncFS counts syncs and lets them fail.
type syncFS struct {
	*memFS
	synced chan struct{}
	fail   chan error
}

type syncFile struct {
	File
	fs syncFS
}

func (f syncFS) Create(path string) (File, error) {
	file, err := f.memFS.Create(path)
	return syncFile{file, f}, err
}

func (f syncFile) Sync() error {
	select {
	case err := <-f.fs.fail:
		return err
	case f.fs.synced <- struct{}{}:
	default:
	}
	return nil
}

func TestClasses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sync  Sync
		class kite.Class
		syncs int
	}{{SyncAlways, kite.ClassSynced, 1}, {SyncOS, kite.ClassWritten, 0}, {SyncEvery(time.Hour), kite.ClassWritten, 0}} {
		o := options(syncFS{newFS(nil), make(chan struct{}, 9), nil})
		o.Sync = c.sync
		j := mustOpen(t, o)
		mustAppend(t, j, message("a", 1, 1))
		mustSync(t, j)
		mustSync(t, j) // nothing new: no second fdatasync
		if got := len(o.FS.(syncFS).synced); got != c.syncs || j.Class() != c.class {
			t.Errorf("sync %s: %d fdatasyncs of class %s, want %d of %s", c.sync, got, j.Class(), c.syncs, c.class)
		}
		for _, also := range []struct {
			class kite.Class
			syncs int
		}{{kite.ClassWritten, 0}, {kite.ClassSynced, 1}} {
			before := len(o.FS.(syncFS).synced)
			_, next := j.Bounds("a")
			mustAppend(t, j, message("a", int(next), 1))
			err := j.Sync(also.class)
			if got := len(o.FS.(syncFS).synced) - before; err != nil || got != also.syncs {
				t.Errorf("sync %s: %d fdatasyncs for class %s (%v), want %d", c.sync, got, also.class, err, also.syncs)
			}
		}
		mustClose(t, j)
	}
}

// TestRun syncs in the background until a sync fails.
func TestRun(t *testing.T) {
	t.Parallel()
	fs := syncFS{newFS(nil), make(chan struct{}), make(chan error)}
	o := options(fs)
	o.Sync = SyncEvery(time.Millisecond)
	j := mustOpen(t, o)
	mustAppend(t, j, message("a", 1, 1))
	done := make(chan error)
	go func() { done <- j.Run(t.Context()) }()
	for seq := 2; len(done) == 0; seq++ {
		if err := j.Append([]*kite.Record{message("a", seq, 1)}); err != nil {
			break
		}
		select {
		case <-fs.synced:
			continue
		case fs.fail <- errFaulty:
		}
	}
	if err := <-done; !errors.Is(err, kite.Unavailable) || !errors.Is(err, errFaulty) {
		t.Errorf("run: %v, want the failed sync with code unavailable", err)
	}
	if err := j.Append([]*kite.Record{message("a", 99, 1)}); !errors.Is(err, kite.Unavailable) || j.Err() == nil {
		t.Errorf("append after a failed sync in the background: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := mustOpen(t, options(newFS(nil))).Run(ctx); err != nil {
		t.Errorf("run without background sync: %v", err)
	}
}

// TestTrimUnderReader removes the segment that a reader is in: its view stays.
func TestTrimUnderReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, Options{Dir: dir, SegmentBytes: minSegment})
	seq := 0
	for len(j.segments) < 3 {
		seq++
		mustAppend(t, j, message("a", seq, 200))
	}
	first := j.segments[0]
	err := j.Read("a", 1, func(r *kite.Record) bool {
		before := text(r)
		if r.Seq == 1 {
			if err := j.Checkpoint(func(func(*kite.Record) bool) {}); err != nil {
				t.Fatal(err)
			}
			if trimmed, err := j.Trim(store.Needs{BeforeMs: 1 << 40}); err != nil || trimmed.Units != 2 {
				t.Fatalf("trim: %+v, %v", trimmed, err)
			}
			if _, err := os.Stat(first.path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("stat of the trimmed segment: %v", err)
			}
		}
		if text(r) != before || first.refs.Load() > 1 {
			t.Errorf("seq %d: the view changed, %d references", r.Seq, first.refs.Load())
		}
		return true
	})
	if err != nil || first.refs.Load() != 0 {
		t.Errorf("read: %v, %d references left", err, first.refs.Load())
	}
}

// TestFault cuts a file under the journal: reading is an error, the process lives.
func TestFault(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, Options{Dir: dir, SegmentBytes: 64 << 10})
	for seq := range 40 {
		mustAppend(t, j, message("a", seq+1, 1000))
	}
	r := message("b", 1, 1)
	mustAppend(t, j, r)
	if err := os.Truncate(j.open.path, 8192); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := j.Read("a", 1, func(*kite.Record) bool { n++; return true })
	var bad *store.CorruptionError
	if !errors.As(err, &bad) || bad.File != j.open.path || bad.Offset < 8192 || n == 0 || n == 40 {
		t.Errorf("read of a cut file: %v after %d records", err, n)
	}
	if err := j.Load(r.Position, func(*kite.Record) {}); !errors.As(err, &bad) {
		t.Errorf("load from a cut file: %v", err)
	}
	if refs := j.open.refs.Load(); refs != 1 {
		t.Errorf("%d references left, want 1", refs)
	}
	func() {
		defer func() {
			if p := recover(); p != "visitor" {
				t.Errorf("recovered %v, want the visitor's own panic", p)
			}
		}()
		_ = j.Read("a", 1, func(*kite.Record) bool { panic("visitor") })
	}()
	if refs := j.open.refs.Load(); refs != 1 {
		t.Errorf("%d references after a panic, want 1", refs)
	}
}

// TestStaleIndex opens a sealed segment again, grows it and dies before it is sealed anew: an index
// of its shorter life must not hide what was added.
func TestStaleIndex(t *testing.T) {
	t.Parallel()
	fs := newFS(nil)
	j := mustOpen(t, options(fs))
	seq := 1
	for ; len(j.segments) < 2; seq++ {
		mustAppend(t, j, message("a", seq, 500))
	}
	mustClose(t, j)
	all := fs.snapshot()
	stale, staleIDs := all["00000001.idx"], all["00000001.ids"]
	delete(all, "00000002.seg") // as if its creation had not reached the disk
	fs = newFS(all)
	big := options(fs)
	big.SegmentBytes = 2 * minSegment
	j = mustOpen(t, big)
	_, next := j.Bounds("a")
	want := int(next)
	for len(j.segments) < 2 {
		mustAppend(t, j, message("a", want, 500))
		want++
	}
	mustClose(t, j)
	all = fs.snapshot()
	all["00000001.idx"], all["00000001.ids"] = stale, staleIDs
	j = mustOpen(t, options(newFS(all)))
	if _, read := mustEverything(t, j, "a"); len(read) != want-1 {
		t.Errorf("%d records, want %d", len(read), want-1)
	}
}

func TestBatchSizes(t *testing.T) {
	t.Parallel()
	fs := newFS(nil)
	o := options(fs)
	o.MaxBatchBytes = 32 << 10
	j := mustOpen(t, o)
	mustAppend(t, j, message("a", 1, 10))
	mustAppend(t, j, message("a", 2, 20<<10)) // more than a segment
	mustAppend(t, j, message("a", 3, 10))
	if err := j.Append([]*kite.Record{message("a", 4, 33<<10)}); !errors.Is(err, kite.TooLarge) {
		t.Errorf("append over MaxBatchBytes: %v, want code too large", err)
	}
	for name, r := range map[string]*kite.Record{
		"topic": {Kind: kite.KindProgress, Topic: strings.Repeat("t", 256)},
		"type":  {Kind: kite.KindProgress, Type: make([]byte, 256)},
		"group": {Kind: kite.KindProgress, Group: make([]byte, 256)},
		"kind":  {},
	} {
		if err := j.Append([]*kite.Record{r}); !errors.Is(err, kite.Invalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("append with a bad %s: %v, want code invalid", name, err)
		}
		if err := j.Checkpoint(func(yield func(*kite.Record) bool) { yield(r) }); !errors.Is(err, kite.Invalid) || j.Err() != nil {
			t.Errorf("checkpoint with a bad %s: %v, poisoned by %v", name, err, j.Err())
		}
	}
	mustClose(t, j)
	j = mustOpen(t, o)
	if _, read := mustEverything(t, j, "a"); len(read) != 3 || len(j.segments) != 3 {
		t.Errorf("%d records in %d segments, want 3 in 3", len(read), len(j.segments))
	}
}

// TestTwice replays twice, and after an append.
func TestTwice(t *testing.T) {
	t.Parallel()
	j := mustOpen(t, options(newFS(nil)))
	mustAppend(t, j, message("a", 1, 1))
	if err := j.Replay(func(*kite.Record) error { return nil }); !errors.Is(err, kite.Invalid) {
		t.Errorf("replay after an append: %v, want code invalid", err)
	}
}

// TestAllocations holds what the hot paths promise: nothing per message.
func TestAllocations(t *testing.T) { //nolint:paralleltest // it counts allocations of the process
	j := mustOpen(t, Options{Dir: t.TempDir(), Sync: SyncOS, SegmentBytes: 64 << 20})
	const size = 64
	batch := make([]*kite.Record, size)
	for i := range batch {
		batch[i] = message("a", 1, 256)
	}
	seq := kite.Seq(0)
	appended := testing.AllocsPerRun(200, func() {
		for _, r := range batch {
			seq++
			r.Seq = seq
		}
		if err := j.Append(batch); err != nil {
			t.Fatal(err)
		}
	})
	read := testing.AllocsPerRun(20, func() {
		if err := j.Read("a", 1, func(*kite.Record) bool { return true }); err != nil {
			t.Fatal(err)
		}
	})
	if appended > 1 || read > 4 {
		t.Errorf("%.1f allocations for %d messages appended, %.1f for %d read; want next to none", appended, size, read, seq)
	}
}
