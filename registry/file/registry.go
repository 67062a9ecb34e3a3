package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

// ErrClosed is what the methods return, wrapped or not, once Close was called or Run has returned.
var ErrClosed = &kite.Error{Code: kite.Unavailable, Err: errors.New("the registry is closed")}

// Registry is the picture that a file gives. Its methods work before Run, which only reads again.
type Registry struct {
	o   Options
	log *slog.Logger

	// turn holds the one token of who may read the file and touch last.
	turn chan struct{}
	last struct {
		data     []byte // of the picture that is shown
		lookedMs int64  // when the file was last known to hold it, Unix ms
	}

	mu        sync.Mutex // guards the next four; nothing is read, logged or called under it
	shown     shown
	failure   error // of the last reading
	running   bool
	announced announcement

	ended     chan struct{} // closed when Run has returned
	closing   chan struct{}
	closeOnce sync.Once
}

var _ registry.Registry = (*Registry)(nil)

// shown is a picture and the news of its replacement.
type shown struct {
	*picture
	replaced chan struct{} // closed when another one is shown
}

// Open reads the file. The error names every bad option, or file, line and what to change.
func Open(o Options, log *slog.Logger) (*Registry, error) {
	o = o.WithDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r := &Registry{
		o:       o,
		log:     log.With("component", "registry"),
		turn:    make(chan struct{}, 1),
		ended:   make(chan struct{}),
		closing: make(chan struct{}),
	}
	lookedMs := kite.UnixMs(time.Now())
	found, err := read(o.Path)
	if err != nil {
		return nil, err
	}
	if err := r.adopt(found, lookedMs); err != nil {
		return nil, err
	}
	return r, nil
}

// Run reads the file again every Options.ReloadEvery until ctx ends or Close is called, and returns nil.
// Afterwards the registry is closed. Run may be called once.
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
	// The same mistake is logged once, until the file was right again.
	complained := map[string]bool{}
	for r.pause(ctx, r.period()) == nil {
		err := r.look(ctx)
		switch {
		case err == nil:
			clear(complained)
		case ctx.Err() == nil && !errors.Is(err, ErrClosed) && !complained[err.Error()]:
			complained[err.Error()] = true
			r.log.Warn("registry file is not usable, going on with what it said before", "err", err)
		}
	}
	return nil
}

// period is ReloadEvery give or take a quarter, so that brokers that share a file do not read in step.
func (r *Registry) period() time.Duration {
	if r.o.ReloadEvery < 0 {
		return 0
	}
	return r.o.ReloadEvery*3/4 + rand.N(r.o.ReloadEvery/2)
}

// pause waits for d, without end when that is 0, or returns early with the reason.
func (r *Registry) pause(ctx context.Context, d time.Duration) error {
	var over <-chan time.Time // nil blocks
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
		return nil
	case <-r.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
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

// Ready implements registry.Registry. It also tells that the file was not usable at the last reading;
// then what it said before is still shown.
func (r *Registry) Ready() error {
	if err := r.open(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure != nil {
		return kite.Errorf(kite.Unavailable, "registry file is not usable, what it said before is in force: %w", r.failure)
	}
	return nil
}

func (r *Registry) open() error {
	select {
	case <-r.closing:
		return ErrClosed
	default:
		return nil
	}
}

// Reload reads the file now, as who has just written it asks for. When that fails, what the file said
// before stays in force, and the error names file, line and what to change.
func (r *Registry) Reload(ctx context.Context) error {
	return r.inTurn(ctx, func() error {
		lookedMs := kite.UnixMs(time.Now())
		found, err := read(r.o.Path)
		if err == nil {
			err = r.adopt(found, lookedMs)
		}
		return r.settle(err)
	})
}

const (
	// settling is how long a changed file must stay as it is before a look believes it.
	settling = 200 * time.Millisecond
	// maxSettling bounds how long a look waits for that.
	maxSettling = 10 * settling
)

// look reads the file when nobody has asked for it. It may then be half written, so a change counts only
// when two readings with a pause between them agree. An editor that replaces the file makes none of this
// necessary; not all do.
func (r *Registry) look(ctx context.Context) error {
	return r.inTurn(ctx, func() error {
		lookedMs := kite.UnixMs(time.Now())
		found, err := read(r.o.Path)
		for waited := time.Duration(0); err == nil && !bytes.Equal(found.data, r.last.data); waited += settling {
			if waited >= maxSettling {
				return r.settle(kite.Errorf(kite.Unavailable, "%s changes all the time: replace it by renaming a complete file", r.o.Path))
			}
			if err := r.pause(ctx, settling); err != nil {
				return err
			}
			before := found
			if found, err = read(r.o.Path); err == nil && bytes.Equal(found.data, before.data) {
				break
			}
		}
		if err == nil {
			err = r.adopt(found, lookedMs)
		}
		return r.settle(err)
	})
}

// inTurn does the work when nobody else reads.
func (r *Registry) inTurn(ctx context.Context, work func() error) error {
	if err := errors.Join(ctx.Err(), r.open()); err != nil {
		return err
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
		return work()
	case <-r.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle notes how a reading went.
func (r *Registry) settle(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = err
	return err
}

// adopt shows what was read at lookedMs. The caller has the turn.
func (r *Registry) adopt(found reading, lookedMs int64) error {
	before := r.current()
	if before.picture != nil && bytes.Equal(found.data, r.last.data) {
		r.last.lookedMs = lookedMs
		return nil
	}
	p, err := parse(r.o.Path, found.data)
	if err != nil {
		return err
	}
	p.inherit(before.picture, r.last.lookedMs)
	r.last.data, r.last.lookedMs = found.data, lookedMs
	r.mu.Lock()
	r.shown = shown{picture: p, replaced: make(chan struct{})}
	announced := r.announced
	r.mu.Unlock()
	if before.picture != nil {
		close(before.replaced)
	}
	r.tell(p, found.open)
	r.compare(announced, p)
	return nil
}

// tell logs what the new picture is.
func (r *Registry) tell(p *picture, open bool) {
	groups := 0
	for _, bound := range p.bindings {
		groups += len(bound)
	}
	r.log.Info("registry file read", "path", r.o.Path, "topics", len(p.brokers), "bound", groups)
	for _, note := range p.notes {
		r.log.Warn("registry file put right", "note", note)
	}
	if open {
		r.log.Warn("everybody may write the registry file, and say where messages go",
			"path", r.o.Path, "hint", fmt.Sprintf("chmod o-w %s", r.o.Path))
	}
}

func (r *Registry) current() shown {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shown
}
