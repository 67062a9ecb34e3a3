package mmap

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// onDisk writes the files into a directory from which nothing may be taken and to which nothing may
// be added.
func onDisk(t *testing.T, f files) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range f {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != len(f) {
			t.Errorf("%d files after the inspection, want %d, %v", len(entries), len(f), err)
		}
		for name, data := range f {
			if now, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(now) != string(data) {
				t.Errorf("%s has changed, %v", name, err)
			}
		}
	})
	return dir
}

func TestInspect(t *testing.T) {
	t.Parallel()
	closed, _, _ := sample(t, true)
	killed, _, _ := sample(t, false)
	without := func(name string) files {
		f := closed.clone()
		delete(f, name)
		return f
	}
	lastRecord := int64(strings.LastIndex(string(killed["00000003.seg"]), "\x02\x02\x02"))
	for about, c := range map[string]struct {
		files  files
		file   string // the damaged one
		offset int64  // -1: any
		note   string // "file: part of its note"
	}{
		"good":             {files: closed},
		"killed":           {files: killed},
		"torn":             {files: killed.with("00000003.seg", flip(lastRecord, 1)), note: "00000003.seg: torn at offset"},
		"record":           {files: closed.with("00000001.seg", flip(segmentHeader+batchHeader+70, 1)), file: "00000001.seg", offset: segmentHeader},
		"end of closed":    {files: closed.with("00000003.seg", flip(lastRecord, 1)), file: "00000003.seg", offset: -1},
		"header":           {files: closed.with("00000002.seg", flip(50, 1)), file: "00000002.seg", offset: 0},
		"index":            {files: closed.with("00000001.idx", flip(70, 1)), note: "00000001.idx: the next start makes it again"},
		"ids":              {files: closed.with("00000001.ids", flip(70, 1)), note: "00000001.ids: the next start or look makes it again"},
		"checkpoint":       {files: closed.with("00000002.ckpt", flip(checkpointHeader+2, 1)), file: "00000002.ckpt", offset: checkpointHeader},
		"older checkpoint": {files: closed.with("00000001.ckpt", flip(checkpointHeader+2, 1)), file: "00000001.ckpt", offset: checkpointHeader},
		"gap":              {files: without("00000002.seg"), file: "00000003.seg", offset: 0},
		"unborn":           {files: closed.with("00000004.seg", func([]byte) []byte { return make([]byte, 4096) }), note: "00000004.seg: the journal ends before it"},
		"foreign":          {files: closed.with("notes.txt", func([]byte) []byte { return []byte("mine") }), file: "notes.txt", offset: -1},
		"temporary":        {files: closed.with("00000003.ckpt.tmp", func([]byte) []byte { return nil }), note: "00000003.ckpt.tmp: unfinished"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			dir := onDisk(t, c.files)
			reports, err := Inspect(dir, false, nil)
			if err != nil || len(reports) != len(c.files) {
				t.Fatalf("%d reports of %d files, %v", len(reports), len(c.files), err)
			}
			noted := c.note == ""
			for _, f := range reports {
				name := filepath.Base(f.Path)
				if name != c.file && f.Err != nil {
					t.Errorf("%s: %v, which is not damaged", name, f.Err)
				}
				if name == c.file {
					var bad *store.CorruptionError
					if f.Err == nil || c.offset >= 0 && (!errors.As(f.Err, &bad) || bad.Offset != c.offset) {
						t.Errorf("%s: %v, want damage at offset %d", name, f.Err, c.offset)
					}
				}
				noted = noted || strings.Contains(name+": "+f.Note, c.note)
			}
			if !noted {
				t.Errorf("reports %+v, want a note %q", reports, c.note)
			}
		})
	}
}

// TestInspectIndex has an index whose checksum is right and whose entry is not.
func TestInspectIndex(t *testing.T) {
	t.Parallel()
	closed, _, _ := sample(t, true)
	dir := onDisk(t, closed.with("00000001.idx", func(b []byte) []byte {
		copy(b[indexHeader:], b[indexHeader+4:indexHeader+8])
		return resigned(b)
	}))
	reports, err := Inspect(dir, false, nil)
	i := slices.IndexFunc(reports, func(f FileReport) bool { return f.Err != nil })
	if err != nil || i < 0 || filepath.Base(reports[i].Path) != "00000001.idx" {
		t.Errorf("reports %+v, %v; want damage of the index", reports, err)
	}
}

// TestInspectRecords gets what was appended, in its order, until it has enough, also behind damage.
func TestInspectRecords(t *testing.T) {
	t.Parallel()
	closed, _, _ := sample(t, true)
	var all []kite.Position
	dir := onDisk(t, closed)
	collect := func(n int) func(*kite.Record) bool {
		all = nil
		return func(r *kite.Record) bool {
			all = append(all, r.Position)
			return len(all) != n
		}
	}
	reports, err := Inspect(dir, false, collect(0))
	records := 0
	for _, f := range reports {
		if f.Kind == "segment" {
			records += f.Records
		}
	}
	if err != nil || records == 0 || len(all) != records || !slices.IsSorted(all) {
		t.Fatalf("%d records visited, %d reported, %v", len(all), records, err)
	}
	if _, err := Inspect(dir, false, collect(3)); err != nil || len(all) != 3 {
		t.Errorf("%d records visited, want 3, %v", len(all), err)
	}
	damaged := onDisk(t, closed.with("00000001.seg", flip(segmentHeader+batchHeader+70, 1)))
	if _, err := Inspect(damaged, false, collect(0)); err != nil || len(all) == 0 || len(all) >= records {
		t.Errorf("%d of %d records visited behind damage, %v", len(all), records, err)
	}
}

// TestInspectLocked leaves a running broker alone, unless it is told not to.
func TestInspectLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, Options{Dir: dir, SegmentBytes: minSegment})
	mustAppend(t, j, message("a", 1, 9))
	if _, err := Inspect(dir, false, nil); !errors.Is(err, store.ErrLocked) {
		t.Errorf("inspect an open journal: %v, want ErrLocked", err)
	}
	if reports, err := Inspect(dir, true, nil); err != nil || len(reports) != 2 || reports[0].Records != 1 || reports[1].Kind != "reserve" {
		t.Errorf("inspect an open journal by force: %+v, %v", reports, err)
	}
	mustClose(t, j)
	if _, err := Inspect(filepath.Join(dir, "none"), false, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("inspect no directory: %v", err)
	}
}

// TestRefusalTeaches names the command that looks further.
func TestRefusalTeaches(t *testing.T) {
	t.Parallel()
	closed, _, _ := sample(t, true)
	_, err := Open(options(newFS(closed.with("00000002.seg", flip(50, 1)))), nil)
	if err == nil || !strings.HasSuffix(err.Error(), "kiteqctl store verify /journal") {
		t.Errorf("open: %v", err)
	}
}
