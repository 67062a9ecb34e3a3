package mmap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/storetest"
)

// pinned is a journal whose sealed segments hold a few records each that are needed for long: messages of
// "slow", dead letters, an undecided transaction, one that was committed in its segment and one that was
// committed much later.
type pinned struct {
	o     Options
	j     *Journal
	seq   map[string]int
	open  []kite.Position
	later []*kite.Record
	needs store.Needs
	want  []string // what Read shows of all that is needed
	loads map[kite.Position]string
}

const pinnedSegment = 256 << 10

var pinnedStreams = []string{"slow", "slow/group", "near"}

func pin(tb testing.TB, o Options, segments int) *pinned {
	tb.Helper()
	p := &pinned{o: o, seq: map[string]int{}, loads: map[kite.Position]string{}}
	p.j = mustOpen(tb, o)
	if err := p.fill(segments); err != nil {
		tb.Fatal(err)
	}
	if err := p.cover(); err != nil {
		tb.Fatal(err)
	}
	p.remember(tb)
	return p
}

func (p *pinned) record(kind kite.Kind, topic string, body int) *kite.Record {
	p.seq["id"]++
	r := message(topic, p.seq["id"], body)
	r.Kind, r.Seq = kind, 0
	if name := store.Stream(r); name != "" {
		p.seq[name]++
		r.Seq = kite.Seq(p.seq[name])
	}
	return r
}

func (p *pinned) append(batch ...*kite.Record) error {
	err := p.j.Append(batch)
	if err == nil {
		err = p.j.Sync(p.j.Class())
	}
	return err
}

func (p *pinned) commit(r *kite.Record) *kite.Record {
	c := p.record(kite.KindCommit, r.Topic, 0)
	c.ID, c.Ref = r.ID, r.Position
	return c
}

// fill makes segments until there are so many sealed ones.
func (p *pinned) fill(segments int) error {
	for n := len(p.j.segments); len(p.j.segments) <= segments; {
		if err := p.append(p.record(kite.KindMessage, "fast", 2000), p.record(kite.KindProgress, "fast", 200)); err != nil {
			return err
		}
		if len(p.j.segments) == n {
			continue
		}
		n = len(p.j.segments)
		near, late, open := p.record(kite.KindPrepared, "near", 300), p.record(kite.KindPrepared, "slow", 300), p.record(kite.KindPrepared, "slow", 300)
		for _, batch := range [][]*kite.Record{
			{p.record(kite.KindMessage, "slow", 400), p.record(kite.KindDead, "slow", 40)}, {near}, {late}, {open},
		} {
			// Each between others that are not needed, so that each would go if nobody marked it.
			if err := errors.Join(p.append(batch...), p.append(p.record(kite.KindMessage, "fast", 9000))); err != nil {
				return err
			}
		}
		if err := p.append(p.commit(near), p.record(kite.KindMessage, "fast", 100)); err != nil {
			return err
		}
		p.open, p.later = append(p.open, open.Position), append(p.later, late)
	}
	for _, r := range p.later {
		if err := p.append(p.commit(r)); err != nil {
			return err
		}
	}
	p.later = nil
	p.needs = store.Needs{
		BeforeMs: 1 << 60, Open: p.open,
		Floors: map[string]kite.Seq{"slow": 1, "slow/group": 1, "near": 1, "fast": kite.Seq(p.seq["fast"])},
	}
	return nil
}

func (p *pinned) cover() error { return p.j.Checkpoint(func(func(*kite.Record) bool) {}) }

// remember notes what must be there from now on.
func (p *pinned) remember(tb testing.TB) {
	tb.Helper()
	var err error
	if p.want, err = p.read(p.j); err != nil {
		tb.Fatal(err)
	}
	for _, pos := range p.open {
		if err := p.j.Load(pos, func(r *kite.Record) { p.loads[pos] = text(r) }); err != nil {
			tb.Fatal(err)
		}
	}
}

func (p *pinned) read(j *Journal) (lines []string, err error) {
	for _, stream := range pinnedStreams {
		err = errors.Join(err, j.Read(stream, 1, func(r *kite.Record) bool {
			lines = append(lines, text(r))
			return true
		}))
	}
	return lines, err
}

