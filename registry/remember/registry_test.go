package remember

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

var errAway = kite.Errorf(kite.Unavailable, "no session with anybody")

// fake is a registry that is away until the test gives it pictures.
type fake struct {
	registry.Registry
	pictures chan registry.Bindings
	closed   chan struct{}
}

func newFake() *fake {
	return &fake{pictures: make(chan registry.Bindings), closed: make(chan struct{})}
}

func (f *fake) Ready() error { return errAway }

func (f *fake) Announce(_ context.Context, addr string, topics []string) error {
	return fmt.Errorf("announced %s %v", addr, topics)
}

func (f *fake) WatchBindings(ctx context.Context, topics []string, changed func(registry.Bindings)) error {
	for {
		select {
		case p := <-f.pictures:
			changed(p)
		case <-f.closed:
			return fmt.Errorf("watch %v: %w", topics, errAway)
		case <-ctx.Done():
			return nil
		}
	}
}

// watch is a watch under test and what it showed, and when.
type watch struct {
	t     *testing.T
	began time.Time
	log   bytes.Buffer
	stop  context.CancelFunc
	ended chan error

	mu   sync.Mutex
	seen []string
}

func start(t *testing.T, inner registry.Registry, path string, patience time.Duration, topics ...string) *watch {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watch{t: t, began: time.Now(), stop: cancel, ended: make(chan error, 1)}
	r := New(inner, path, patience, slog.New(slog.NewTextHandler(&w.log, nil)))
	go func() {
		w.ended <- r.WatchBindings(ctx, topics, func(p registry.Bindings) {
			text := fmt.Sprint(time.Since(w.began))
			for _, topic := range topics {
				text += " " + topic
				for _, g := range p[topic] {
					text += "/" + g.Group
				}
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.seen = append(w.seen, text)
		})
	}()
	return w
}

// end stops the watch and checks what it showed and logged.
func (w *watch) end(want string, logged ...string) {
	w.t.Helper()
	synctest.Wait()
	w.stop()
	if err := <-w.ended; err != nil {
		w.t.Errorf("the watch ended with %v, want nil at the end of its context", err)
	}
	if got := strings.Join(w.seen, ", "); got != want {
		w.t.Errorf("shown were %q, want %q", got, want)
	}
	for _, part := range logged {
		if !strings.Contains(w.log.String(), part) {
			w.t.Errorf("%q is not in the log:\n%s", part, &w.log)
		}
	}
	if len(logged) == 0 && w.log.Len() > 0 {
		w.t.Errorf("logged was %s", &w.log)
	}
}

func fanout(topic string, groups ...string) registry.Bindings {
	p := registry.Bindings{topic: {}}
	for _, g := range groups {
		p[topic] = append(p[topic], registry.GroupBindings{Group: g, Bindings: []kite.Binding{kite.Fanout(g, topic)}, SinceMs: 5})
	}
	return p
}

const warned = `level=WARN msg="registry gave no bindings in time, beginning with the remembered ones"`

// TestPatience goes through a first run, a run with the registry away that comes back, and one with a
// registry that is slow, but not too slow.
func TestPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "bindings.json")
		inner := newFake()

		w := start(t, inner, path, 5*time.Second, "trade")
		inner.pictures <- fanout("trade", "s-a")
		inner.pictures <- fanout("trade", "s-a", "s-b")
		synctest.Wait()
		time.Sleep(time.Minute) // the patience is over, and not needed any more
		w.end("0s trade/s-a, 0s trade/s-a/s-b")

		w = start(t, inner, path, 5*time.Second, "trade")
		time.Sleep(time.Minute)
		inner.pictures <- fanout("trade", "s-a", "s-b")
		synctest.Wait()
		time.Sleep(time.Minute)
		inner.pictures <- fanout("trade", "s-c")
		w.end("5s trade/s-a/s-b, 1m0s trade/s-a/s-b, 2m0s trade/s-c",
			warned, "age=1m5s", "topics_unknown=[]", `err="no session with anybody"`, `level=INFO msg="registry answers`)

		w = start(t, inner, path, 5*time.Second, "trade")
		time.Sleep(4999 * time.Millisecond)
		inner.pictures <- fanout("trade", "s-d")
		w.end("4.999s trade/s-d")

		w = start(t, inner, path, 0, "trade")
		w.end("0s trade/s-d", warned)
	})
}

