package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// reloaded is the answer to Reload.
type reloaded struct {
	topics []string
	err    error
}

// Reload reads the configuration again, serves the topics that it names, by the rules and with the certificates
// that lie there now, and takes over what else can be changed while the broker runs; the log names every change,
// and what needs a restart. It returns the topics that are served now. After an error all is as it was, but for
// rules that clients are held to already.
func (s *Server) Reload(ctx context.Context) ([]string, error) {
	if s.control.Reload == nil {
		return nil, kite.Errorf(kite.Unavailable, "this broker was not started from a configuration that can be read again")
	}
	answer := make(chan reloaded, 1)
	select {
	case s.reloads <- answer:
	case <-s.closing:
		return nil, kite.Errorf(kite.Unavailable, "the broker is stopping")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case r := <-answer:
		return r.topics, r.err
	case <-ctx.Done(): // it is done all the same
		return nil, ctx.Err()
	}
}

// reload runs in the goroutine of Run, which owns the crew.
func (s *Server) reload(ctx context.Context, crew *crew) reloaded {
	c, err := s.control.Reload()
	if s.certificates != nil && err == nil {
		_, err = s.certificates.Reload()
	}
	if again, ok := s.registry.(interface{ Reload(context.Context) error }); ok && err == nil {
		err = again.Reload(ctx) // a registry file is read with the configuration
	}
	if err != nil {
		return reloaded{err: fmt.Errorf("all stays as it is: %w", err)}
	}
	if err := s.changeRules(ctx, crew, c); err != nil {
		return reloaded{err: fmt.Errorf("the new rules are in force for clients, and not yet for bindings: %w", err)}
	}
	old, wanted := *s.topics.Load(), c.Topics
	added, removed := without(wanted, old), without(old, wanted)
	if len(added)+len(removed) == 0 {
		s.adopt(&c)
		s.reloadGuests(ctx)
		return reloaded{topics: old}
	}
	if s.drained.Load() != nil { // a change of topics announces them
		return reloaded{err: kite.Errorf(kite.Unavailable, "the topics stay as they are: the broker drains")}
	}
	if len(removed) > 0 {
		s.warnUndelivered(ctx, removed)
	}
	if err := s.changeTopics(ctx, crew, wanted, added, removed); err != nil {
		err = s.registryError(err)
		if ctx.Err() == nil {
			s.restoreTopics(ctx, crew, old)
		}
		return reloaded{err: fmt.Errorf("all stays as it is: %w", err)}
	}
	s.adopt(&c)
	s.log.Info("topics changed", "added", added, "removed", removed, "topics", wanted)
	s.reloadGuests(ctx)
	return reloaded{topics: wanted}
}

// reloadGuests has the brokers that run in this one do the same.
func (s *Server) reloadGuests(ctx context.Context) {
	s.guests.Range(func(guest, held any) bool {
		if _, err := guest.(*Server).Reload(ctx); err != nil {
			s.log.Warn("the configuration of a hosted journal stays as it is", "journal", held.(store.Held).Journal, "err", err)
		}
		return true
	})
}

// adopt takes over from c what can be changed while the broker runs, topics aside, and says what has changed.
func (s *Server) adopt(c *conf.Config) {
	now := *s.live.Load()
	before := now
	changes := now.Take(c)
	s.live.Store(&now)
	for _, change := range changes {
		if change.Live {
			s.log.Info("configuration changed", "key", change.Key, "was", change.Old, "now", change.New)
		} else {
			s.log.Warn("a change of the configuration needs a restart", "key", change.Key, "is", change.Old, "wanted", change.New)
		}
	}
	if now.AcceptPerSecond != before.AcceptPerSecond {
		s.handler.Limit(now.AcceptPerSecond)
	}
	s.directory.Allow(now.InFlight)
	s.transport.Tune(now.Network)
	s.lane.Tune(now.Lane)
	s.dispatcher.Tune(now.Delivery)
	s.checker.Tune(now.Transaction)
	s.guard.Tune(now.Limits)
	if level, err := now.Level(); err == nil && now.LogLevel != before.LogLevel && s.control.Level != nil {
		s.setLevel(level, "configuration")
	}
}

// reloadOnChange reloads whenever something asks for it.
func (s *Server) reloadOnChange(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case why := <-s.control.Changed:
			s.log.Info("configuration is read again", "why", why)
			if _, err := s.Reload(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("configuration not taken over", "err", err)
			}
		}
	}
}

// changeTopics keeps the order of the start and of the stop for each topic: one that is new is watched and
// accepted before clients find it here, and one that goes is accepted until they no longer do.
func (s *Server) changeTopics(ctx context.Context, crew *crew, wanted, added, removed []string) error {
	ctx, cancel := context.WithTimeout(ctx, registryPatience)
	defer cancel()
	if err := s.registry.CreateTopics(ctx, wanted); err != nil {
		return err
	}
	both := slices.Concat(wanted, removed)
	if len(added) > 0 {
		if err := loadedBy(ctx, s.watch(crew, both)); err != nil {
			return err
		}
	}
	s.handler.SetTopics(both)
	if err := s.registry.Announce(ctx, s.advertised, wanted); err != nil {
		return err
	}
	s.topics.Store(&wanted)
	s.handler.SetTopics(wanted)
	s.meet(crew, wanted)
	if len(removed) == 0 {
		return nil
	}
	if err := loadedBy(ctx, s.watch(crew, wanted)); err != nil {
		// The change is made and announced. The watch goes on until it can be read.
		s.log.Warn("bindings not read yet after a change of topics", "err", err)
	}
	return nil
}

// restorePatience is how long a failed change waits for the registry to take it back. The registry goes on
// with it in any case.
const restorePatience = time.Second

// restoreTopics takes back what changeTopics may have done.
func (s *Server) restoreTopics(ctx context.Context, crew *crew, old []string) {
	s.handler.SetTopics(old)
	s.watch(crew, old)
	ctx, cancel := context.WithTimeout(ctx, restorePatience)
	defer cancel()
	if err := s.registry.Announce(ctx, s.advertised, old); err != nil {
		s.log.Warn("the old topics are announced as soon as the registry allows", "topics", old, "err", err)
	}
}

// watch follows the bindings of the topics, and no longer those of the topics before. The result is closed
// when they are read.
func (s *Server) watch(crew *crew, topics []string) <-chan struct{} {
	crew.stop("bindings")
	loaded := make(chan struct{})
	crew.start("bindings", func(ctx context.Context) error {
		return s.registry.WatchBindings(ctx, topics, s.bindings(loaded))
	})
	return loaded
}

func loadedBy(ctx context.Context, loaded <-chan struct{}) error {
	select {
	case <-loaded:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("read the bindings: %w", ctx.Err())
	}
}

// warnUndelivered says what a removed topic leaves behind: the messages stay until retention ends, and are
// delivered if the topic is served again before.
func (s *Server) warnUndelivered(ctx context.Context, removed []string) {
	flows, err := s.dispatcher.Stats(ctx)
	if err != nil {
		return // the broker stops
	}
	for _, f := range flows {
		if f.Bound && f.Durable && f.Unsettled > 0 && slices.Contains(removed, f.Topic) {
			s.log.Warn("topic removed with undelivered messages", "topic", f.Topic, "group", f.Group, "messages", f.Unsettled)
		}
	}
}

// without returns what of list is not in other.
func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(name string) bool { return slices.Contains(other, name) })
}
