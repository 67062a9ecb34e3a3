package file_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry/file"
)

func TestAnnounceWarns(t *testing.T) {
	t.Parallel()
	b := setup(t, header+bindA)
	const part = "does not list this broker"
	announce := func(addr string, topics ...string) {
		t.Helper()
		if err := b.Announce(t.Context(), addr, topics); err != nil {
			t.Fatal(err)
		}
	}
	announce("10.0.0.1:13800", "message", "trade")
	if lines := b.log.warnings(part); len(lines) != 0 {
		t.Errorf("the file lists the broker, logged were %q", lines)
	}
	announce("10.0.0.1:13800", "message", "relation", "trade")
	if lines := b.log.warnings(part); len(lines) != 1 || !strings.Contains(lines[0], "topics=[relation]") || !strings.Contains(lines[0], b.path) {
		t.Errorf("relation is not in the file, logged were %q", lines)
	}
	announce("10.0.0.2:13800", "trade")
	lines := b.log.warnings(part)
	if len(lines) != 2 {
		t.Fatalf("logged were %q, want a second warning", lines)
	}
	// The hint is a line for the file.
	_, hint, _ := strings.Cut(lines[1], "below brokers: ")
	hint = strings.ReplaceAll(strings.TrimSpace(hint), `\"`, `'`)
	b.reload(strings.Replace(header, "bindings:", strings.TrimSuffix(hint, `"`)+"\nbindings:", 1) + bindA)
	if lines := b.log.warnings(part); len(lines) != 2 {
		t.Errorf("the hint was followed, logged were %q", lines)
	}
	b.reload(header + bindB)
	if lines := b.log.warnings(part); len(lines) != 3 {
		t.Errorf("the broker was removed from the file, logged were %q", lines)
	}
	if err := b.Withdraw(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.reload(header + bindA)
	if lines := b.log.warnings(part); len(lines) != 3 {
		t.Errorf("nothing is announced, logged were %q", lines)
	}
}

// TestBindNamesLines adds the lines that the error names, and then there is none.
func TestBindNamesLines(t *testing.T) {
	t.Parallel()
	b := setup(t, header+bindA)
	have := kite.Direct("s-a", "trade", "pay")
	if err := b.Bind(t.Context(), []kite.Binding{have}); err != nil {
		t.Fatalf("the file holds this binding: %v", err)
	}
	have.Version = ""
	if err := b.Bind(t.Context(), []kite.Binding{have}); err != nil {
		t.Fatalf("a version is not in a file: %v", err)
	}
	if err := b.Bind(t.Context(), nil); err != nil {
		t.Fatalf("nothing to bind: %v", err)
	}
	limited := kite.Regx("s-new", "message", `^\w+ "x"\.é$`)
	limited.Watermark, limited.Durable = 7, false
	want := []kite.Binding{kite.Fanout("s-new", "trade"), limited, kite.Direct("s-new", "trade", "pay: 'x' #\t")}
	err := b.Bind(t.Context(), want)
	if !errors.Is(err, file.ErrNotInFile) || !errors.Is(err, kite.Invalid) || !strings.Contains(err.Error(), b.path) {
		t.Fatalf("bind: %v, want %v and the path", err, file.ErrNotInFile)
	}
	_, lines, found := strings.Cut(err.Error(), "add below bindings:\n")
	if !found {
		t.Fatalf("the error names no lines to add: %v", err)
	}
	b.reload(strings.Replace(header, "bindings:\n", "bindings:\n"+lines+"\n", 1))
	if err := b.Bind(t.Context(), want); err != nil {
		t.Errorf("after the lines were added: %v", err)
	}
	// Fewer are to be bound than the file holds.
	err = b.Bind(t.Context(), want[:2])
	if !errors.Is(err, file.ErrNotInFile) || strings.Contains(err.Error(), "add below") || !strings.Contains(err.Error(), "remove:") || !strings.Contains(err.Error(), "pay: 'x'") {
		t.Errorf("bind less: %v, want what to remove", err)
	}
	if err := b.Unbind(t.Context(), "trade", "s-new"); !errors.Is(err, file.ErrNotInFile) || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("unbind: %v, want two lines to remove", err)
	}
	if err := b.Unbind(t.Context(), "relation", "s-new"); err != nil {
		t.Errorf("unbind what is not bound: %v", err)
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	b := setup(t, header+bindA)
	for name, err := range map[string]error{
		"create": b.CreateTopics(t.Context(), []string{"fine", "a/b"}),
		"host":   b.AddProducer(t.Context(), "trade", "p", "a/b"),
		"dots":   b.AddProducer(t.Context(), "trade", "p", ".."),
		"group":  b.AddProducer(t.Context(), "trade", "", "h"),
		"topic":  b.AddProducer(t.Context(), "", "p", "h"),
		"unbind": b.Unbind(t.Context(), "trade", "a/b"),
	} {
		if !errors.Is(err, kite.Invalid) {
			t.Errorf("%s: %v, want code %v", name, err, kite.Invalid)
		}
	}
	if err := errors.Join(b.CreateTopics(t.Context(), []string{"new"}), b.AddProducer(t.Context(), "new", "p", "web1")); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"CreateTopics": b.CreateTopics(ctx, []string{"a"}),
		"Bind":         b.Bind(ctx, []kite.Binding{kite.Direct("s-a", "trade", "pay")}),
		"Unbind":       b.Unbind(ctx, "a", "g"),
		"AddProducer":  b.AddProducer(ctx, "a", "g", "h"),
		"Reload":       b.Reload(ctx),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s after its context: %v, want %v", name, err, context.Canceled)
		}
	}
	if err := b.Ready(); err != nil {
		t.Errorf("Ready after Reload was given up: %v", err)
	}
}
