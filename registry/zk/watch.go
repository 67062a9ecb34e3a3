package zk

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// A watch keeps a picture of some znodes. ZooKeeper's watches are one-shot, and one is set by reading,
// so the loop is: take the set of nodes that are said to have changed, read those again with a new
// watch, and report when the picture differs. A change between reading and the next event is not
// lost: the event comes after the reply, and it marks the node for the next turn. Any number of
// changes while one turn runs, or while the receiver is busy, become one more turn.
//
// What a turn reads depends on how things stand with the session:
//
//	new session         everything, with watches: the old ones are gone
//	resumed session     everything, without: they are still set, but a change may have been lost
//	otherwise           what is marked, with watches
//
// A turn that fails with the connection is repeated whole on the next one. Nothing is reported until
// a turn is complete, so the receiver never sees half a picture.

// hub tells the watches which nodes changed.
type hub struct {
	mu      sync.Mutex
	watches map[*marks]struct{}
}

// marks are the nodes that changed since they were last taken, below the server's root.
type marks struct {
	hub   *hub
	paths map[string]bool // guarded by hub.mu
	wake  chan struct{}
}

// mark runs on the library's goroutine with the library's lock held.
func (h *hub) mark(path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for m := range h.watches {
		m.paths[path] = true
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

func (h *hub) join() *marks {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watches == nil {
		h.watches = map[*marks]struct{}{}
	}
	m := &marks{hub: h, paths: map[string]bool{}, wake: make(chan struct{}, 1)}
	h.watches[m] = struct{}{}
	return m
}

func (m *marks) leave() {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	delete(m.hub.watches, m)
}

func (m *marks) take() map[string]bool {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	paths := m.paths
	m.paths = map[string]bool{}
	return paths
}

// giveBack marks again what a failed turn had taken.
func (m *marks) giveBack(paths map[string]bool) {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	for path := range paths {
		m.paths[path] = true
	}
}

// plan says what one turn reads.
type plan struct {
	all     bool            // a new session
	compare bool            // a resumed one
	marked  map[string]bool // full paths
	root    string
}

// reads tells whether the node is read, and whether a watch is set on it. A node is known when it was
// read in this session with a watch.
func (p plan) reads(path string, known bool) (read, watch bool) {
	watch = p.all || !known || p.marked[p.root+path]
	return watch || p.compare, watch
}

// picture is what one watch keeps.
type picture interface {
	// refresh carries out the plan. It may be repeated after an error.
	refresh(ctx context.Context, s *session, p plan) error
	// report hands the picture to the receiver when it differs from the one reported before.
	report()
}

// watch keeps the picture up to date until ctx ends.
func (r *Registry) watch(ctx context.Context, op string, p picture) error {
	m := r.hub.join()
	defer m.leave()
	var seen link
	for {
		l, err := r.await(ctx)
		if err == nil {
			marked := m.take()
			err = p.refresh(ctx, l.session, plan{
				all:     l.session != seen.session,
				compare: l.opened != seen.opened,
				marked:  marked,
				root:    l.session.root,
			})
			if err != nil {
				m.giveBack(marked)
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			seen = l
			p.report()
		case !transient(err):
			return fmt.Errorf("%s: %w", op, explain(err))
		default:
			if r.pause(ctx, jitter(retryPause)) != nil && ctx.Err() != nil {
				return nil
			}
			continue
		}
		select {
		case <-m.wake:
		case <-l.changed:
		case <-r.closing:
		case <-ctx.Done():
		}
	}
}

// listing keeps the children of some nodes.
type listing struct {
	nodes map[string]*listedNode // by path
}

type listedNode struct {
	listed
	known   bool // a watch is set
	changed bool // since the owner of the listing looked
}

func newListing(topics []string, node func(topic string) string) *listing {
	l := &listing{nodes: map[string]*listedNode{}}
	for _, topic := range topics {
		l.nodes[node(topic)] = &listedNode{}
	}
	return l
}

func (l *listing) refresh(ctx context.Context, s *session, p plan) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for path, node := range l.nodes {
		read, watch := p.reads(path, node.known)
		if !read {
			continue
		}
		group.Go(func() error {
			found, err := s.list(ctx, path, watch)
			if err == nil && !watch && found.exists != node.exists {
				// Which kind of watch is set depends on whether the node exists.
				found, err = s.list(ctx, path, true)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if found.exists != node.exists || !slices.Equal(found.children, node.children) {
				node.changed = true
			}
			node.listed = found
			node.known = node.known || watch
			return nil
		})
	}
	return group.Wait()
}
