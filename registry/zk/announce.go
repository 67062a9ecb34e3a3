package zk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

// announcement is what was asked to be visible, and how far that is done. Whoever holds the turn owns it.
//
// It states a wish, and settle makes the znodes agree with it, however often it is interrupted: the
// node that is already ours is kept, one that is another's is a leftover, and one that we made and no
// longer want is stale. So the same code serves the first announcement, a change of topics, the
// repetition after a lost connection and the one in a new session.
type announcement struct {
	addr   string // of the broker; "" when none is announced
	topics []string
	// producers are the paths of AddProducer.
	producers map[string]bool
	// stale are nodes that we may have made and that must go. Only our own are touched: the address
	// may belong to a successor by now.
	stale map[string]bool
	// removed says when nodes went away, so that their successors keep the distance.
	removed map[string]time.Time
	// session is where the wish was fulfilled; another one has to be told again.
	session *session
}

func (a *announcement) nodes() []string {
	if a.addr == "" {
		return nil
	}
	var paths []string
	for _, topic := range a.topics {
		paths = append(paths, registry.BrokerNode(topic, a.addr))
	}
	return append(paths, registry.AliveNode(a.addr)) // last: it tells operators that the rest is done
}

// want replaces the announced broker; addr "" announces none.
func (a *announcement) want(addr string, topics []string) {
	if a.stale == nil {
		a.stale = map[string]bool{}
	}
	for _, path := range a.nodes() {
		a.stale[path] = true
	}
	a.addr, a.topics, a.session = addr, topics, nil
	for _, path := range a.nodes() {
		delete(a.stale, path)
	}
}

// Announce implements registry.Registry. When it fails the announcement may be there in part. The wish
// stands: it is completed when the connection comes back, unless Announce or Withdraw is called before.
func (r *Registry) Announce(ctx context.Context, addr string, topics []string) error {
	if err := checkAddr(addr); err != nil {
		return err
	}
	topics, err := checkTopics(topics)
	if err != nil {
		return err
	}
	return r.publish(ctx, "announce "+addr, func(a *announcement) { a.want(addr, topics) })
}

// Withdraw implements registry.Registry. Even when it fails nothing is announced again; the nodes that
// are left go when the connection comes back or the session ends.
func (r *Registry) Withdraw(ctx context.Context) error {
	return r.publish(ctx, "withdraw", func(a *announcement) { a.want("", nil) })
}

// AddProducer implements registry.Registry. Processes on one host that publish for the same group
// share the node: the last to call has it.
func (r *Registry) AddProducer(ctx context.Context, topic, group, host string) error {
	if err := errors.Join(kite.CheckTopic(topic), kite.CheckGroup(group), checkName("host", host)); err != nil {
		return err
	}
	path := registry.ProducerNode(topic, group, host)
	return r.publish(ctx, "add producer "+path, func(a *announcement) {
		if a.producers == nil {
			a.producers = map[string]bool{}
		}
		a.producers[path], a.session = true, nil
	})
}

// publish changes the wish and makes the znodes agree with it.
func (r *Registry) publish(ctx context.Context, op string, change func(*announcement)) error {
	if err := r.takeTurn(ctx); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	defer func() { <-r.turn }()
	change(&r.said)
	return r.settle(ctx, op)
}

func (r *Registry) takeTurn(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-r.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reannouncePause is waited after an announcement was refused by the server, give or take a half.
const reannouncePause = 5 * time.Second

// reannounce tells every new session what was announced before.
func (r *Registry) reannounce(ctx context.Context) {
	for {
		l := r.current()
		if l.up {
			if err := r.repeat(ctx, l.session); err != nil && ctx.Err() == nil {
				r.log.Error("announcing again is refused, clients do not find this broker", "err", err)
				if r.pause(ctx, jitter(reannouncePause)) != nil {
					return
				}
				continue
			}
		}
		select {
		case <-l.changed:
		case <-ctx.Done():
			return
		}
	}
}

func (r *Registry) repeat(ctx context.Context, s *session) error {
	if err := r.takeTurn(ctx); err != nil {
		return err
	}
	defer func() { <-r.turn }()
	if a := &r.said; a.session == s || a.addr == "" && len(a.producers) == 0 && len(a.stale) == 0 {
		return nil
	}
	return r.settle(ctx, "announce again")
}

// maxTaken is how often somebody else may take a node from us before we name the conflict.
const maxTaken = 3

// settle makes the znodes agree with the wish. The caller holds the turn.
func (r *Registry) settle(ctx context.Context, op string) error {
	a, taken := &r.said, 0
	return r.onSession(ctx, op, func(ctx context.Context, s *session) error {
		for {
			err := r.settleOnce(ctx, s, a)
			if err == nil {
				a.session = s
				return nil
			}
			if !errors.Is(err, errTaken) {
				return err
			}
			if taken++; taken == maxTaken {
				return kite.Errorf(kite.Invalid, "another process keeps making it: give every broker its own address: %w", err)
			}
		}
	})
}

func (r *Registry) settleOnce(ctx context.Context, s *session, a *announcement) error {
	if err := removeStale(ctx, s, a); err != nil {
		return err
	}
	if err := plantProducers(ctx, s, a); err != nil || a.addr == "" {
		return err
	}
	if err := s.ensureTopics(ctx, a.topics); err != nil {
		return err
	}
	if err := s.ensure(ctx, registry.KnownNode(a.addr)); err != nil {
		return err
	}
	missing, err := r.clear(ctx, s, a)
	if err != nil {
		return err
	}
	if err := r.keepDistance(ctx, s, a, missing); err != nil {
		return err
	}
	for i, path := range missing {
		if i > 0 {
			if err := r.pauseIn(ctx, s, r.o.Spacing); err != nil {
				return err
			}
		}
		if err := s.plant(ctx, path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// removeStale deletes what we made and no longer want.
func removeStale(ctx context.Context, s *session, a *announcement) error {
	for _, path := range sorted(a.stale) {
		owner, found, err := s.owner(ctx, path)
		if err == nil && found && owner == s.id {
			if _, err = s.remove(ctx, path); err == nil {
				a.noteRemoved(path)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		delete(a.stale, path)
	}
	return nil
}

func plantProducers(ctx context.Context, s *session, a *announcement) error {
	for _, path := range sorted(a.producers) {
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
func (r *Registry) clear(ctx context.Context, s *session, a *announcement) (missing []string, err error) {
	for _, path := range a.nodes() {
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
		a.noteRemoved(path)
	}
	return missing, nil
}

func (a *announcement) noteRemoved(path string) {
	if a.removed == nil {
		a.removed = map[string]time.Time{}
	}
	a.removed[path] = time.Now()
}

// keepDistance waits until the gap since the removal of each node is over, so that clients see the
// removal before the creation.
func (r *Registry) keepDistance(ctx context.Context, s *session, a *announcement, missing []string) error {
	maps.DeleteFunc(a.removed, func(_ string, at time.Time) bool { return time.Since(at) >= r.o.GapOnLeftover })
	var wait time.Duration
	for _, path := range missing {
		if at, ok := a.removed[path]; ok {
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
