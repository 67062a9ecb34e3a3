package mmap

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// tightFS is a disk of so many bytes, in blocks of 512, beyond which nothing is written or allocated.
type tightFS struct {
	*memFS
	bytes int64
}

func (f *tightFS) Create(path string) (File, error) { return f.file(f.memFS.Create(path)) }
func (f *tightFS) Open(path string) (File, error)   { return f.file(f.memFS.Open(path)) }

func (f *tightFS) file(file File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return tightFile{file.(memFile), f}, nil
}

func (f *tightFS) used() (bytes int64) {
	const block = 512
	for _, data := range f.snapshot() {
		bytes += (int64(len(data)) + block - 1) &^ (block - 1)
	}
	return bytes
}

type tightFile struct {
	memFile
	disk *tightFS
}

func (f tightFile) room(size int64) error {
	if now, _ := f.Size(); size > now && f.disk.used()+size-now > f.disk.bytes {
		return unix.ENOSPC
	}
	return nil
}

func (f tightFile) Allocate(size int64) error {
	if err := f.room(size); err != nil {
		return err
	}
	return f.memFile.Allocate(size)
}

func (f tightFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.room(off + int64(len(p))); err != nil {
		return 0, err
	}
	return f.memFile.WriteAt(p, off)
}

// tight is a journal on a full disk, and what it has promised.
type tight struct {
	*testing.T
	o    Options
	j    *Journal
	seq  int
	kept []string
}

func (t *tight) publish() error {
	r := message("a", t.seq+1, 900)
	err := t.j.Append([]*kite.Record{r})
	if err == nil {
		err = t.j.Sync(t.j.Class())
	}
	if err == nil {
		t.seq++
		t.kept = append(t.kept, text(r))
	}
	return err
}

// fill publishes until there is no room.
func (t *tight) fill() {
	t.Helper()
	for range 10_000 {
		err := t.publish()
		if errors.Is(err, store.ErrFull) && kite.CodeOf(err) == kite.Busy && t.j.Err() == nil {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the disk is never full")
}

func (t *tight) settle() error {
	r := &kite.Record{Kind: kite.KindProgress, Topic: "a", Group: []byte("g"), TimeMs: 1, Body: make([]byte, 200)}
	return t.j.Append([]*kite.Record{r})
}

func (t *tight) checkpoint() error {
	state := slices.Repeat([]*kite.Record{{Kind: kite.KindProgress, Topic: "a", Group: []byte("g"), Body: make([]byte, 500)}}, 4)
	return t.j.Checkpoint(slices.Values(state))
}

func (t *tight) trim(floor int) {
	t.Helper()
	_, err := t.j.Trim(store.Needs{BeforeMs: 1 << 60, Floors: map[string]kite.Seq{"a": kite.Seq(floor)}})
	if err != nil {
		t.Fatal(err)
	}
}

// check reads what was promised, from the floor on.
func (t *tight) check(floor int) {
	t.Helper()
	var got []string
	err := t.j.Read("a", kite.Seq(floor), func(r *kite.Record) bool {
		got = append(got, text(r))
		return true
	})
	if err != nil || !slices.Equal(got, t.kept[floor-1:]) {
		t.Fatalf("%d messages from %d on, want %d, %v", len(got), floor, len(t.kept)-floor+1, err)
	}
}

func (t *tight) reopen() {
	t.Helper()
	mustClose(t, t.j)
	t.j = mustOpen(t, t.o)
}

// TestFullDisk fills a disk. What settles gets through, for as long as it takes; then there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, reopened := range []bool{false, true} {
		fs := &tightFS{newFS(nil), 800 << 10}
		d := &tight{T: t, o: Options{Dir: "/journal", SegmentBytes: 64 << 10, FS: fs}}
		d.j = mustOpen(t, d.o)
		for range checkpointsKept {
			if err := d.checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
		low := 1 // what consumers have not settled
		for round := range 3 {
			d.fill()
			if !d.j.reserved() {
				t.Fatal("messages took the reserve")
			}
			next := func() {
				if reopened {
					d.reopen()
				}
			}
			// Nobody can be spared a segment: progress comes and comes, and checkpoints.
			floor := max(1, d.seq-20)
			for n := range 1000 {
				err := d.settle()
				if errors.Is(err, store.ErrFull) { // as the lane does
					if err := d.checkpoint(); err != nil {
						t.Fatalf("round %d, checkpoint after %d: %v", round, n, err)
					}
					d.trim(low)
					err = d.settle()
				}
				if err != nil {
					t.Fatalf("round %d: progress %d refused: %v", round, n, err)
				}
				if n%100 == 0 {
					if err := d.publish(); !errors.Is(err, store.ErrFull) {
						t.Fatalf("round %d: publish %d on a full disk: %v", round, n, err)
					}
					next()
				}
			}
			d.check(low)
			// Consumers settle: there is room for messages, after the reserve.
			if err := d.checkpoint(); err != nil {
				t.Fatal(err)
			}
			low = floor
			d.trim(low)
			if !d.j.reserved() {
				t.Fatal("the reserve was not made again")
			}
			next()
			if err := d.publish(); err != nil {
				t.Fatalf("round %d: publish after a trim: %v", round, err)
			}
			d.check(low)
		}
	}
}

// TestFullDiskOpens starts on a disk without room for the reserve: it reads, settles, and takes no messages.
func TestFullDiskOpens(t *testing.T) {
	t.Parallel()
	fs := &tightFS{newFS(nil), 100 << 10}
	d := &tight{T: t, o: Options{Dir: "/journal", SegmentBytes: 16 << 10, FS: fs}}
	d.j = mustOpen(t, d.o)
	d.fill()
	mustClose(t, d.j)
	if err := fs.Remove("/journal/" + reserveName); err != nil {
		t.Fatal(err)
	}
	fs.bytes = fs.used() + 2<<10
	d.j = mustOpen(t, d.o)
	d.check(1)
	if err := d.publish(); !errors.Is(err, store.ErrFull) {
		t.Errorf("publish without a reserve: %v, want ErrFull", err)
	}
	fs.bytes += 64 << 10
	if err := d.checkpoint(); err != nil {
		t.Fatal(err)
	}
	if err := d.publish(); err != nil {
		t.Errorf("publish with room again: %v", err)
	}
}

// TestFullDiskCheckpoint has not a byte left for a checkpoint but those of the reserve.
func TestFullDiskCheckpoint(t *testing.T) {
	t.Parallel()
	fs := &tightFS{newFS(nil), 200 << 10}
	d := &tight{T: t, o: Options{Dir: "/journal", SegmentBytes: 16 << 10, FS: fs}}
	d.j = mustOpen(t, d.o)
	d.fill()
	fs.bytes = fs.used()
	if err := d.checkpoint(); err != nil || d.j.reserved() {
		t.Fatalf("checkpoint on a full disk: %v, reserve whole: %t", err, d.j.reserved())
	}
	if err := d.publish(); !errors.Is(err, store.ErrFull) {
		t.Errorf("publish without a reserve: %v, want ErrFull", err)
	}
	d.trim(d.seq - 10)
	if err := d.publish(); err != nil || !d.j.reserved() {
		t.Errorf("publish after a trim: %v, reserve whole: %t", err, d.j.reserved())
	}
	d.check(d.seq - 10)
}
