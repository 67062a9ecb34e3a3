package mmap

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/store"
)

// filled makes a journal of a few closed segments in a new directory.
func filled(t *testing.T, closed bool) (dir string) {
	t.Helper()
	dir = t.TempDir()
	j := mustOpen(t, Options{Dir: dir, SegmentBytes: minSegment})
	for seq := range 12 {
		mustAppend(t, j, message("a", seq+1, 900))
		mustSync(t, j)
	}
	if closed {
		mustClose(t, j)
	} else {
		die(t, j)
	}
	return dir
}

// TestRefusals has directories that Open must refuse: the error is one line, which names the file and
// says what to do.
func TestRefusals(t *testing.T) {
	t.Parallel()
	must := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	write := func(text string) func(path string) {
		return func(path string) { must(os.WriteFile(path, []byte(text), 0o600)) }
	}
	cut := func(size int64) func(path string) {
		return func(path string) { must(os.Truncate(path, size)) }
	}
	mkdir := func(path string) { must(os.RemoveAll(path)); must(os.Mkdir(path, 0o700)) }
	const verify = "kiteqctl store verify"
	for about, c := range map[string]struct {
		file  string
		do    func(path string)
		wants []string
	}{
		"foreign file":        {"notes.txt", write("mine"), []string{"move it away", "empty directory"}},
		"foreign directory":   {"backup", mkdir, []string{"move it away", "empty directory"}},
		"foreign segment":     {"00000002.seg", write(strings.Repeat("my notes. ", 20)), []string{`"my notes"`, "move it away", verify}},
		"short segment":       {"00000002.seg", write("mine"), []string{`"mine"`, "move it away", verify}},
		"directory segment":   {"00000009.seg", mkdir, []string{"a file that this user can read and write"}},
		"truncated segment":   {"00000002.seg", cut(500), []string{"offset 64", "durable", verify}},
		"headerless segment":  {"00000002.seg", cut(0), []string{"no header", "durable", verify}},
		"missing segment":     {"00000003.seg", func(path string) { must(os.Remove(filepath.Join(filepath.Dir(path), "00000002.seg"))) }, []string{"what precedes it is missing", verify}},
		"segment of tomorrow": {"00000002.seg", func(path string) { must(tomorrow(path)) }, []string{"format version 9", "this broker reads version 2", "start the broker that wrote it"}},
		"unwritable":          {lockName, mkdir, []string{"a directory that this user can write"}},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			dir := filled(t, true)
			c.do(filepath.Join(dir, c.file))
			j, err := Open(Options{Dir: dir, SegmentBytes: minSegment}, nil)
			if err == nil {
				mustClose(t, j)
				t.Fatal("it was opened")
			}
			for _, want := range append(c.wants, filepath.Join(dir, c.file)) {
				if text := err.Error(); !strings.Contains(text, want) || strings.Contains(text, "\n") {
					t.Errorf("%q: want %q in one line", text, want)
				}
			}
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	write("")(file)
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		_, err := Open(Options{Dir: dir}, nil)
		if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "that this user can") {
			t.Errorf("open in %s: %v, want the name and what to do", dir, err)
		}
	}
}

// tomorrow gives the file another format version.
func tomorrow(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	le.PutUint32(b[8:], 9)
	le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return os.WriteFile(path, b, 0o600)
}

// TestTomorrowsEmptySegment has a last segment of a newer broker in which there is nothing yet: it is not
// a creation that was cut short.
func TestTomorrowsEmptySegment(t *testing.T) {
	t.Parallel()
	dir := filled(t, true)
	path := filepath.Join(dir, "00000005.seg")
	seg := segment{number: 5}
	if err := os.WriteFile(path, append(seg.putHeader(time.Now()), make([]byte, 4032)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tomorrow(path); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Options{Dir: dir, SegmentBytes: minSegment}, nil)
	var bad *store.CorruptionError
	if err == nil || errors.As(err, &bad) || !strings.Contains(err.Error(), "format version 9") {
		t.Errorf("open: %v, want the version", err)
	}
}
