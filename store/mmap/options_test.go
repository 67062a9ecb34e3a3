package mmap

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url   string
		want  Options
		notes int
		bad   string // in the error
	}{
		{url: "mmap:///var/lib/kiteq", want: Options{Dir: "/var/lib/kiteq"}},
		{url: "mmap://data/journal/?sync=os&segment=64MiB", want: Options{Dir: "data/journal", Sync: SyncOS, SegmentBytes: 64 << 20}},
		{url: "mmap://d?sync=200ms", want: Options{Dir: "d", Sync: SyncEvery(200 * time.Millisecond)}},
		{url: "mmap://d?sync=always", want: Options{Dir: "d"}},
		{url: "file://./d?cap=1000&checkSeconds=1&flushBatchSize=10", want: Options{Dir: "d"}, notes: 3},
		{url: "file://.", want: Options{Dir: "."}},
		{url: "mmap://", bad: "path is empty"},
		{url: "rocksdb://d", bad: "use mmap://path"},
		{url: "mmap://d?sync=never", bad: `sync "never"`},
		{url: "mmap://d?sync=1us", bad: "at least 1ms"},
		{url: "mmap://d?segment=big", bad: `size "big"`},
		{url: "mmap://d?segment=1KiB", bad: "4KiB to 2GiB"},
		{url: "mmap://d?segments=1MiB", bad: `"segments" is unknown`},
		{url: "mmap://d?sync=%zz", bad: "invalid URL escape"},
	} {
		got, notes, err := ParseURL(c.url)
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) || kite.CodeOf(err) != kite.Invalid {
				t.Errorf("parse %s: %v, want %q with code invalid", c.url, err, c.bad)
			}
			continue
		}
		if err != nil || got != c.want || len(notes) != c.notes {
			t.Errorf("parse %s: %+v, %d notes, %v; want %+v, %d notes", c.url, got, len(notes), err, c.want, c.notes)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	if err := (Options{Dir: "d"}).WithDefaults().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	err := Options{Sync: -2, SegmentBytes: 1, MaxBatchBytes: 1 << 40}.WithDefaults().Validate()
	for _, want := range []string{"directory", "sync", "segment", "batch"} {
		if err == nil || !slices.ContainsFunc(strings.Split(err.Error(), "\n"), func(line string) bool { return strings.Contains(line, want) }) {
			t.Errorf("validate: %v, want a line about the %s", err, want)
		}
	}
}

func TestSyncText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Sync{"always": SyncAlways, "os": SyncOS, "200ms": SyncEvery(200 * time.Millisecond)} {
		var got Sync
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want || got.String() != text {
			t.Errorf("sync %q: %v, %v", text, got, err)
		}
		if again, err := got.MarshalText(); err != nil || string(again) != text {
			t.Errorf("sync %q written as %q, %v", text, again, err)
		}
	}
}