// check compares what can be read with what is needed. What is not needed may be there, and be right.
func (p *pinned) check(j *Journal) error {
	got, err := p.read(j)
	if err != nil {
		return err
	}
	if !slices.Equal(got, p.want) {
		return fmt.Errorf("%d records read, want %d", len(got), len(p.want))
	}
	for pos, want := range p.loads {
		got := ""
		if err := j.Load(pos, func(r *kite.Record) { got = text(r) }); err != nil || got != want {
			return fmt.Errorf("load %d: %q, %w", pos, got, err)
		}
	}
	seq, first := kite.Seq(0), true
	err = j.Read("fast", 1, func(r *kite.Record) bool {
		if bounds, _ := j.Bounds("fast"); first && r.Seq != bounds {
			err = fmt.Errorf("the first of fast is %d, bounds say %d", r.Seq, bounds)
		}
		if r.Seq <= seq || len(r.Body) > 0 && !bytes.Equal(r.Body, bytes.Repeat(r.Body[:1], len(r.Body))) {
			err = fmt.Errorf("%s after seq %d", text(r), seq)
		}
		first, seq = false, r.Seq
		return err == nil
	})
	if err == nil && seq != kite.Seq(p.seq["fast"]) {
		err = fmt.Errorf("fast ends at %d, want %d", seq, p.seq["fast"])
	}
	return err
}

// trim trims as often as there are segments: each time compacts one.
func (p *pinned) trim() error {
	for range len(p.j.segments) {
		if _, err := p.j.Trim(p.needs); err != nil {
			return err
		}
	}
	return nil
}

// usage is what the segments but the last take on the disk, bytes.
func usage(tb testing.TB, dir string) (bytes int64) {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil {
		tb.Fatal(err)
	}
	slices.Sort(paths)
	for _, path := range paths[:len(paths)-1] {
		info, err := os.Stat(path)
		if err != nil {
			tb.Fatal(err)
		}
		bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	return bytes
}

// TestCompact gives back what nobody needs of twenty segments that are all needed a little.
func TestCompact(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := pin(t, Options{Dir: dir, SegmentBytes: pinnedSegment}, 20)
	before := usage(t, dir)
	if err := p.trim(); err != nil {
		t.Fatal(err)
	}
	if p.j.noHoles.Load() {
		t.Skip("the file system of the test directory takes no part of a file back")
	}
	after := usage(t, dir)
	t.Logf("%d segments take %d bytes, %d before", len(p.j.segments)-1, after, before)
	if after > before/5 {
		t.Errorf("%d segments take %d bytes after compacting, %d before: want a fifth", len(p.j.segments)-1, after, before)
	}
	look := func(about string) {
		if err := p.check(p.j); err != nil {
			t.Errorf("%s: %v", about, err)
		}
	}
	look("compacted")
	for _, about := range []string{"reopened", "indexes rebuilt", "reopened again"} {
		mustClose(t, p.j)
		if about == "indexes rebuilt" {
			removeAll(t, filepath.Join(dir, "*.idx"))
		}
		reports, err := Inspect(dir, false, nil)
		gaps := 0
		for _, f := range reports {
			gaps += f.Gaps
			if f.Err != nil || f.Note != "" && f.Kind == "segment" {
				t.Errorf("inspect: %+v", f)
			}
		}
		if err != nil || gaps < 20 {
			t.Errorf("inspect: %d gaps, %v", gaps, err)
		}
		p.j = mustOpen(t, p.o)
		look(about)
		if err := p.trim(); err != nil {
			t.Fatal(err)
		}
		look(about + " and trimmed")
	}
	// A few more are settled: gaps merge. In the end all segments go.
	p.needs.Floors["slow"], p.needs.Open, p.loads = 40, p.open[15:], map[kite.Position]string{}
	if err := p.trim(); err != nil {
		t.Fatal(err)
	}
	if merged := usage(t, dir); merged >= after {
		t.Errorf("%d bytes after settling, %d before", merged, after)
	}
	p.needs = store.Needs{BeforeMs: 1 << 60}
	if trimmed, err := p.j.Trim(p.needs); err != nil || len(p.j.segments) != 1 || trimmed.Bytes > after+1<<20 {
		t.Errorf("trim of all: %+v, %v, %d segments left", trimmed, err, len(p.j.segments))
	}
}

func removeAll(tb testing.TB, pattern string) {
	tb.Helper()
	paths, err := filepath.Glob(pattern)
	for _, path := range paths {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil || len(paths) == 0 {
		tb.Fatalf("remove %s: %d files, %v", pattern, len(paths), err)
	}
}

// TestCompactWaitsForReaders leaves a segment alone while somebody reads it.
func TestCompactWaitsForReaders(t *testing.T) {
	t.Parallel()
	p := pin(t, Options{Dir: "/journal", SegmentBytes: pinnedSegment, FS: newFS(nil)}, 2)
	seg := p.j.segments[0]
	seen := 0
	err := p.j.Read("fast", 1, func(r *kite.Record) bool {
		body := bytes.Clone(r.Body)
		if err := p.trim(); err != nil || len(seg.gaps) > 0 {
			t.Errorf("trim beside a reader: %v, %d gaps", err, len(seg.gaps))
		}
		if !bytes.Equal(body, r.Body) {
			t.Error("the view has changed")
		}
		seen++
		return seen < 2
	})
	if err != nil || seen < 2 {
		t.Errorf("read: %d records, %v", seen, err)
	}
	if err := p.trim(); err != nil || len(seg.gaps) == 0 {
		t.Errorf("trim after the reader: %v, %d gaps", err, len(seg.gaps))
	}
	if err := p.check(p.j); err != nil {
		t.Error(err)
	}
}

// TestCompactOnce looks a segment through again only when much less is claimed of it.
func TestCompactOnce(t *testing.T) {
	t.Parallel()
	p := pin(t, Options{Dir: "/journal", SegmentBytes: pinnedSegment, FS: newFS(nil)}, 2)
	claims := func() int {
		_, claims := p.j.sift(p.needs)
		return len(claims)
	}
	if n := claims(); n != 2 {
		t.Errorf("%d segments to look through, want 2", n)
	}
	if n := claims(); n != 0 {
		t.Errorf("%d segments to look through again, want none", n)
	}
	p.needs.Floors["slow"], p.needs.Floors["slow/group"], p.needs.Floors["near"], p.needs.Open = 3, 2, 2, p.open[1:]
	if n := claims(); n == 0 {
		t.Error("nothing to look through after half was settled")
	}
}

// TestCompactUnsupported is a file system that takes nothing back.
func TestCompactUnsupported(t *testing.T) {
	t.Parallel()
	p := pin(t, Options{Dir: "/journal", SegmentBytes: pinnedSegment, FS: solidFS{newFS(nil)}}, 3)
	if err := p.trim(); err != nil || p.j.Err() != nil {
		t.Fatal(err, p.j.Err())
	}
	if err := p.check(p.j); err != nil {
		t.Error(err)
	}
	if n := len(p.j.segments[1].gaps); n > 0 {
		t.Errorf("the second segment has %d gaps, although the first gave nothing back", n)
	}
}

type solidFS struct{ *memFS }

func (f solidFS) Open(path string) (File, error) {
	file, err := f.memFS.Open(path)
	return solidFile{file}, err
}

type solidFile struct{ File }

func (solidFile) Punch(int64, int64) error { return errors.ErrUnsupported }

// TestCompactFaults lets every operation of compacting go wrong, and then opens what is left.
func TestCompactFaults(t *testing.T) {
	t.Parallel()
	for _, mode := range []storetest.Mode{storetest.Before, storetest.Torn, storetest.After} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			p := pin(t, pinnedOptions(newFS(nil)), 3)
			image := p.o.FS.(*memFS).snapshot()
			die(t, p.j)
			for n := int64(1); ; n++ {
				fs, fault := newFS(image), &storetest.Fault{N: n, Mode: mode}
				o := pinnedOptions(faultyFS{fs, fault})
				j, err := Open(o, nil)
				if err == nil {
					p.j = j
					err = p.trim()
					if problem := p.check(j); problem != nil {
						t.Fatalf("operation %d went wrong: %v", n, problem)
					}
					_ = j.release()
				}
				fs.locked = false
				if err != nil && !fault.Fired() {
					t.Fatal(err)
				}
				p.survives(t, fs.snapshot(), fmt.Sprintf("operation %d went wrong", n))
				if !fault.Fired() {
					t.Logf("%d operations", n-1)
					return
				}
			}
		})
	}
}

