package mmap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// sample fills a journal with all that a file can hold: three segments, indexes, late commits, two
// checkpoints, and a tail behind them. closed or killed.
func sample(t *testing.T, closed bool) (files, []string, []string) {
	t.Helper()
	fs := newFS(nil)
	j := mustOpen(t, options(fs))
	p := message("b", 0, 30)
	p.Kind = kite.KindPrepared
	mustAppend(t, j, p, message("a", 1, 20))
	seq := 1
	for len(j.segments) < 3 {
		seq++
		mustAppend(t, j, message("a", seq, 300))
		mustSync(t, j)
		if seq == 4 || seq == 8 {
			head := &kite.Record{Kind: kite.KindHead, Topic: "a", Seq: kite.Seq(seq)}
			if err := j.Checkpoint(slices.Values([]*kite.Record{head})); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := &kite.Record{Kind: kite.KindCommit, Topic: "b", Seq: 1, ID: p.ID, Ref: p.Position, TimeMs: 99}
	d := message("a", 1, 5)
	d.Kind = kite.KindDead
	mustAppend(t, j, c, d)
	mustSync(t, j)
	mustAppend(t, j, message("b", 2, 40))
	mustSync(t, j)
	if closed {
		mustClose(t, j)
	} else {
		die(t, j)
	}
	all := fs.snapshot()
	delete(all, reserveName) // it holds nothing that could be damaged
	j = mustOpen(t, options(fs))
	replayed, read := mustEverything(t, j, "a", "b", "a/group")
	mustClose(t, j)
	return all, replayed, read
}

// unsealed is a killed journal of class written whose segments wait for being sealed: nothing proves that
// any of it was durable.
func unsealed(t *testing.T) (files, []string, []string) {
	t.Helper()
	fs := newFS(nil)
	o := options(fs)
	o.Sync = SyncOS
	j := mustOpen(t, o)
	j.worker.running.Store(true) // jobs wait
	for seq := 1; len(j.segments) < 3; seq++ {
		mustAppend(t, j, message("a", seq, 600))
	}
	die(t, j)
	all := fs.snapshot()
	delete(all, reserveName) // it holds nothing that could be damaged
	if names := all.names(); len(names) != 3 {
		t.Fatalf("files %v, want three segments", names)
	}
	j = mustOpen(t, options(fs))
	replayed, read := mustEverything(t, j, "a")
	mustClose(t, j)
	return all, replayed, read
}

// TestUnsealed damages the segments of a journal that nobody has synced: it ends at the damage, with a
// warning, and what lies behind is set aside.
func TestUnsealed(t *testing.T) {
	t.Parallel()
	all, replayed, read := unsealed(t)
	for _, name := range all.names() {
		for off := 0; off < len(all[name]); off += 7 {
			c := flipped{files: all.with(name, flip(int64(off), 1<<(off%8))), replayed: replayed, read: read}
			if problem := c.try(); problem != "" {
				t.Fatalf("byte %d of %s: %s", off, name, problem)
			}
		}
	}
	torn := all.with("00000001.seg", flip(segmentHeader+batchHeader+200, 1))
	fs := newFS(torn)
	j := mustOpen(t, options(fs))
	if replayed, _ := mustEverything(t, j); len(replayed) != 0 {
		t.Errorf("%d records replayed, want none: the first batch is torn", len(replayed))
	}
	names := fs.snapshot().names()
	for _, want := range []string{"00000001-64.cut", "00000002-0.cut", "00000003-0.cut"} {
		if !slices.Contains(names, want) {
			t.Errorf("files %v, want %s", names, want)
		}
	}
	mustAppend(t, j, message("a", 1, 600))
	mustClose(t, j)
	j = mustOpen(t, options(fs))
	if replayed, _ := mustEverything(t, j); len(replayed) != 1 {
		t.Errorf("%d records after one more append, want 1", len(replayed))
	}
}

// flipsVariable set to "all" flips each bit of each byte, one after the other; else one of each byte.
const flipsVariable = "KITEQ_FLIPS"

// TestBitFlips damages every byte of a journal: it is found, or it changes nothing.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("opens a journal some ten thousand times")
	}
	all := os.Getenv(flipsVariable) == "all"
	for _, closed := range []bool{true, false} {
		t.Run(fmt.Sprint("closed=", closed), func(t *testing.T) {
			t.Parallel()
			sound, replayed, read := sample(t, closed)
			for _, name := range sound.names() {
				for off := range sound[name] {
					for i, mask := range [...]byte{1 << (off % 8), 0xff, 1, 2, 4, 8, 16, 32, 64, 128} {
						if i == 1 && off%4 > 0 || i > 1 && !all {
							continue
						}
						damaged := sound.with(name, flip(int64(off), mask))
						c := flipped{files: damaged, replayed: replayed, read: read, closed: closed}
						if problem := c.try(); problem != "" {
							t.Fatalf("byte %d of %s xor %#x: %s", off, name, mask, problem)
						}
					}
				}
			}
		})
	}
}