func TestNothingRemembered(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		content string
		topic   string
		logged  []string
	}{
		"missing":     {"", "trade", []string{"level=WARN", "none are remembered"}},
		"damaged":     {"{}\n", "trade", []string{"level=WARN", "cannot be used", "crc32c"}},
		"empty":       {"\n", "trade", []string{"level=WARN", "cannot be used"}},
		"other topic": {"saved", "message", []string{"level=WARN", "none are remembered", "topics=[message]"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "bindings.json")
				var err error
				switch c.content {
				case "":
				case "saved":
					err = remembering(some()).save(path)
					if err == nil { // asked for something else than is in it
						m, _ := load(path)
						delete(m, c.topic)
						err = m.save(path)
					}
				default:
					err = os.WriteFile(path, []byte(c.content), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				inner := newFake()
				w := start(t, inner, path, time.Second, c.topic)
				time.Sleep(time.Minute)
				inner.pictures <- fanout(c.topic, "s-a")
				w.end("1m0s "+c.topic+"/s-a", c.logged...)
				// And what came is remembered now, whatever was there.
				w = start(t, inner, path, time.Second, c.topic)
				time.Sleep(2 * time.Second)
				w.end("1s "+c.topic+"/s-a", warned)
			})
		})
	}
}

// TestOtherTopics: a broker that serves other topics than in its last run begins with those it knows.
func TestOtherTopics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "bindings.json")
		if err := remembering(some()).save(path); err != nil {
			t.Fatal(err)
		}
		w := start(t, newFake(), path, time.Second, "new", "trade")
		time.Sleep(time.Minute)
		w.end("1s new trade/s-a/s-b", warned, "topics_unknown=[new]")
	})
}

// TestTwoWatches: what one of them keeps does not push out what the other one has.
func TestTwoWatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "bindings.json")
		inner := newFake()
		r := New(inner, path, time.Hour, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		for range 2 {
			work.Go(func() { _ = r.WatchBindings(ctx, []string{"x"}, func(registry.Bindings) {}) })
		}
		inner.pictures <- fanout("trade", "s-a")
		inner.pictures <- fanout("message", "s-b")
		synctest.Wait()
		cancel()
		work.Wait()
		w := start(t, inner, path, 0, "trade", "message")
		w.end("0s trade/s-a message/s-b", warned)
	})
}

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "bindings.json")
		if err := remembering(some()).save(path); err != nil {
			t.Fatal(err)
		}
		inner := newFake()
		w := start(t, inner, path, time.Second, "trade")
		close(inner.closed) // before the patience is over
		if err := <-w.ended; !errors.Is(err, kite.Unavailable) || len(w.seen) != 0 {
			t.Errorf("closed: the watch ended with %v after %q, want code %v at once", err, w.seen, kite.Unavailable)
		}
		w.stop()
		w = start(t, newFake(), path, time.Second, "trade")
		w.stop()
		if err := <-w.ended; err != nil || len(w.seen) != 0 {
			t.Errorf("the context ended: the watch ended with %v after %q, want nil", err, w.seen)
		}
	})
}

// TestReadOnlyDisk: what cannot be kept is passed on all the same, and said once.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		inner := newFake()
		w := start(t, inner, filepath.Join(file, "bindings.json"), time.Second, "trade") // below a file
		for _, g := range []string{"s-a", "s-b", "s-c"} {
			inner.pictures <- fanout("trade", g)
		}
		w.end("0s trade/s-a, 0s trade/s-b, 0s trade/s-c", "bindings are not remembered")
		if n := strings.Count(w.log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings, want 1:\n%s", n, &w.log)
		}
	})
}

func TestOtherCallsGoThrough(t *testing.T) {
	t.Parallel()
	r := New(newFake(), filepath.Join(t.TempDir(), "b"), 0, slog.New(slog.DiscardHandler))
	if err := r.Ready(); !errors.Is(err, errAway) {
		t.Errorf("Ready is %v, want that of the other registry", err)
	}
	if err := r.Announce(t.Context(), "10.0.0.1:1", []string{"a"}); err == nil || err.Error() != "announced 10.0.0.1:1 [a]" {
		t.Errorf("Announce: %v", err)
	}
}
