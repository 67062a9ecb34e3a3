package zk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

// A wish is what was asked to be visible; settle makes the znodes agree with it, however often it is
// interrupted: the node that is already ours is kept, one that is another's is a leftover, and one that
// we made and no longer want is stale. So the same code serves the first announcement, a change of
// topics, the repetition after a lost connection and the one in a new session.
//
// A wish is never changed, but replaced, at once and under Registry.mu, also by a call whose time is
// already over. Settling takes long and waits for the connection, so it is done by whoever holds the
// turn, for the newest wish there is.
type wish struct {
	addr      string // of the broker; "" when none is announced
	peer      string // id of Join; "" without
	topics    []string
	producers map[string]bool // paths of AddProducer
}

// nodes are the broker's ephemeral nodes, those of the topics in a random order. With many topics they are made
// soon after each other; but a client follows few of them, often with names that are neighbours, and hears of one
// in a while.
func (w *wish) nodes() []string {
	var paths []string
	if w.peer != "" {
		paths = append(paths, registry.PeerNode(w.peer))
	}
	if w.addr == "" {
		return paths
	}
	for _, i := range rand.Perm(len(w.topics)) {
		paths = append(paths, registry.BrokerNode(w.topics[i], w.addr))
	}
	return append(paths, registry.AliveNode(w.addr)) // last: it tells operators that the rest is done
}

// settled is how far the wish is fulfilled. Whoever holds the turn owns it.
type settled struct {
	wish    *wish    // the one that was fulfilled last
	session *session // in which; another one has to be told again
	// planted are the broker's nodes that we may have made and not removed.
	planted map[string]bool
	// removed says when nodes went away, so that their successors keep the distance.
	removed map[string]time.Time
}

// Announce implements registry.Registry. When it fails the announcement may be there in part. The wish
// stands: Run goes on with it, unless Announce or Withdraw is called.
func (r *Registry) Announce(ctx context.Context, addr string, topics []string) error {
	if err := checkAddr(addr); err != nil {
		return err
	}
	topics, err := checkTopics(topics)
	if err != nil {
		return err
	}
	return r.publish(ctx, "announce "+addr, func(w *wish) { w.addr, w.topics = addr, topics })
}

// Withdraw implements registry.Registry. Even when it fails nothing is announced again, and Run goes on
// with the nodes that are left.
func (r *Registry) Withdraw(ctx context.Context) error {
	return r.publish(ctx, "withdraw", func(w *wish) { w.addr, w.topics = "", nil })
}

// Join implements registry.Peers.
func (r *Registry) Join(ctx context.Context, id string) error {
	if err := checkName("broker id", id); err != nil {
		return err
	}
	return r.publish(ctx, "join as "+id, func(w *wish) { w.peer = id })
}

// AddProducer implements registry.Registry. Processes on one host that publish for the same group
// share the node: the last to call has it.
func (r *Registry) AddProducer(ctx context.Context, topic, group, host string) error {
	if err := errors.Join(kite.CheckTopic(topic), kite.CheckGroup(group), checkName("host", host)); err != nil {
		return err
	}
	path := registry.ProducerNode(topic, group, host)
	return r.publish(ctx, "add producer "+path, func(w *wish) {
		w.producers = maps.Clone(w.producers)
		if w.producers == nil {
			w.producers = map[string]bool{}
		}
		w.producers[path] = true
	})
}

// publish changes the wish and makes the znodes agree with it. When ctx ends before, Run takes over.
func (r *Registry) publish(ctx context.Context, op string, change func(*wish)) error {
	r.mu.Lock()
	next := *r.wish
	change(&next)
	r.wish = &next
	r.mu.Unlock()
	err := r.settle(ctx, op)
	if err != nil {
		select {
		case r.unsettled <- struct{}{}:
		default:
		}
	}
	return err
}

func (r *Registry) wanted() *wish {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wish
}

// settlePause is waited after the server refused to fulfil the wish, give or take a half.
const settlePause = 5 * time.Second

// keepSettled tells every new session what was announced before, and finishes what a call could not.
func (r *Registry) keepSettled(ctx context.Context) {
	for {
		l := r.current()
		if l.up {
			if err := r.settle(ctx, "announce again"); err != nil && ctx.Err() == nil {
				r.log.Error("announcing is refused, clients may not find this broker", "err", err)
				if r.pause(ctx, jitter(settlePause)) != nil {
					return
				}
				continue
			}
		}
		select {
		case <-l.changed:
		case <-r.unsettled:
		case <-ctx.Done():
			return
		}
	}
}

// maxTaken is how often somebody else may take a node from us before we name the conflict.
const maxTaken = 3