type flipped struct {
	files          files
	replayed, read []string
	closed         bool
}

// try opens the damaged journal and returns what is wrong with what it shows.
func (c flipped) try() string {
	fs, warned := newFS(c.files), &warnings{}
	j, err := Open(options(fs), slog.New(warned))
	if err != nil {
		if !c.files.equal(fs.snapshot()) {
			return fmt.Sprintf("refused with %v, but the files have changed", err)
		}
		return c.located(err)
	}
	defer func() { _ = j.Close() }()
	replayed, read, err := everything(j, "a", "b", "a/group")
	if err != nil {
		for _, line := range read {
			if !slices.Contains(c.read, line) {
				return "read a record that was never written: " + line
			}
		}
		return c.located(err)
	}
	if slices.Equal(replayed, c.replayed) && slices.Equal(read, c.read) {
		return ""
	}
	if warned.n.Load() == 0 {
		return fmt.Sprintf("not noticed: %d of %d records replayed, %d of %d read", len(replayed), len(c.replayed), len(read), len(c.read))
	}
	if c.closed && len(read) < len(c.read) {
		return fmt.Sprintf("lost %d records of a closed journal with a warning only", len(c.read)-len(read))
	}
	for _, line := range read {
		if !slices.Contains(c.read, line) {
			return "read a record that was never written: " + line
		}
	}
	return ""
}

// located checks that the error says where the damage is, in a file that exists.
func (c flipped) located(err error) string {
	var bad *store.CorruptionError
	if !errors.As(err, &bad) {
		return fmt.Sprintf("error %v, want a *store.CorruptionError", err)
	}
	if _, ok := c.files[filepath.Base(bad.File)]; !ok || bad.Offset < 0 {
		return fmt.Sprintf("error %v: names no file of the journal", err)
	}
	return ""
}

// TestTruncation cuts the last segment of a killed journal at every byte, as a file system may that
// had not yet written its size, and once more by zeros, as one that had.
func TestTruncation(t *testing.T) {
	t.Parallel()
	fs := newFS(nil)
	j := mustOpen(t, options(fs))
	ends, want := []int64{segmentHeader}, [][]string{nil}
	var lines []string
	for seq := range 4 {
		batch := []*kite.Record{message("a", 2*seq+1, 30), message("a", 2*seq+2, 7*seq)}
		mustAppend(t, j, batch...)
		mustSync(t, j)
		for _, r := range batch {
			lines = append(lines, text(r))
		}
		ends, want = append(ends, j.open.end), append(want, slices.Clone(lines))
	}
	die(t, j)
	all := fs.snapshot()
	const name = "00000001.seg"
	for cut := int64(0); cut <= ends[len(ends)-1]; cut++ {
		whole, _ := slices.BinarySearch(ends, cut+1)
		whole = max(whole-1, 0)
		for shape, change := range map[string]func([]byte) []byte{
			"cut":    func(b []byte) []byte { return b[:cut] },
			"zeroed": func(b []byte) []byte { clear(b[cut:]); return b },
		} {
			if cut > 0 && cut < segmentHeader {
				continue // a header is one sector, and a piece of one may be somebody else's file
			}
			torn := all.with(name, change)
			if shape == "zeroed" && whole+1 < len(ends) && bytes.Equal(torn[name][:ends[whole+1]], all[name][:ends[whole+1]]) {
				continue // nothing but padding was zeroed
			}
			fs := newFS(torn)
			j, err := Open(options(fs), nil)
			if err != nil {
				t.Fatalf("%s at %d: %v", shape, cut, err)
			}
			replayed, read, err := everything(j, "a")
			if err != nil || !slices.Equal(replayed, want[whole]) || !slices.Equal(read, want[whole]) {
				t.Fatalf("%s at %d: %d replayed, %d read, %v; want %d", shape, cut, len(replayed), len(read), err, len(want[whole]))
			}
			mustAppend(t, j, message("a", len(read)+1, 3))
			mustClose(t, j)
			j = mustOpen(t, options(fs))
			if again, _ := mustEverything(t, j, "a"); len(again) != len(read)+1 {
				t.Fatalf("%s at %d: %d records after one more append, want %d", shape, cut, len(again), len(read)+1)
			}
			mustClose(t, j)
		}
	}
}

