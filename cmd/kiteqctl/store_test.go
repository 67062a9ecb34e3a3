package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store/mmap"
)

// openJournal makes a journal with messages 1 to 3 of topic trade and 1 of topic other.
func openJournal(t *testing.T) (dir string, j *mmap.Journal) {
	t.Helper()
	dir = t.TempDir()
	j, err := mmap.Open(mmap.Options{Dir: dir, SegmentBytes: 4 << 10}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	next := map[string]kite.Seq{}
	for i, topic := range []string{"trade", "other", "trade", "trade"} {
		next[topic]++
		err := j.Append([]*kite.Record{{
			Kind: kite.KindMessage, Topic: topic, Seq: next[topic], ID: kite.MessageID([]byte(fmt.Sprintf("%16d", i))), TimeMs: 1_700_000_000_000 + int64(i),
			Type: []byte("pay"), Group: []byte("p-g"), Body: []byte("order"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Sync(j.Class()); err != nil {
			t.Fatal(err)
		}
	}
	return dir, j
}

// closedJournal is one of a broker that has stopped. change, unless nil, changes its segment.
func closedJournal(t *testing.T, change func([]byte) []byte) (dir string) {
	t.Helper()
	dir, j := openJournal(t)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "reserve")); err != nil {
		t.Fatal(err)
	}
	if change == nil {
		return dir
	}
	path := filepath.Join(dir, "00000001.seg")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestStoreVerify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		code   int
		state  string
		offset bool
	}{
		{"good", nil, exitOK, "ok", false},
		{"torn", func(b []byte) []byte { copy(b[bytes.LastIndex(b, []byte("p-g"))+200:], "rubbish"); return b }, exitOK, "note", false},
		{"damaged", func(b []byte) []byte { b[bytes.Index(b, []byte("order"))]++; return b }, exitError, "damaged", true},
		{"foreign", func([]byte) []byte { return []byte(strings.Repeat("no segment ", 99)) }, exitError, "damaged", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := closedJournal(t, c.change)
			before, err := os.ReadFile(filepath.Join(dir, "00000001.seg"))
			if err != nil {
				t.Fatal(err)
			}
			got := setup(t).run("", "store", "verify", dir, "-o", "json")
			var row fileRow
			if err := json.Unmarshal([]byte(got.out), &row); err != nil {
				t.Fatalf("%q: %v", got.out, err)
			}
			if got.code != c.code || row.File != "00000001.seg" || row.State != c.state || (row.Offset != nil) != c.offset {
				t.Errorf("exit code %d, row %+v; want %d, %s", got.code, row, c.code, c.state)
			}
			if (got.code == exitOK) != (got.err == "") || got.code != exitOK && !strings.Contains(got.err, "00000001.seg is damaged at offset") {
				t.Errorf("error output %q", got.err)
			}
			text := setup(t).run("", "store", "verify", dir)
			if lines := strings.Split(strings.TrimSpace(text.out), "\n"); len(lines) != 2 || !strings.Contains(lines[1], c.state) {
				t.Errorf("printed %q", text.out)
			}
			if after, err := os.ReadFile(filepath.Join(dir, "00000001.seg")); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the segment has changed, %v", err)
			}
		})
	}
}

func TestStoreDump(t *testing.T) {
	t.Parallel()
	dir := closedJournal(t, nil)
	b := setup(t)
	got := b.run("", "store", "dump", dir).mustOK(t)
	first := "message trade 1 " + fmt.Sprintf("%x", "               0") + " 2023-11-14T22:13:20Z 5\n"
	if !strings.HasPrefix(got.out, first) || strings.Count(got.out, "\n") != 4 {
		t.Errorf("printed %q, want first %q", got.out, first)
	}
	for _, c := range []struct {
		args string
		want int
	}{{"--topic trade", 3}, {"--topic none", 0}, {"--topic trade --from 3", 1}, {"-n 2", 2}, {"--topic trade -n 1 --from 2", 1}} {
		got := b.run("", append([]string{"store", "dump", dir, "-o", "json"}, strings.Fields(c.args)...)...).mustOK(t)
		if n := strings.Count(got.out, "\n"); n != c.want {
			t.Errorf("%s: %d lines, want %d", c.args, n, c.want)
		}
		for line := range strings.Lines(got.out) {
			var row recordRow
			if err := json.Unmarshal([]byte(line), &row); err != nil || row.Kind != "message" || row.Size != 5 || row.Time == nil || row.ID == "" {
				t.Errorf("%s: line %q, %v", c.args, line, err)
			}
		}
	}
	damaged := closedJournal(t, func(b []byte) []byte { b[bytes.LastIndex(b, []byte("order"))]++; return b })
	if got := b.run("", "store", "dump", damaged); got.code != exitError || strings.Count(got.out, "\n") != 3 {
		t.Errorf("dump of a damaged journal: exit code %d, printed %q", got.code, got.out)
	}
}

func TestStoreRefuses(t *testing.T) {
	t.Parallel()
	dir, _ := openJournal(t)
	b := setup(t)
	for _, command := range []string{"verify", "dump"} {
		if got := b.run("", "store", command, dir); got.code != exitError || !strings.Contains(got.err, "--force") || got.out != "" {
			t.Errorf("%s of an open journal: %+v", command, got)
		}
		b.run("", "store", command, dir, "--force").mustOK(t)
		if got := b.run("", "store", command, filepath.Join(dir, "none")); got.code != exitError {
			t.Errorf("%s of no directory: %+v", command, got)
		}
		if got := b.run("", "store", command); got.code != exitUsage || !strings.Contains(got.err, "DIR is missing") {
			t.Errorf("%s without a directory: %+v", command, got)
		}
	}
	if got := b.run("", "store", "dump", dir, "-n", "0"); got.code != exitUsage {
		t.Errorf("dump -n 0: %+v", got)
	}
}
