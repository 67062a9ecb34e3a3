package server

import (
	"context"
	"strings"
	"time"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
	"github.com/kiteq/kiteq/store"
)

// drainOrder asks Run to take the broker out of service, or back into it.
type drainOrder struct {
	on     bool
	note   kite.Note
	answer chan error
}

// Drain implements admin.Caretaker. The broker withdraws, and refuses publishes one drain_timeout later, so that
// publishers have found other brokers by then; takeovers end. Everything else goes on.
func (s *Server) Drain(ctx context.Context, on bool, note kite.Note) (operate.Status, error) {
	order := drainOrder{on, note, make(chan error, 1)}
	select {
	case s.drains <- order:
	case <-s.closing:
		return operate.Status{}, kite.Errorf(kite.Unavailable, "the broker is stopping")
	case <-ctx.Done():
		return operate.Status{}, ctx.Err()
	}
	select {
	case err := <-order.answer:
		if err != nil {
			return operate.Status{}, err
		}
	case <-ctx.Done(): // it is done all the same
		return operate.Status{}, ctx.Err()
	}
	return s.Status(ctx)
}

// obey runs in the goroutine of Run, which owns the crew. It returns when publishes are to be refused: never, if nil.
func (s *Server) obey(ctx context.Context, crew *crew, order drainOrder, refuse <-chan time.Time) <-chan time.Time {
	was := s.drained.Load()
	switch {
	case order.on == (was != nil):
		order.answer <- nil // it is so
	case !s.found.Load():
		order.answer <- kite.Errorf(kite.Unavailable, "the broker is not announced yet: there is nothing to withdraw")
	case order.on:
		s.drained.Store(&operate.Drain{SinceMs: kite.UnixMs(time.Now()), By: order.note.By, Reason: order.note.Reason})
		s.log.Info("broker drains", "by", order.note.By, "reason", order.note.Reason, "refuses_in", s.config.DrainTimeout)
		order.answer <- s.withdraw(ctx)
		crew.stop("takeover") // others take over what this one hosts
		return time.After(s.config.DrainTimeout)
	default:
		ctx, cancel := context.WithTimeout(ctx, registryPatience)
		defer cancel()
		s.handler.Accept()
		err := s.registry.Announce(ctx, s.advertised, *s.topics.Load())
		s.drained.Store(nil)
		s.log.Info("broker serves again", "by", order.note.By, "reason", order.note.Reason, "err", err)
		if s.keeper != nil {
			crew.start("takeover", s.keeper.run)
		}
		order.answer <- err
		return nil
	}
	return refuse
}

// refuse ends the time that publishers had to go elsewhere.
func (s *Server) refuse() {
	s.handler.Refuse()
	now := *s.drained.Load()
	now.Refusing = true
	s.drained.Store(&now)
	s.log.Info("publishes are refused: the broker drains", "connections", s.transport.Connections())
}

// withdrawPatience bounds how long it takes until nobody finds the broker any more.
const withdrawPatience = 5 * time.Second

func (s *Server) withdraw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, withdrawPatience)
	defer cancel()
	return s.registry.Withdraw(ctx)
}

// Status implements admin.Caretaker. It waits for the flows, until ctx ends.
func (s *Server) Status(ctx context.Context) (operate.Status, error) {
	open := s.checker.Stats()
	b := operate.Status{
		Addr: s.advertised, Version: conf.Version(), StartedMs: s.madeMs, Topics: *s.topics.Load(), Class: string(s.journal.Class()),
		Drain: s.drained.Load(), Connections: s.transport.Connections(), Undecided: open.Open + open.Parked,
	}
	if why := s.Ready(); why == nil {
		b.Ready = true
	} else {
		b.Why = strings.Split(why.Error(), "\n")
	}
	s.guests.Range(func(guest, held any) bool {
		h := held.(store.Held)
		b.Hosted = append(b.Hosted, operate.Hosted{Journal: h.Journal, Broker: h.Broker, Addr: guest.(*Server).advertised})
		return true
	})
	s.directory.Groups(func(_ string, members []*session.Session) {
		for _, m := range members {
			b.InFlight += m.InFlight()
		}
	})
	flows, err := s.dispatcher.Stats(ctx)
	for _, f := range flows {
		if f.Bound && f.Durable && f.OfflineMs == 0 {
			b.Unsettled += f.Unsettled
		}
	}
	return b, err
}
