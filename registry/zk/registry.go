package zk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

// ErrClosed is what the methods return, wrapped or not, once Close was called or Run has returned.
var ErrClosed = &kite.Error{Code: kite.Unavailable, Err: errors.New("the registry is closed")}

// Registry is a session with ZooKeeper. Its methods wait until Run has one.
type Registry struct {
	o   Options
	log *slog.Logger
	hub hub

	// turn holds the one token of who may touch done: the znodes are changed by one at a time.
	turn chan struct{}
	done settled
	// unsettled wakes Run when a call left its wish unfulfilled.
	unsettled chan struct{}

	mu      sync.Mutex // guards the next four; no request of the library is made under it
	link    link
	reason  error // why there is no session
	running bool
	wish    *wish

	ended     chan struct{} // closed when Run has returned
	closing   chan struct{}
	closeOnce sync.Once
}

var (
	_ registry.Registry = (*Registry)(nil)
	_ registry.Peers    = (*Registry)(nil)
)

// Connect returns a Registry that connects as soon as Run runs. The error names every bad option.
func Connect(o Options, log *slog.Logger) (*Registry, error) {
	o = o.WithDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Registry{
		o:         o,
		log:       log.With("component", "registry"),
		turn:      make(chan struct{}, 1),
		done:      settled{wish: &wish{}, planted: map[string]bool{}, removed: map[string]time.Time{}},
		unsettled: make(chan struct{}, 1),
		link:      link{changed: make(chan struct{})},
		reason:    errors.New("not connected yet"),
		wish:      &wish{},
		ended:     make(chan struct{}),
		closing:   make(chan struct{}),
	}, nil
}

// Run keeps the session until ctx ends or Close is called; then it closes the session, with which the
// announced nodes vanish, and returns nil once its goroutines have ended. It may be called once.
func (r *Registry) Run(ctx context.Context) error {
	r.mu.Lock()
	again := r.running
	r.running = true
	r.mu.Unlock()
	if again {
		return kite.Errorf(kite.Internal, "the registry was run before: call Run once")
	}
	defer close(r.ended)
	defer r.shut()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	group.Go(func() error {
		select {
		case <-r.closing:
			cancel()
		case <-ctx.Done():
		}
		return nil
	})
	group.Go(func() error { r.supervise(ctx); return nil })
	group.Go(func() error { r.keepSettled(ctx); return nil })
	return group.Wait()
}

// Close implements registry.Registry. When Run runs, Close returns after it; a later Run returns at once.
func (r *Registry) Close() error {
	r.shut()
	r.mu.Lock()
	running := r.running
	r.mu.Unlock()
	if running {
		<-r.ended
	}
	return nil
}

func (r *Registry) shut() { r.closeOnce.Do(func() { close(r.closing) }) }

// Ready implements registry.Registry.
func (r *Registry) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.closing:
		return ErrClosed
	default:
	}
	if r.link.up {
		return nil
	}
	return kite.Errorf(kite.Unavailable, "no session with ZooKeeper at %s: %w", strings.Join(r.o.Hosts, ","), r.reason)
}

// CreateTopics implements registry.Registry.
func (r *Registry) CreateTopics(ctx context.Context, topics []string) error {
	topics, err := checkTopics(topics)
	if err != nil {
		return err
	}
	return r.onSession(ctx, "create topics", func(ctx context.Context, s *session) error {
		return s.ensureTopics(ctx, topics)
	})
}

// Bind implements registry.Registry. On a node that exists the data is replaced and SinceMs stays.
func (r *Registry) Bind(ctx context.Context, bindings []kite.Binding) error {
	byTopic := map[string][]kite.Binding{}
	for _, b := range bindings {
		if b.Group != bindings[0].Group {
			return kite.Errorf(kite.Invalid, "bind group %q: a binding is of group %q, bind each group by itself", bindings[0].Group, b.Group)
		}
		byTopic[b.Topic] = append(byTopic[b.Topic], b)
	}
	// Everything is encoded before the first node changes, so a bad binding changes nothing.
	data := map[string][]byte{}
	for topic, ofTopic := range byTopic {
		encoded, err := registry.EncodeBindings(ofTopic)
		if err != nil {
			return err
		}
		data[registry.BindingNode(topic, bindings[0].Group)] = encoded
	}
	return r.onSession(ctx, "bind", func(ctx context.Context, s *session) error {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(parallel)
		for path, bindings := range data {
			group.Go(func() error {
				if err := s.put(ctx, path, bindings); err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
				return nil
			})
		}
		return group.Wait()
	})
}

// Unbind implements registry.Registry.
func (r *Registry) Unbind(ctx context.Context, topic, group string) error {
	if err := errors.Join(kite.CheckTopic(topic), kite.CheckGroup(group)); err != nil {
		return err
	}
	path := registry.BindingNode(topic, group)
	return r.onSession(ctx, "unbind "+path, func(ctx context.Context, s *session) error {
		_, err := s.remove(ctx, path)
		return err
	})
}

// retryPause is waited, give or take a half, before work is tried on the connection that follows.
const retryPause = 50 * time.Millisecond

// onSession runs work on the session of now, and again whenever the connection is lost under it,
// until it is done, fails for a reason of its own, or ctx ends. Work must bear repetition.
func (r *Registry) onSession(ctx context.Context, op string, work func(context.Context, *session) error) error {
	var last error
	for {
		l, err := r.await(ctx)
		if err == nil {
			err = work(ctx, l.session)
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil && last != nil:
			return fmt.Errorf("%s: %w (before: %v)", op, err, last)
		case ctx.Err() != nil || !transient(err):
			return fmt.Errorf("%s: %w", op, explain(err))
		}
		last = err
		if err := r.pause(ctx, jitter(retryPause)); err != nil {
			return fmt.Errorf("%s: %w (before: %v)", op, err, last)
		}
	}
}

// await returns the link once it is up.
func (r *Registry) await(ctx context.Context) (link, error) {
	for {
		l := r.current()
		select {
		case <-r.closing:
			return link{}, ErrClosed
		default:
		}
		if l.up {
			return l, nil
		}
		select {
		case <-l.changed:
		case <-r.closing:
		case <-ctx.Done():
			if err := r.Ready(); err != nil {
				return link{}, fmt.Errorf("%w (%w)", err, ctx.Err())
			}
			return link{}, ctx.Err()
		}
	}
}

// pause waits for d, or returns early with the reason.
func (r *Registry) pause(ctx context.Context, d time.Duration) error {
	return r.pauseIn(ctx, nil, d)
}

// pauseIn waits for d, or returns early with the reason, which may be the end of the session.
func (r *Registry) pauseIn(ctx context.Context, s *session, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	var over chan struct{} // nil blocks
	if s != nil {
		over = s.over
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-over:
		return errOver
	case <-r.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// jitter returns d give or take a half, so that the sessions of a cluster do not move in step.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }
