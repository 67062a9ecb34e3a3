package file_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/registry/file"
)

const (
	bindA = "- {groupIds: [s-a], topic: trade, messageType: pay, bindType: direct, persistent: true}\n"
	bindB = "- {groupIds: [s-b], topic: trade, bindType: fanout, watermark: 10}\n"
)

// oneRound is longer than any period of the default options and the pause that a change needs.
const oneRound = 76 * time.Second

func TestRunReadsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, header+bindA)
		defer b.run()()
		var seen []string
		watched := make(chan error, 1)
		go func() {
			watched <- b.WatchBindings(t.Context(), []string{"trade"}, func(p registry.Bindings) { seen = append(seen, groups(p, "trade")) })
		}()
		for _, text := range []string{header + bindA + bindB, header + bindB, header + bindB + "# a comment\n", header[:len(header)-1] + " []\n", header + bindA} {
			b.write(text)
			time.Sleep(oneRound)
			synctest.Wait()
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-watched; !errors.Is(err, kite.Unavailable) {
			t.Errorf("the watch ended with %v, want code %v", err, kite.Unavailable)
		}
		if got, want := fmt.Sprintf("%q", seen), `["s-a" "s-a s-b" "s-b" "" "s-a"]`; got != want {
			t.Errorf("seen were %s, want %s", got, want)
		}
	})
}

// TestTrapGroupsAndBindingsGo: in the original what was removed stays active.
func TestTrapGroupsAndBindingsGo(t *testing.T) {
	t.Parallel()
	const more = "- {groupIds: [s-a], topic: trade, messageType: refund, bindType: direct}\n"
	b := setup(t, header+bindA+more+bindB)
	if got := b.bindings("trade")["trade"]; len(got) != 2 || len(got[0].Bindings) != 2 {
		t.Fatalf("bound are %+v, want s-a twice and s-b", got)
	}
	b.reload(header + bindA + bindB)
	if got := b.bindings("trade")["trade"]; len(got) != 2 || len(got[0].Bindings) != 1 || got[0].Bindings[0].MessageType != "pay" {
		t.Errorf("a binding was removed, bound are %+v", got)
	}
	b.reload(header + bindB)
	if got := b.bound("trade"); got != "s-b" {
		t.Errorf("a group was removed, bound are %q", got)
	}
	b.reload("brokers: []\nbindings: []\n")
	if got := b.bound("trade"); got != "" {
		t.Errorf("everything was removed, bound are %q", got)
	}
}

// TestTrapChangedGroups: the original takes a group that comes with a change for "topic_group", without
// the rest of its binding.
func TestTrapChangedGroups(t *testing.T) {
	t.Parallel()
	b := setup(t, header+bindA)
	b.reload(header + bindA + bindB)
	want := kite.Fanout("s-b", "trade")
	want.Watermark, want.Durable = 10, false
	if got := b.bindings("trade")["trade"]; len(got) != 2 || got[1].Group != "s-b" || len(got[1].Bindings) != 1 || got[1].Bindings[0] != want {
		t.Errorf("bound are %+v, want %+v as the second", got, want)
	}
	b.reload(header + bindA + strings.Replace(bindB, "10", "20", 1))
	if got := b.bindings("trade")["trade"]; len(got) != 2 || got[1].Bindings[0].Watermark != 20 {
		t.Errorf("bound are %+v, want the new watermark", got)
	}
}

// TestUnusableFile walks through a file that breaks, breaks otherwise, vanishes and comes back.
func TestUnusableFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, header+bindA)
		defer b.run()()
		for i, step := range []struct {
			text string // "" removes the file
			why  string // "" for a usable one
			seen string
			line int // warnings with why afterwards
		}{
			{header + bindA + "oops: 1\n", "registry.yaml:5: key", "s-a", 1},
			{header + bindA + "oops: 1\n", "registry.yaml:5: key", "s-a", 1},
			{header + bindA + "- {", "no YAML", "s-a", 1},
			{"", "no such file", "s-a", 1},
			{"brokers: []\n", "bindings is missing", "s-a", 1},
			{header + bindB, "", "s-b", 0},
			{header + bindA + "oops: 1\n", "registry.yaml:5: key", "s-b", 2},
			{header + bindB, "", "s-b", 0},
		} {
			if step.text == "" {
				if err := os.Remove(b.path); err != nil {
					t.Fatal(err)
				}
			} else {
				b.write(step.text)
			}
			time.Sleep(3 * oneRound)
			synctest.Wait()
			if got := b.bound("trade"); got != step.seen {
				t.Errorf("step %d: bound are %q, want %q", i, got, step.seen)
			}
			err := b.Ready()
			if step.why == "" {
				if err != nil {
					t.Errorf("step %d: the file is good again: %v", i, err)
				}
				continue
			}
			if !errors.Is(err, kite.Unavailable) || !strings.Contains(err.Error(), step.why) {
				t.Errorf("step %d: Ready is %v, want code %v and %q", i, err, kite.Unavailable, step.why)
			}
			if lines := b.log.warnings(step.why); len(lines) != step.line {
				t.Errorf("step %d: %d warnings with %q, want %d: %q", i, len(lines), step.why, step.line, lines)
			}
			if err := b.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), step.why) {
				t.Errorf("step %d: Reload returns %v, want %q", i, err, step.why)
			}
		}
	})
}