func pinnedOptions(fs FS) Options {
	return Options{Dir: "/journal", SegmentBytes: pinnedSegment, FS: fs}
}

// survives opens the files, completes the compacting, and opens them again.
func (p *pinned) survives(t *testing.T, f files, about string) {
	t.Helper()
	fs := newFS(f)
	for _, life := range []string{"opened", "trimmed", "without indexes"} {
		j, err := Open(pinnedOptions(fs), nil)
		if err != nil {
			t.Fatalf("%s, %s: %v", about, life, err)
		}
		p.j = j
		if err := p.check(j); err != nil {
			t.Fatalf("%s, %s: %v", about, life, err)
		}
		if err := p.trim(); err != nil {
			t.Fatalf("%s, %s: %v", about, life, err)
		}
		if seg := j.segments[0]; len(seg.gaps) == 0 || !seg.carved.Load() {
			t.Fatalf("%s, %s: not compacted", about, life)
		}
		die(t, j)
		for name := range fs.files {
			if strings.HasSuffix(name, indexExt) && life == "trimmed" {
				delete(fs.files, name)
			}
		}
	}
}

// TestCompactPowerCut cuts the power after every operation of compacting, and what was not synced is
// there in any part.
func TestCompactPowerCut(t *testing.T) {
	t.Parallel()
	p := pin(t, pinnedOptions(newFS(nil)), 3)
	image := p.o.FS.(*memFS).snapshot()
	die(t, p.j)
	cuts := 0
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 64))
		fs := newPowerFS(image)
		fs.after = func() {
			cuts++
			working := p.j
			p.survives(t, fs.cut(rng, []int64{512, 4096}[seed%2]), fmt.Sprintf("seed %d, cut %d", seed, cuts))
			p.j = working
		}
		j, err := Open(pinnedOptions(fs), nil)
		if err != nil {
			t.Fatal(err)
		}
		if p.j = j; p.trim() != nil || p.check(j) != nil {
			t.Fatalf("seed %d: %v, %v", seed, p.trim(), p.check(j))
		}
		fs.after = func() {}
		image := fs.cut(rng, 512)
		for name := range image {
			if strings.HasSuffix(name, indexExt) {
				delete(image, name)
			}
		}
		_ = j.release()
		p.survives(t, image, "compacted, and the indexes lost with the power")
	}
	t.Logf("%d cuts", cuts)
}

