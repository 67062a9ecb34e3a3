package mmap

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// cuttingFS cuts a file of the directory when that has been mapped, before anybody reads it.
type cuttingFS struct {
	osFS
	name string
}

func (c cuttingFS) Open(path string) (File, error) {
	file, err := c.osFS.Open(path)
	if err != nil || filepath.Base(path) != c.name {
		return file, err
	}
	return cutFile{file, path}, nil
}

type cutFile struct {
	File
	path string
}

func (f cutFile) Map(size int64) ([]byte, error) {
	data, err := f.File.Map(size)
	return data, errors.Join(err, os.Truncate(f.path, 0))
}

// manyPages makes a killed journal whose two segments, index and checkpoints have more than one page.
func manyPages(t *testing.T) Options {
	t.Helper()
	o := Options{Dir: t.TempDir(), SegmentBytes: 256 << 10}
	j := mustOpen(t, o)
	for seq := 1; len(j.segments) < 2; {
		var batch []*kite.Record
		for range 40 {
			batch = append(batch, message("a", seq, 20))
			seq++
		}
		mustAppend(t, j, batch...)
		mustSync(t, j)
	}
	head := &kite.Record{Kind: kite.KindHead, Topic: "a", Seq: 1, Body: make([]byte, 8<<10)}
	if err := j.Checkpoint(slices.Values([]*kite.Record{head})); err != nil {
		t.Fatal(err)
	}
	r := message("b", 1, 9)
	mustAppend(t, j, r)
	mustSync(t, j)
	die(t, j)
	return o
}

// TestFaultInOpen cuts each file under Open: an error that names it, or, for what can be made again, a
// warning.
func TestFaultInOpen(t *testing.T) {
	t.Parallel()
	for name, opened := range map[string]bool{"00000001.seg": false, "00000002.seg": false, "00000001.idx": true, "00000001.ids": true, "00000001.ckpt": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := manyPages(t)
			o.FS = cuttingFS{name: name}
			said := &strings.Builder{}
			j, err := Open(o, slog.New(slog.NewTextHandler(said, nil)))
			if err == nil {
				mustClose(t, j)
			}
			var bad *store.CorruptionError
			switch {
			case opened && (err != nil || !strings.Contains(said.String(), name)):
				t.Errorf("open: %v, it said %q", err, said)
			case !opened && (!errors.As(err, &bad) || filepath.Base(bad.File) != name):
				t.Errorf("open: %v, want a CorruptionError of %s", err, name)
			}
		})
	}
}

// TestFaultAfterOpen cuts a file under Replay or Read: an error that names it.
func TestFaultAfterOpen(t *testing.T) {
	t.Parallel()
	replay := func(j *Journal) error { return j.Replay(func(*kite.Record) error { return nil }) }
	read := func(j *Journal) error { return j.Read("a", 1500, func(*kite.Record) bool { return true }) }
	find := func(j *Journal) error {
		return j.Find(message("a", 1, 0).ID, 0, func(*kite.Record) bool { return true })
	}
	for about, c := range map[string]struct {
		name string
		do   func(*Journal) error
	}{
		"replay of the checkpoint": {"00000001.ckpt", replay},
		"replay of a segment":      {"00000002.seg", replay},
		"read of a segment":        {"00000001.seg", read},
		"read of an index":         {"00000001.idx", read},
		"find by an id index":      {"00000001.ids", find},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			o := manyPages(t)
			j := mustOpen(t, o)
			if err := os.Truncate(filepath.Join(o.Dir, c.name), 0); err != nil {
				t.Fatal(err)
			}
			err := c.do(j)
			var bad *store.CorruptionError
			if !errors.As(err, &bad) || filepath.Base(bad.File) != c.name || !errors.Is(err, errFault) {
				t.Errorf("%v, want a CorruptionError of %s", err, c.name)
			}
		})
	}
}