// settle takes the turn and makes the znodes of the session agree with the newest wish.
func (r *Registry) settle(ctx context.Context, op string) error {
	select {
	case r.turn <- struct{}{}:
	case <-r.closing:
		return fmt.Errorf("%s: %w", op, ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", op, ctx.Err())
	}
	defer func() { <-r.turn }()
	taken := 0
	return r.onSession(ctx, op, func(ctx context.Context, s *session) error {
		for {
			w := r.wanted()
			if r.done.session == s && r.done.wish == w {
				return nil
			}
			err := r.fulfil(ctx, s, w)
			switch {
			case err == nil:
				r.done.session, r.done.wish = s, w
			case !errors.Is(err, errTaken):
				return err
			default:
				if taken++; taken == maxTaken {
					return kite.Errorf(kite.Invalid, "another process keeps making it: give every broker its own address: %w", err)
				}
			}
		}
	})
}

// fulfil makes the znodes agree with the wish. It may be repeated after an error.
func (r *Registry) fulfil(ctx context.Context, s *session, w *wish) error {
	if err := r.removeStale(ctx, s, w); err != nil {
		return err
	}
	if err := plantProducers(ctx, s, w); err != nil {
		return err
	}
	if err := s.ensureAbove(ctx, w); err != nil {
		return err
	}
	missing, err := r.clear(ctx, s, w)
	if err != nil {
		return err
	}
	if err := r.keepDistance(ctx, s, missing); err != nil {
		return err
	}
	spacing := r.o.spacing(len(missing))
	next := time.Now()
	for _, path := range missing {
		if err := r.pauseIn(ctx, s, time.Until(next)); err != nil {
			return err
		}
		next = time.Now().Add(spacing)
		r.done.planted[path] = true // before: the answer may get lost
		if err := s.plant(ctx, path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// ensureAbove makes the persistent nodes that the wish's ephemeral ones need.
func (s *session) ensureAbove(ctx context.Context, w *wish) error {
	if w.peer != "" {
		if err := s.ensure(ctx, registry.PeersDir); err != nil {
			return err
		}
	}
	if w.addr == "" {
		return nil
	}
	if err := s.ensureTopics(ctx, w.topics); err != nil {
		return err
	}
	return s.ensure(ctx, registry.KnownNode(w.addr))
}

// mostSpread bounds the pauses between all nodes of an announcement together: a broker of a thousand topics
// would else start for 20 s.
const mostSpread = 5 * time.Second

// spacing returns the pause between two of n nodes.
func (o Options) spacing(n int) time.Duration {
	return min(o.Spacing, mostSpread/time.Duration(max(n, 1)))
}

// removeStale deletes what we made and no longer want. Nodes of others stay: the address may belong
// to a successor by now.
func (r *Registry) removeStale(ctx context.Context, s *session, w *wish) error {
	keep := w.nodes()
	for _, path := range sorted(r.done.planted) {
		if slices.Contains(keep, path) {
			continue
		}
		owner, found, err := s.owner(ctx, path)
		if err == nil && found && owner == s.id {
			_, err = s.remove(ctx, path)
			r.done.removed[path] = time.Now()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		delete(r.done.planted, path)
	}
	return nil
}

func plantProducers(ctx context.Context, s *session, w *wish) error {
	for _, path := range sorted(w.producers) {
		owner, found, err := s.owner(ctx, path)
		if err == nil && found && owner != s.id {
			_, err = s.remove(ctx, path)
		}
		if err == nil {
			above := registry.Ancestors(path)
			err = s.ensure(ctx, above[len(above)-1])
		}
		if err == nil {
			err = s.plant(ctx, path)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// clear removes leftovers and returns the nodes that have to be made. A node of another session is
// never adopted, be it that of our own past: it would vanish with that session.
func (r *Registry) clear(ctx context.Context, s *session, w *wish) (missing []string, err error) {
	for _, path := range w.nodes() {
		owner, found, err := s.owner(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if found && owner == s.id {
			continue
		}
		missing = append(missing, path)
		if !found {
			continue
		}
		r.log.Info("leftover of an earlier session removed", "path", path, "session", fmt.Sprintf("%#x", owner))
		if _, err := s.remove(ctx, path); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		r.done.removed[path] = time.Now()
	}
	return missing, nil
}

// keepDistance waits until the gap since the removal of each node is over, so that clients see the
// removal before the creation.
func (r *Registry) keepDistance(ctx context.Context, s *session, missing []string) error {
	maps.DeleteFunc(r.done.removed, func(_ string, at time.Time) bool { return time.Since(at) >= r.o.GapOnLeftover })
	var wait time.Duration
	for _, path := range missing {
		if at, ok := r.done.removed[path]; ok {
			wait = max(wait, r.o.GapOnLeftover-time.Since(at))
		}
	}
	return r.pauseIn(ctx, s, wait)
}

// checkAddr admits what every existing client can dial and what its tables are keyed by.
func checkAddr(addr string) error {
	at, err := netip.ParseAddrPort(addr)
	if err != nil || !at.Addr().Is4() || at.Addr().IsUnspecified() || at.Port() == 0 {
		return kite.Errorf(kite.Invalid, "announced address %q: use a numeric IPv4 ip:port that clients reach, like 10.0.0.1:13800", addr)
	}
	return nil
}

// checkTopics returns the topics sorted, each once, or the error of every bad one.
func checkTopics(topics []string) ([]string, error) {
	var bad []error
	for _, topic := range topics {
		bad = append(bad, kite.CheckTopic(topic))
	}
	return slices.Compact(slices.Sorted(slices.Values(topics))), errors.Join(bad...)
}

// checkName admits what can be one part of a path.
func checkName(what, name string) error {
	if err := kite.CheckGroup(name); err != nil || name == "." || name == ".." {
		return kite.Errorf(kite.Invalid, "%s %q: 1 to %d bytes without '/' and control characters are allowed", what, name, kite.MaxName)
	}
	return nil
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
