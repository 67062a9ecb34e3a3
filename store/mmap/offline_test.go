package mmap

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestRepair makes a directory sound, without losing a record or a byte that was cut; or it refuses and changes nothing.
func TestRepair(t *testing.T) {
	t.Parallel()
	closed, _, _ := sample(t, true)
	killed, _, _ := sample(t, false)
	lastRecord := int64(strings.LastIndex(string(killed["00000003.seg"]), "\x02\x02\x02"))
	mislead := func(b []byte) []byte {
		copy(b[indexHeader:], b[indexHeader+4:indexHeader+8])
		return resigned(b)
	}
	for about, c := range map[string]struct {
		files   files
		refused string // the file that is blamed
		cut     string // a file that holds what was cut or set aside
		torn    bool   // and that has the bytes of the last record
	}{
		"good":             {files: closed},
		"killed":           {files: killed},
		"torn":             {files: killed.with("00000003.seg", flip(lastRecord, 1)), cut: "00000003-*.cut", torn: true},
		"index":            {files: closed.with("00000001.idx", flip(70, 1))},
		"misleading index": {files: closed.with("00000001.idx", mislead), cut: "00000001.idx.cut"},
		"ids":              {files: closed.with("00000001.ids", flip(70, 1))},
		"checkpoint":       {files: closed.with("00000002.ckpt", flip(checkpointHeader+2, 1)), cut: "00000002.ckpt.cut"},
		"temporary":        {files: closed.with("00000003.ckpt.tmp", func([]byte) []byte { return []byte("half") })},
		"record":           {files: closed.with("00000001.seg", flip(segmentHeader+batchHeader+70, 1)), refused: "00000001.seg"},
		"header":           {files: closed.with("00000002.seg", flip(50, 1)), refused: "00000002.seg"},
		"foreign":          {files: closed.with("notes.txt", func([]byte) []byte { return []byte("mine") }), refused: "move it away"},
		"empty":            {files: files{}, refused: "there is none"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, data := range c.files {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			records := func() (n int, damaged []FileReport) {
				reports, err := Inspect(dir, false, func(*kite.Record) bool { n++; return true })
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range reports {
					if f.Err != nil {
						damaged = append(damaged, f)
					}
				}
				return n, damaged
			}
			before, _ := records()
			err := Repair(dir, slog.New(slog.DiscardHandler))
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) || !c.files.equal(directory(t, dir)) {
					t.Errorf("%v, want a refusal that names %s and changes nothing", err, c.refused)
				}
				return
			}
			after, damaged := records()
			if err != nil || after != before || len(damaged) > 0 {
				t.Errorf("%v: %d records of %d, damaged %+v", err, after, before, damaged)
			}
			if c.cut != "" {
				names, _ := filepath.Glob(filepath.Join(dir, c.cut))
				if len(names) != 1 {
					t.Fatalf("nothing is in %s: %v", c.cut, directory(t, dir).names())
				}
				saved, err := os.ReadFile(names[0])
				if err != nil || c.torn && !bytes.Contains(saved, []byte("\x03\x02\x02")) || len(saved) == 0 {
					t.Errorf("%d bytes saved in %s, %v: not what was cut", len(saved), names[0], err)
				}
			}
		})
	}
}

// directory returns the files in dir, the lock aside.
func directory(t *testing.T, dir string) files {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := files{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() != lockName {
			all[e.Name()] = data
		}
	}
	return all
}