// TestGap has a broken batch with whole ones behind it. Synced, it is damage. Unsynced, it is the
// order in which pages were written: the tail is cut, kept aside, and never comes back.
func TestGap(t *testing.T) {
	t.Parallel()
	for _, synced := range []bool{true, false} {
		t.Run(fmt.Sprint("synced=", synced), func(t *testing.T) {
			t.Parallel()
			fs := newFS(nil)
			j := mustOpen(t, options(fs))
			var at []int64
			for seq := range 3 {
				mustAppend(t, j, message("a", seq+1, 50))
				at = append(at, j.open.end)
				if synced {
					mustSync(t, j)
				}
			}
			die(t, j)
			all := fs.snapshot().with("00000001.seg", flip(at[0]+batchHeader+70, 1))
			fs = newFS(all)
			j, err := Open(options(fs), nil)
			if synced {
				var bad *store.CorruptionError
				if !errors.As(err, &bad) || bad.Offset != at[0] || !all.equal(fs.snapshot()) {
					t.Fatalf("open: %v, want a CorruptionError at offset %d and no change", err, at[0])
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if replayed, _ := mustEverything(t, j); len(replayed) != 1 {
				t.Fatalf("%d records replayed, want 1", len(replayed))
			}
			cut := fs.snapshot()[fmt.Sprintf("00000001-%d.cut", at[0])]
			if int64(len(cut)) < at[2]-at[0]-batchAlign {
				t.Errorf("%d bytes kept aside, want %d", len(cut), at[2]-at[0])
			}
			mustAppend(t, j, message("a", 2, 50)) // as long as the one that was cut
			die(t, j)
			j = mustOpen(t, options(fs))
			if replayed, _ := mustEverything(t, j); len(replayed) != 2 {
				t.Fatalf("%d records replayed, want 2: what was cut came back", len(replayed))
			}
		})
	}
}

// TestLastBatch damages the last batch: after Close that is damage, after a kill a torn write.
func TestLastBatch(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		all, _, read := sample(t, closed)
		last := all.names()[len(all)-1]
		if last != "00000003.seg" {
			t.Fatalf("the last file is %s", last)
		}
		off := int64(strings.LastIndex(string(all[last]), "\x02\x02\x02"))
		j, err := Open(options(newFS(all.with(last, flip(off, 4)))), nil)
		var bad *store.CorruptionError
		switch {
		case closed && !errors.As(err, &bad):
			t.Errorf("open a closed journal with a damaged end: %v, want a CorruptionError", err)
		case !closed && err != nil:
			t.Errorf("open a killed journal with a torn end: %v", err)
		case !closed:
			if _, got := mustEverything(t, j, "a", "b", "a/group"); len(got) != len(read)-1 {
				t.Errorf("%d records, want all but one of %d", len(got), len(read))
			}
			mustClose(t, j)
		}
	}
}

// TestLostFiles removes each file: derived ones are made again, without a checkpoint the older one
// or the journal's begin serves, and a missing segment is named.
func TestLostFiles(t *testing.T) {
	t.Parallel()
	all, _, read := sample(t, true)
	for _, c := range []struct {
		lost []string
		ok   bool
	}{
		{[]string{"00000001.idx"}, true},
		{[]string{"00000001.idx", "00000002.idx"}, true},
		{[]string{"00000001.ids"}, true},
		{[]string{"00000001.idx", "00000001.ids", "00000002.ids"}, true},
		{[]string{"00000002.ckpt"}, true},
		{[]string{"00000001.ckpt", "00000002.ckpt"}, true},
		{[]string{"00000002.seg"}, false},
		{[]string{"00000003.seg"}, true}, // nothing tells that there was a third one
		{[]string{"00000001.seg", "00000001.ckpt", "00000002.ckpt"}, false},
		{[]string{"00000001.seg", "00000002.seg", "00000003.seg"}, false},
	} {
		left := files{}
		for name, data := range all {
			if !slices.Contains(c.lost, name) {
				left[name] = data
			}
		}
		fs := newFS(left)
		j, err := Open(options(fs), nil)
		var bad *store.CorruptionError
		if (err == nil) != c.ok || err != nil && !errors.As(err, &bad) {
			t.Errorf("without %v: %v, want success %v or a CorruptionError", c.lost, err, c.ok)
		}
		if err != nil {
			if !left.equal(fs.snapshot()) {
				t.Errorf("without %v: refused, but the files have changed", c.lost)
			}
			continue
		}
		_, got := mustEverything(t, j, "a", "b", "a/group")
		if c.lost[0] != "00000003.seg" && !slices.Equal(got, read) {
			t.Errorf("without %v: %d records, want %d", c.lost, len(got), len(read))
		}
		mustClose(t, j)
		for _, derived := range []string{"00000001.idx", "00000001.ids"} {
			if _, ok := fs.snapshot()[derived]; !ok {
				t.Errorf("without %v: no %s was made", c.lost, derived)
			}
		}
	}
}

// TestCheckpointFallback damages the newest checkpoint: the one before serves while the segments
// since are there, and only then.
func TestCheckpointFallback(t *testing.T) {
	t.Parallel()
	all, _, read := sample(t, true)
	damaged := all.with("00000002.ckpt", flip(checkpointHeader+2, 1))
	fs, warned := newFS(damaged), &warnings{}
	j, err := Open(options(fs), slog.New(warned))
	if err != nil || warned.n.Load() != 1 {
		t.Fatalf("open: %v with %d warnings, want 1", err, warned.n.Load())
	}
	if _, got := mustEverything(t, j, "a", "b", "a/group"); !slices.Equal(got, read) {
		t.Errorf("%d records, want %d", len(got), len(read))
	}
	if err := j.Checkpoint(func(func(*kite.Record) bool) {}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, j)
	if names := fs.snapshot().names(); slices.Contains(names, "00000002.ckpt") || !slices.Contains(names, "00000001.ckpt") {
		t.Errorf("files %v: the damaged checkpoint goes first", names)
	}
	delete(damaged, "00000001.seg")
	delete(damaged, "00000001.ckpt")
	var bad *store.CorruptionError
	if _, err := Open(options(newFS(damaged)), nil); !errors.As(err, &bad) || filepath.Base(bad.File) != "00000002.ckpt" {
		t.Errorf("open without what the older checkpoint needs: %v, want a CorruptionError of 00000002.ckpt", err)
	}
}

// TestVersions has files of another format version, with good checksums.
func TestVersions(t *testing.T) {
	t.Parallel()
	all, _, _ := sample(t, true)
	le := binary.LittleEndian
	for _, name := range []string{"00000001.seg", "00000003.seg", "00000002.ckpt"} {
		for _, version := range []uint32{0, 3, 77} {
			other := all.with(name, func(b []byte) []byte {
				le.PutUint32(b[8:], version)
				le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
				return b
			})
			fs := newFS(other)
			_, err := Open(options(fs), nil)
			var bad *store.CorruptionError
			if err == nil || errors.As(err, &bad) || !strings.Contains(err.Error(), fmt.Sprintf("%s: it has format version %d", name, version)) {
				t.Errorf("open %s of version %d: %v", name, version, err)
			}
			if !other.equal(fs.snapshot()) {
				t.Errorf("open %s of version %d: the files have changed", name, version)
			}
		}
	}
}

// TestForeign has files that are not the journal's.
func TestForeign(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"notes.txt": "mine", "00000001.seg": "a short text", "1.seg": "x", "snapshot": "x",
		"00000002.seg": strings.Repeat("a text longer than a header. ", 20),
	} {
		foreign := files{name: []byte(content)}
		fs := newFS(foreign)
		_, err := Open(options(fs), nil)
		if err == nil || !strings.Contains(err.Error(), "/journal/"+name) || strings.Contains(err.Error(), "\n") {
			t.Errorf("open beside %s: %v, want one line that names it", name, err)
		}
		if !foreign.equal(fs.snapshot()) {
			t.Errorf("open beside %s: the files have changed", name)
		}
	}
	mustClose(t, mustOpen(t, options(newFS(files{".keep": nil, "lost+found": nil}))))
}