// TestGapFlips damages every bit of a gap's header: the index says where the gap is, and without the
// index it is found.
func TestGapFlips(t *testing.T) {
	t.Parallel()
	p := pin(t, pinnedOptions(newFS(nil)), 2)
	if err := p.trim(); err != nil {
		t.Fatal(err)
	}
	fs, seg := p.o.FS.(*memFS), p.j.segments[0]
	g := seg.gaps[len(seg.gaps)/2]
	name := filepath.Base(seg.path)
	die(t, p.j)
	whole := fs.snapshot()
	bare := whole.clone()
	delete(bare, strings.TrimSuffix(name, segmentExt)+indexExt)
	for bit := range int64(batchHeader * 8) {
		change := flip(g.from+bit/8, 1<<(bit%8))
		j, err := Open(pinnedOptions(newFS(whole.with(name, change))), nil)
		if err != nil {
			t.Fatalf("bit %d, with the index: %v", bit, err)
		}
		if err := p.check(j); err != nil {
			t.Errorf("bit %d, with the index: %v", bit, err)
		}
		if !bytes.Equal(j.segments[0].data[g.from:][:batchHeader], g.header(j.segments[0])) {
			t.Errorf("bit %d, with the index: the header is still damaged", bit)
		}
		die(t, j)
		var bad *store.CorruptionError
		if _, err := Open(pinnedOptions(newFS(bare.with(name, change))), slog.New(slog.DiscardHandler)); !errors.As(err, &bad) || bad.Offset != g.from {
			t.Errorf("bit %d, without the index: %v, want damage at offset %d", bit, err, g.from)
		}
	}
}

// TestGapUncovered refuses to replay from a checkpoint that does not cover a gap.
func TestGapUncovered(t *testing.T) {
	t.Parallel()
	p := pin(t, pinnedOptions(newFS(nil)), 2)
	if err := p.trim(); err != nil {
		t.Fatal(err)
	}
	die(t, p.j)
	f := p.o.FS.(*memFS).snapshot()
	delete(f, "00000001.ckpt")
	var bad *store.CorruptionError
	if _, err := Open(pinnedOptions(newFS(f)), nil); !errors.As(err, &bad) || !errors.Is(err, errUncovered) {
		t.Errorf("open without the checkpoint: %v, want a CorruptionError", err)
	}
}

// TestCompactBeside compacts in the background while others read, append and trim.
func TestCompactBeside(t *testing.T) {
	t.Parallel()
	p := pin(t, Options{Dir: t.TempDir(), SegmentBytes: pinnedSegment}, 8)
	ctx, cancel := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := p.j.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	for _, stream := range append([]string{"fast"}, pinnedStreams...) {
		parts.Go(func() {
			for ctx.Err() == nil {
				err := p.j.Read(stream, 1, func(r *kite.Record) bool {
					if len(r.Body) > 0 && !bytes.Equal(r.Body, bytes.Repeat(r.Body[:1], len(r.Body))) {
						t.Errorf("%s %d: its body changed", stream, r.Seq)
					}
					return true
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	compacted := func() (n int) {
		p.j.mu.RLock()
		defer p.j.mu.RUnlock()
		for _, seg := range p.j.segments {
			if len(seg.gaps) > 0 {
				n++
			}
		}
		return n
	}
	for n := 0; compacted() < 3 && n < 300 && p.j.Err() == nil; n++ {
		if _, err := p.j.Trim(p.needs); err != nil {
			t.Error(err)
		}
		if err := p.append(p.record(kite.KindMessage, "fast", 10)); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d segments compacted", compacted())
	cancel()
	parts.Wait()
	if compacted() == 0 {
		t.Error("nothing was compacted")
	}
	if err := p.check(p.j); err != nil {
		t.Error(err)
	}
}