// TestHalfWrittenFile: what an editor has not finished is not believed, even if it is YAML.
func TestHalfWrittenFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, header+bindA)
		defer b.run()()
		watched := 0
		go func() {
			_ = b.WatchBindings(t.Context(), []string{"trade"}, func(registry.Bindings) { watched++ })
		}()
		for i := range 800 { // for 80 s, thus at least one period
			b.write(header + bindB + strings.Repeat("#", i) + "\n")
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if watched != 1 {
			t.Errorf("%d pictures were shown of a file that changes all the time, want the first", watched)
		}
		if err := b.Ready(); err == nil || !strings.Contains(err.Error(), "changes all the time") {
			t.Errorf("Ready is %v", err)
		}
		time.Sleep(2 * oneRound)
		if err := b.Ready(); err != nil || b.bound("trade") != "s-b" {
			t.Errorf("it has been finished: bound are %q, Ready is %v", b.bound("trade"), err)
		}
		_ = b.Close()
	})
}

// TestSince: a group that comes later begins where the file was last read without it.
func TestSince(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		opened := time.Now()
		b := setup(t, header+bindA)
		since := func(group string) int64 {
			t.Helper()
			for _, g := range b.bindings("trade")["trade"] {
				if g.Group == group {
					return g.SinceMs
				}
			}
			t.Fatalf("%s is not bound", group)
			return 0
		}
		if got := since("s-a"); got != 0 {
			t.Errorf("s-a was there from the beginning, and is bound since %d, want 0", got)
		}
		time.Sleep(time.Hour)
		b.reload(header + bindA + bindB)
		if got := since("s-b"); got != opened.UnixMilli() {
			t.Errorf("s-b is bound since %d, want the first reading, %d", got, opened.UnixMilli())
		}
		b.reload(header + bindA)
		time.Sleep(time.Minute)
		if err := b.Reload(t.Context()); err != nil { // the same file, looked at
			t.Fatal(err)
		}
		looked := time.Now()
		time.Sleep(time.Minute)
		b.write(header + bindA + bindB + "oops: 1\n")
		if err := b.Reload(t.Context()); err == nil {
			t.Fatal("an unknown key was accepted")
		}
		time.Sleep(24 * time.Hour)
		b.reload(header + bindB + bindA)
		if got := since("s-b"); got != looked.UnixMilli() {
			t.Errorf("s-b is bound since %d, want the last reading without it, %d", got, looked.UnixMilli())
		}
		if got := since("s-a"); got != 0 {
			t.Errorf("s-a is bound since %d after changes beside it, want 0", got)
		}
	})
}

// TestSwappedLink: Kubernetes changes a file by turning a link to its directory.
func TestSwappedLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"one": header + bindA, "two": header + bindB} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, name), 0o700), os.WriteFile(filepath.Join(dir, name, "r.yaml"), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	turn := func(to string) {
		if err := errors.Join(os.Symlink(to, filepath.Join(dir, "next")), os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "now"))); err != nil {
			t.Fatal(err)
		}
	}
	turn("one")
	r, err := file.Open(file.Options{Path: filepath.Join(dir, "now", "r.yaml")}, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{Registry: r, t: t}
	turn("two")
	if err := r.Reload(t.Context()); err != nil || b.bound("trade") != "s-b" {
		t.Errorf("after the link was turned %q are bound, error %v; want s-b", b.bound("trade"), err)
	}
}
