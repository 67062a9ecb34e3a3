package file_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry/file"
	"github.com/kiteq/kiteq/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConformance runs the suite over sessions with an operator: what the registry refuses to publish,
// since the file is not its own, the operator writes into the file. So the suite's cases about what
// watches show hold for the file too; it has no link, no znodes and no gap.
func TestConformance(t *testing.T) {
	t.Parallel()
	registrytest.Run(t, func(t *testing.T) registrytest.Env {
		o := &operator{path: filepath.Join(t.TempDir(), "registry.yaml")}
		o.write(t)
		return registrytest.Env{
			Short:    time.Second,
			Long:     time.Minute,
			OwnSince: true,
			Open: func(t *testing.T, _ time.Duration) *registrytest.Session {
				return &registrytest.Session{Registry: o.open(t)}
			},
		}
	})
}

// operator keeps one file and the sessions that read it.
type operator struct {
	path string

	mu       sync.Mutex
	bindings []kite.Binding
	brokers  []broker
	sessions []*session
}

type broker struct {
	of     *session
	addr   string
	topics []string
}

// write writes the file, in the order in which things came: later ones first, so that nothing is sorted.
func (o *operator) write(t *testing.T) {
	t.Helper()
	var text strings.Builder
	text.WriteString("brokers:")
	if len(o.brokers) == 0 {
		text.WriteString(" []")
	}
	for _, b := range slices.Backward(o.brokers) {
		fmt.Fprintf(&text, "\n  - {address: %q, topics: [%s], env: dev}", b.addr, strings.Join(b.topics, ", "))
	}
	text.WriteString("\nbindings:")
	if len(o.bindings) == 0 {
		text.WriteString(" []")
	}
	for _, b := range o.bindings {
		fmt.Fprintf(&text, "\n  - {groupIds: [%q], topic: %s, messageType: %q, bindType: %s, watermark: %d, persistent: %t}",
			b.Group, b.Topic, b.MessageType, b.Type, b.Watermark, b.Durable)
	}
	if err := os.WriteFile(o.path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// edit changes the file and tells the sessions.
func (o *operator) edit(t *testing.T, change func()) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
	o.write(t)
	for _, s := range o.sessions {
		if err := s.Reload(context.WithoutCancel(t.Context())); err != nil && !errors.Is(err, file.ErrClosed) {
			t.Errorf("reload: %v", err)
		}
	}
}

func (o *operator) open(t *testing.T) *session {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	r, err := file.Open(file.Options{Path: o.path, ReloadEvery: -1}, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &session{Registry: r, t: t, operator: o}
	o.sessions = append(o.sessions, s)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(context.WithoutCancel(t.Context())) }()
	t.Cleanup(func() {
		if err := s.Registry.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return s
}

// session is a registry whose operator does what it asks for.
type session struct {
	*file.Registry
	t        *testing.T
	operator *operator
}

func (s *session) Bind(ctx context.Context, bindings []kite.Binding) error {
	err := s.Registry.Bind(ctx, bindings)
	if !errors.Is(err, file.ErrNotInFile) {
		return err
	}
	s.operator.edit(s.t, func() {
		s.operator.bindings = slices.DeleteFunc(s.operator.bindings, func(old kite.Binding) bool {
			return slices.ContainsFunc(bindings, func(b kite.Binding) bool { return b.Group == old.Group && b.Topic == old.Topic })
		})
		s.operator.bindings = append(s.operator.bindings, bindings...)
	})
	return s.Registry.Bind(ctx, bindings)
}

func (s *session) Unbind(ctx context.Context, topic, group string) error {
	err := s.Registry.Unbind(ctx, topic, group)
	if !errors.Is(err, file.ErrNotInFile) {
		return err
	}
	s.operator.edit(s.t, func() {
		s.operator.bindings = slices.DeleteFunc(s.operator.bindings, func(b kite.Binding) bool { return b.Group == group && b.Topic == topic })
	})
	return s.Registry.Unbind(ctx, topic, group)
}

func (s *session) Announce(ctx context.Context, addr string, topics []string) error {
	if err := s.Registry.Announce(ctx, addr, topics); err != nil {
		return err
	}
	s.list(&broker{s, addr, topics})
	return nil
}

func (s *session) Withdraw(ctx context.Context) error {
	if err := s.Registry.Withdraw(ctx); err != nil {
		return err
	}
	s.list(nil)
	return nil
}

func (s *session) Close() error {
	s.list(nil)
	return s.Registry.Close()
}

// list replaces the session's own broker in the file.
func (s *session) list(b *broker) {
	s.operator.edit(s.t, func() {
		s.operator.brokers = slices.DeleteFunc(s.operator.brokers, func(b broker) bool { return b.of == s })
		if b != nil {
			s.operator.brokers = append(s.operator.brokers, *b)
		}
	})
}

func logger(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
