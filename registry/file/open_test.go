package file_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/registry/file"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"file://conf/registry.yaml":     "conf/registry.yaml",
		"file:///etc/kiteq/r.yaml":      "/etc/kiteq/r.yaml",
		"file://./a b%20c?d=e#f":        "./a b%20c?d=e#f", // everything after the scheme, as it is
		" file://../r.yaml\n":           "../r.yaml",
		"file://C:/kiteq/registry.yaml": "C:/kiteq/registry.yaml",
	} {
		o, err := file.ParseURL(text)
		if err != nil || o != (file.Options{Path: want}) {
			t.Errorf("%q gives %+v, error %v; want path %q", text, o, err, want)
		}
	}
	for text, part := range map[string]string{
		"": "does not begin", "file:/r.yaml": "does not begin", "zk://h:1": "does not begin", "FILE://x": "does not begin",
		"file://": "no path", "file://a\x00b": "zero byte",
	} {
		if _, err := file.ParseURL(text); !errors.Is(err, kite.Invalid) || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), file.Form) {
			t.Errorf("%q: error %v, want code %v, %q and the form", text, err, kite.Invalid, part)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if o := (file.Options{Path: "x"}).WithDefaults(); o.ReloadEvery != time.Minute || o.Validate() != nil {
		t.Errorf("defaults are %+v, %v", o, o.Validate())
	}
	err := file.Options{ReloadEvery: time.Millisecond}.Validate()
	for _, part := range []string{"no path", "reload every 1ms"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in the error: %v", part, err)
		}
	}
	if err := (file.Options{Path: "x", ReloadEvery: -1}).Validate(); err != nil {
		t.Errorf("reading again switched off: %v", err)
	}
	if _, err := file.Open(file.Options{}, logger(t)); !errors.Is(err, kite.Invalid) {
		t.Errorf("no path: %v, want code %v", err, kite.Invalid)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	large, err := os.Create(path("large"))
	if err == nil {
		err = errors.Join(large.Truncate(file.MaxSize+1), large.Close())
	}
	if err := errors.Join(err,
		os.Mkdir(path("directory"), 0o700),
		os.Symlink(path("nowhere"), path("dangling")),
		os.WriteFile(path("secret"), []byte("brokers: []\nbindings: []\n"), 0),
		os.WriteFile(path("broken"), []byte("brokers: []\nbindings: []\nx: 1\n"), 0o600),
		os.WriteFile(path("empty"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		code  kite.Code
		parts []string
	}{
		"missing":   {kite.Invalid, []string{"no such file", "create it"}},
		"dangling":  {kite.Invalid, []string{"no such file"}},
		"directory": {kite.Invalid, []string{"is no plain file (d"}},
		"large":     {kite.TooLarge, []string{"larger than 16 MiB"}},
		"broken":    {kite.Invalid, []string{path("broken") + ":3: ", `"x"`, "use brokers, bindings"}},
		"empty":     {kite.Invalid, []string{"the file is empty"}},
		"secret":    {kite.Invalid, []string{"permission denied", "let user"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "secret" && os.Getuid() == 0 {
				t.Skip("root may read every file")
			}
			_, err := file.Open(file.Options{Path: path(name)}, logger(t))
			for _, part := range append(c.parts, path(name)) {
				if !errors.Is(err, c.code) || !strings.Contains(err.Error(), part) {
					t.Errorf("error %v, want code %v and %q", err, c.code, part)
				}
			}
		})
	}
}

func TestOpenWarns(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "r.yaml")
	text := "bindings: []\nbrokers:\n- {address: 'h:1', topics: [a]}\n- {address: 'h:1', topics: [b]}\n"
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	log := &journal{}
	if _, err := file.Open(file.Options{Path: path}, log.logger()); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"chmod o-w", "broker h:1 is listed at lines 3, 4"} {
		if lines := log.warnings(part); len(lines) != 1 {
			t.Errorf("%d warnings with %q, want 1", len(lines), part)
		}
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	b := setup(t, header+bindA)
	defer b.run()()
	watched := make(chan error, 2)
	first := make(chan struct{}, 2)
	go func() {
		watched <- b.WatchBindings(t.Context(), []string{"trade"}, func(registry.Bindings) { first <- struct{}{} })
	}()
	go func() {
		watched <- b.WatchBrokers(t.Context(), []string{"trade"}, func(registry.Brokers) { first <- struct{}{} })
	}()
	<-first
	<-first
	if err := errors.Join(b.Ready(), b.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"Ready": b.Ready(), "Reload": b.Reload(t.Context()), "watch": <-watched, "other watch": <-watched,
		"CreateTopics": b.CreateTopics(t.Context(), []string{"a"}), "Announce": b.Announce(t.Context(), "10.0.0.1:1", []string{"a"}),
		"Withdraw": b.Withdraw(t.Context()), "Bind": b.Bind(t.Context(), nil), "Unbind": b.Unbind(t.Context(), "a", "g"),
		"AddProducer": b.AddProducer(t.Context(), "a", "g", "h"),
	} {
		if !errors.Is(err, file.ErrClosed) || !errors.Is(err, kite.Unavailable) {
			t.Errorf("%s after Close: %v, want %v", name, err, file.ErrClosed)
		}
	}
}

func TestRunOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, header+bindA)
		stop := b.run()
		synctest.Wait() // Run runs
		if err := b.Run(t.Context()); !errors.Is(err, kite.Internal) {
			t.Errorf("a second Run: %v, want code %v", err, kite.Internal)
		}
		stop()
		if err := b.Ready(); !errors.Is(err, file.ErrClosed) {
			t.Errorf("Ready after Run: %v, want %v", err, file.ErrClosed)
		}
		unrun := setup(t, header+bindA)
		if err := errors.Join(unrun.Close(), unrun.Run(t.Context())); err != nil {
			t.Errorf("Run after Close: %v", err)
		}
	})
}

// TestTogether lets everything run at once, for the race detector.
func TestTogether(t *testing.T) {
	t.Parallel()
	b := setup(t, header+bindA)
	defer b.run()()
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for range 20 {
				if err := errors.Join(b.Reload(t.Context()), b.Announce(t.Context(), "10.0.0.9:1", []string{"trade"}), b.Ready(), b.Withdraw(t.Context())); err != nil {
					t.Error(err)
				}
				if got := b.bound("trade"); got != "s-a" && got != "s-a s-b" {
					t.Errorf("bound are %q", got)
				}
			}
		})
	}
	for i := range 20 {
		b.write(header + bindA + []string{bindB, ""}[i%2])
	}
	work.Wait()
}
