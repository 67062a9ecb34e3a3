package remember

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/kiteq/kiteq/registry"
)

// Registry is another registry, whose bindings it remembers. Everything but WatchBindings is that of the
// other one: Ready tells that it is away while the remembered bindings are in force, and Announce waits
// for it. Whoever runs the other registry goes on running it.
type Registry struct {
	registry.Registry
	path     string
	patience time.Duration
	log      *slog.Logger

	mu     sync.Mutex // guards the next two and the writing of the file
	seen   memory     // by this process
	failed bool       // the last writing
}

var _ registry.Registry = (*Registry)(nil)

// New returns inner with a memory in the file at path, whose directory is made when it is missing.
// Patience is how long a watch waits for inner's first picture before it begins with the remembered one;
// 0 or less is not at all.
func New(inner registry.Registry, path string, patience time.Duration, log *slog.Logger) *Registry {
	return &Registry{Registry: inner, path: path, patience: patience, log: log.With("component", "registry"), seen: memory{}}
}

// WatchBindings implements registry.Registry. When inner gives no picture in time, and at least one of the
// topics is remembered, the first picture is the remembered one, without groups for the other topics. From
// then on inner's pictures come as they do without us. One is passed on first and written then, so what
// a crash leaves in the file may be the picture before.
func (r *Registry) WatchBindings(ctx context.Context, topics []string, changed func(registry.Bindings)) error {
	ctx, cancel := context.WithCancel(ctx)
	pictures, ended := make(chan registry.Bindings), make(chan error, 1)
	go func() {
		ended <- r.Registry.WatchBindings(ctx, topics, func(p registry.Bindings) {
			select {
			case pictures <- p:
			case <-ctx.Done():
			}
		})
	}()
	finished := false
	defer func() {
		cancel()
		if !finished {
			<-ended // changed panicked: inner's goroutine must not outlive us
		}
	}()
	timer := time.NewTimer(max(r.patience, 0))
	defer timer.Stop()
	began := false // with the remembered picture
	for {
		select {
		case p := <-pictures:
			timer.Stop()
			if began {
				began = false
				r.log.Info("registry answers, its bindings replace the remembered ones")
			}
			changed(p)
			r.keep(p)
		case <-timer.C:
			if ctx.Err() != nil {
				continue // inner is about to end
			}
			var p registry.Bindings
			if p, began = r.recall(topics); began {
				changed(p)
			}
		case err := <-ended:
			finished = true
			return err
		}
	}
}

// recall returns what is remembered of the topics, or false when there is nothing.
func (r *Registry) recall(topics []string) (registry.Bindings, bool) {
	log := r.log.With("path", r.path, "patience", r.patience)
	if why := r.Ready(); why != nil {
		log = log.With("err", why)
	}
	r.mu.Lock()
	m, err := load(r.path)
	r.mu.Unlock()
	if err != nil {
		log.Warn("registry gave no bindings in time, and the remembered ones cannot be used: waiting for it", "damage", err)
		return nil, false
	}
	p, oldest, unknown := m.picture(topics)
	if oldest.IsZero() {
		log.Warn("registry gave no bindings in time, and none are remembered: waiting for it", "topics", topics)
		return nil, false
	}
	log.Warn("registry gave no bindings in time, beginning with the remembered ones",
		"age", time.Since(oldest).Round(time.Second), "topics_unknown", unknown)
	return p, true
}

// keep writes the picture. A disk that refuses costs the memory and not the watch: it is logged when it
// begins, and the next picture tries again.
func (r *Registry) keep(p registry.Bindings) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.note(p, time.Now())
	err := r.seen.save(r.path)
	if err != nil && !r.failed {
		r.log.Warn("bindings are not remembered, a start without the registry will not know them", "path", r.path, "err", err)
	}
	r.failed = err != nil
}
