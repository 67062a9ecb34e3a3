package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry/zk"
	"github.com/kiteq/kiteq/store"
)

// registryPatience is how long a starting broker waits for its registry.
const registryPatience = 15 * time.Second

// Run serves until ctx ends, then drains, and returns what went wrong on the way.
//
// Start: registry, lane, flows, checks; the network, so that handshakes work before anybody is told; the
// topics' nodes and the bindings, so that no message finds nobody bound; the announcement last.
func (s *Server) Run(ctx context.Context) error {
	defer s.release()
	crew := newCrew(context.WithoutCancel(ctx))
	if s.admin != nil {
		crew.start("admin", s.admin.Run)
		crew.start("page", s.page.Run)
	}
	if syncer, ok := s.journal.(interface{ Run(context.Context) error }); ok {
		crew.start("journal", syncer.Run)
	}
	if s.embedded != nil {
		crew.start("embedded registry", s.embedded.Run)
	}
	crew.start("heap dumps", s.dumpHeaps)
	crew.start("guard", s.guard.Run)
	crew.start("reloads", s.reloadOnChange)
	crew.start("registry", s.follow)
	crew.start("lane", func(ctx context.Context) error {
		return s.lane.Run(ctx, s.handler, s.dispatcher, s.checker, s.scheduler)
	})
	crew.start("delivery", s.dispatcher.Run)
	crew.start("checks", s.checker.Run)
	crew.start("webhooks", func(ctx context.Context) error { return s.hooks.Run(ctx, s.checker) })
	crew.start("delays", s.scheduler.Run)
	if s.gate != nil {
		crew.start("access", s.gate.Run)
	}
	if s.certificates != nil {
		crew.start("certificates", s.certificates.Run)
	}
	crew.start("network", s.transport.Run)
	err := s.announce(ctx, crew)
	if err == nil {
		if s.keeper != nil {
			crew.start("takeover", s.keeper.run)
		}
		s.meet(crew, s.config.Topics)
		s.serving.Store(true)
		close(s.started)
		s.log.Info("broker serves", "addr", s.advertised, "tls", s.transport.SecureAddr(), "admin", s.AdminAddr(), "topics", s.config.Topics,
			"class", string(s.journal.Class()), "sync", s.config.Sync, "registry", zk.Redacted(s.config.ZKHost), "cluster", s.config.ClusterName)
		err = s.serve(ctx, crew)
	}
	close(s.closing)
	return errors.Join(err, s.stop(context.WithoutCancel(ctx), crew))
}

// serve waits for the end, and reloads and drains when asked to.
func (s *Server) serve(ctx context.Context, crew *crew) error {
	var refuse <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-crew.failed:
			return err
		case answer := <-s.reloads:
			answer <- s.reload(ctx, crew)
		case order := <-s.drains:
			refuse = s.obey(ctx, crew, order, refuse)
		case <-refuse:
			s.refuse()
		}
	}
}

// announce brings the broker from "can be dialled" to "is found". It returns when clients can find it, or
// when that takes long, or the registry is away and the bindings of the last run are in force: then those who know
// the broker are served, and the announcement goes on in the background.
func (s *Server) announce(ctx context.Context, crew *crew) error {
	select {
	case <-s.transport.Ready():
		s.settleAddr()
	case err := <-crew.failed:
		return err
	case <-ctx.Done():
		return nil
	}
	loaded, announced := s.watch(crew, s.config.Topics), make(chan struct{})
	crew.start("announcement", func(ctx context.Context) error { return s.appear(ctx, loaded, announced) })
	timer := time.NewTimer(registryPatience)
	defer timer.Stop()
	select {
	case <-announced:
	case err := <-crew.failed:
		return err
	case <-ctx.Done():
	case <-timer.C:
		err := s.registryError(context.DeadlineExceeded)
		if !s.exchange.Loaded() {
			return err
		}
		if s.registry.Ready() == nil {
			s.log.Warn("announcing takes long: clients find the broker when it is done", "topics", len(s.config.Topics))
			return nil
		}
		s.log.Warn("the registry is away: the groups of the last run are served, clients find the broker when it is back", "err", err)
	}
	return nil
}

