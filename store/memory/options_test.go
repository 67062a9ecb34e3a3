package memory

import (
	"strings"
	"testing"

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
		{url: "memory://"},
		{url: "memory://."},
		{url: "memory://.?initcap=10&maxcap=2000", want: Options{MaxMessages: 2000}, notes: 1},
		{url: "memory://.?initcap=&maxcap=", notes: 1},
		{url: "memory://initcap=1000&maxcap=2000", want: Options{MaxMessages: 2000}, notes: 1},
		{url: "memory://?initcap=1000&maxcap=2000", want: Options{MaxMessages: 2000}, notes: 1},
		{url: "memory://maxcap=7", want: Options{MaxMessages: 7}},
		{url: "memory://.maxcap=7", bad: `".maxcap" is unknown`},
		{url: "memory://host?maxcap=7", bad: "use memory://"},
		{url: "memory://a=1?maxcap=7", bad: "use memory://"},
		{url: "memory://maxcap=0&size=1", bad: `"size" is unknown`},
		{url: "memory://maxcap=0&size=1", bad: `maxcap "0"`},
		{url: "memory://.?maxcap=0", bad: `maxcap "0"`},
		{url: "memory://.?maxcap=many", bad: `maxcap "many"`},
		{url: "memory://.?size=1", bad: `"size" is unknown`},
		{url: "memory://host/path", bad: "use memory://"},
		{url: "mmap://d", bad: "use memory://"},
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
	if _, err := New(Options{MaxBytes: 1, MaxMessages: -1}); kite.CodeOf(err) != kite.Invalid || strings.Count(err.Error(), "memory store of") != 2 {
		t.Errorf("new with bad options: %v, want both problems", err)
	}
}

// TestBound counts messages, and lets decisions and progress through when it is reached.
func TestBound(t *testing.T) {
	t.Parallel()
	j, err := New(Options{MaxMessages: 2})
	if err != nil {
		t.Fatal(err)
	}
	p := &kite.Record{Kind: kite.KindPrepared, Topic: "a"}
	m := &kite.Record{Kind: kite.KindMessage, Topic: "a", Seq: 1}
	if err := j.Append([]*kite.Record{p, m}); err != nil {
		t.Fatal(err)
	}
	if err := j.Append([]*kite.Record{{Kind: kite.KindMessage, Topic: "a", Seq: 2}}); kite.CodeOf(err) != kite.Busy {
		t.Errorf("append a third message: %v, want code busy", err)
	}
	for _, r := range []*kite.Record{
		{Kind: kite.KindCommit, Topic: "a", Seq: 2, Ref: p.Position},
		{Kind: kite.KindProgress, Topic: "a"},
		{Kind: kite.KindDead, Topic: "a", Group: []byte("g"), Seq: 1},
	} {
		if err := j.Append([]*kite.Record{r}); err != nil {
			t.Errorf("append a %s to a full journal: %v", r.Kind, err)
		}
	}
}

// TestAllocations holds that a message costs no allocation of its own.
func TestAllocations(t *testing.T) { //nolint:paralleltest // it counts allocations of the process
	j, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	batch := make([]*kite.Record, 64)
	for i := range batch {
		batch[i] = &kite.Record{Kind: kite.KindMessage, Topic: "a", Body: make([]byte, 100)}
	}
	seq := kite.Seq(0)
	appended := testing.AllocsPerRun(100, func() {
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
	if appended > 2 || read > 2 {
		t.Errorf("%.1f allocations for %d messages appended, %.1f for %d read; want next to none", appended, len(batch), read, seq)
	}
}