// TestUnbornWithForgedBatch has a last segment without its header, as a power cut may leave it, and
// in it a message whose body is a batch of an older segment, which says that it was durable. It is no
// word about this segment: the start goes on.
func TestUnbornWithForgedBatch(t *testing.T) {
	t.Parallel()
	fs := newFS(nil)
	j := mustOpen(t, options(fs))
	mustAppend(t, j, message("a", 1, 400))
	mustSync(t, j)
	at := j.open.end
	mustAppend(t, j, message("a", 2, 40))
	forged := bytes.Clone(j.open.data[at:j.open.end])
	for seq := 3; len(j.segments) == 1; seq++ {
		r := message("a", seq, 0)
		r.Body = append(make([]byte, 6+8*seq), bytes.Repeat(forged, 4)...) // behind "a", "type", "group": 16
		mustAppend(t, j, r)
	}
	die(t, j)
	const last = "00000002.seg"
	headless := fs.snapshot().with(last, func(b []byte) []byte { clear(b[:512]); return b })
	seg := &segment{data: headless[last]}
	if off := bytes.Index(seg.data, forged); off < 0 || off%batchAlign > 0 {
		t.Fatalf("the forged batch lies at offset %d, want a multiple of %d", off, batchAlign)
	}
	fs = newFS(headless)
	j = mustOpen(t, options(fs))
	mustEverything(t, j, "a")
	if names := fs.snapshot().names(); !slices.Contains(names, "00000002-0.cut") {
		t.Errorf("files %v: the segment is set aside", names)
	}
}