// appear creates the topics' nodes, waits for the bindings and announces the broker, in this order, and
// tries until it is done or ctx ends.
func (s *Server) appear(ctx context.Context, loaded <-chan struct{}, announced chan struct{}) error {
	for {
		topics := *s.topics.Load()
		err := s.registry.CreateTopics(ctx, topics)
		if err == nil {
			err = loadedBy(ctx, loaded)
		}
		if err == nil && s.keeper != nil {
			err = s.keeper.peers.Join(ctx, s.keeper.id)
		}
		if err == nil {
			err = s.registry.Announce(ctx, s.advertised, topics)
		}
		switch {
		case err == nil:
			s.found.Store(true)
			close(announced)
			return nil
		case ctx.Err() != nil:
			return nil
		case kite.CodeOf(err) == kite.Invalid:
			return s.registryError(err)
		}
		s.log.Warn("announcement failed, trying again", "err", err)
		retry := time.NewTimer(time.Second)
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return nil
		}
	}
}

func (s *Server) registryError(err error) error {
	if why := s.registry.Ready(); why != nil {
		err = why
	}
	return fmt.Errorf("registry %s: %w: is it running there? name one that is with -zkhost, or use -zkhost=embedded", zk.Redacted(s.config.ZKHost), err)
}

// stop takes the broker down, upstream first: nobody finds it any more, those who are connected are
// served until they leave or the drain timeout ends, publishes are refused, deliveries stop and hand in
// their progress, the lane finishes, the connections close, and the journal is synced and closed.
func (s *Server) stop(ctx context.Context, crew *crew) error {
	s.serving.Store(false)
	s.log.Info("broker stops", "drain_timeout", s.live.Load().DrainTimeout)
	crew.stop("takeover")
	crew.stop("announcement")
	if err := s.withdraw(ctx); err != nil {
		s.log.Warn("withdraw failed, clients find the broker until its session ends", "err", err)
	}
	s.waitLeft(ctx)
	s.handler.Refuse()
	defer s.abandonLater()()
	for _, name := range []string{"reloads", "page", "brokers", "bindings", "checks", "webhooks", "delays", "delivery", "lane", "network", "access", "certificates", "registry", "embedded registry", "journal", "guard", "heap dumps", "admin"} {
		crew.stop(name)
	}
	return errors.Join(crew.err(), s.journal.Close())
}

// abandonAfter is how long a stopping broker waits for a store that is away, beyond the drain timeout.
const abandonAfter = 10 * time.Second

// abandonLater ends the waiting for a store that is away: at once when it is known to be, for clients had the
// drain timeout, or else after a while, unless the returned function is called.
func (s *Server) abandonLater() (never func()) {
	journal, ok := s.journal.(store.SharedJournal)
	if !ok {
		return func() {}
	}
	if s.journal.Err() != nil {
		journal.Abandon()
	}
	timer := time.AfterFunc(abandonAfter, journal.Abandon)
	return func() { timer.Stop() }
}

// progressEvery is how often a stopping broker says who is still there.
const progressEvery = time.Second

// waitLeft serves who is connected until they have left or the drain timeout ends, and says how it goes.
func (s *Server) waitLeft(ctx context.Context) {
	begun, timeout := time.Now(), s.live.Load().DrainTimeout
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	told := begun
	for s.transport.Connections() > 0 {
		select {
		case <-ctx.Done():
			s.log.Info("clients are still connected", "connections", s.transport.Connections(), "in_flight", s.inFlight())
			return
		case now := <-tick.C:
			if now.Sub(told) >= progressEvery {
				told = now
				s.log.Info("clients are served until they leave", "connections", s.transport.Connections(), "in_flight", s.inFlight(),
					"waiting", s.lane.Depth(), "at_most", (timeout - now.Sub(begun)).Round(time.Second))
			}
		}
	}
	s.log.Info("every client has left", "after", time.Since(begun).Round(time.Millisecond))
}

// inFlight is how many deliveries are unanswered.
func (s *Server) inFlight() (n int) {
	s.directory.Groups(func(_ string, members []*session.Session) {
		for _, m := range members {
			n += m.InFlight()
		}
	})
	return n
}

// release closes what New opened and Run did not.
func (s *Server) release() {
	if s.registry != nil {
		_ = s.registry.Close()
	}
	if s.embedded != nil {
		_ = s.embedded.Close()
	}
	if s.journal != nil {
		_ = s.journal.Close()
	}
	if s.keeper != nil {
		_ = s.keeper.store.Close()
	}
}
