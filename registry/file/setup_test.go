package file_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/registry/file"
)

const header = "brokers:\n- {address: '10.0.0.1:13800', topics: [trade, message]}\nbindings:\n"

// bundle is one file, the registry that reads it, and what that logs.
type bundle struct {
	*file.Registry
	t    *testing.T
	path string
	log  *journal
}

func setup(t *testing.T, text string) *bundle {
	t.Helper()
	b := &bundle{t: t, path: filepath.Join(t.TempDir(), "registry.yaml"), log: &journal{}}
	b.write(text)
	r, err := file.Open(file.Options{Path: b.path}, b.log.logger())
	if err != nil {
		t.Fatal(err)
	}
	b.Registry = r
	t.Cleanup(func() { _ = r.Close() })
	return b
}

// run runs the registry until the returned function is called.
func (b *bundle) run() (stop func()) {
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("run: %v", err)
		}
	}
}

// write replaces the file as a careful editor does.
func (b *bundle) write(text string) {
	b.t.Helper()
	next := b.path + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(next, b.path); err != nil {
		b.t.Fatal(err)
	}
}

// reload writes the file and has it read.
func (b *bundle) reload(text string) {
	b.t.Helper()
	b.write(text)
	if err := b.Reload(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// bindings returns what a fresh watch shows first.
func (b *bundle) bindings(topics ...string) (first registry.Bindings) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	if err := b.WatchBindings(ctx, topics, func(seen registry.Bindings) { first = seen; cancel() }); err != nil {
		b.t.Fatal(err)
	}
	return first
}

// bound returns "group group" of the topic.
func (b *bundle) bound(topic string) string { return groups(b.bindings(topic), topic) }

func groups(b registry.Bindings, topic string) string {
	var names []string
	for _, g := range b[topic] {
		names = append(names, g.Group)
	}
	return strings.Join(names, " ")
}

// journal keeps what is logged.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// warnings returns the lines of that level that contain the part.
func (j *journal) warnings(part string) (lines []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.text.String()) {
		if strings.Contains(line, "level=WARN") && strings.Contains(line, part) {
			lines = append(lines, line)
		}
	}
	return lines
}
