package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/handler"
	"github.com/kiteq/kiteq/handler/access"
	"github.com/kiteq/kiteq/handler/delay"
	"github.com/kiteq/kiteq/handler/deliver"
	"github.com/kiteq/kiteq/handler/exchange"
	"github.com/kiteq/kiteq/handler/sequence"
	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/handler/txn"
	"github.com/kiteq/kiteq/handler/webhook"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/registry/embedded"
	"github.com/kiteq/kiteq/registry/zk"
	"github.com/kiteq/kiteq/server/admin"
	"github.com/kiteq/kiteq/server/guard"
	"github.com/kiteq/kiteq/server/page"
	"github.com/kiteq/kiteq/server/transport"
	"github.com/kiteq/kiteq/store"
)

// Control is how the process around a broker steers it. What is nil is not there.
type Control struct {
	// Reload reads the configuration again. Changed asks for it, and says why: a signal, a file that has changed.
	Reload  func() (conf.Config, error)
	Changed <-chan string
	// DumpHeap asks for a heap profile, each time that something comes.
	DumpHeap <-chan os.Signal
	// Level is what is logged at least.
	Level *slog.LevelVar
}

// Server is one broker: every part, made but not started.
type Server struct {
	config  conf.Config                 // as of the start
	live    atomic.Pointer[conf.Config] // the same with what was changed since
	control Control
	log     *slog.Logger

	journal    store.Journal
	keeper     *keeper          // nil when the store is no other broker's
	guests     sync.Map         // *Server -> store.Held: the journals of others that are served here
	embedded   *embedded.Server // nil with a ZooKeeper elsewhere
	registry   registry.Registry
	peers      registry.Peers              // nil with a registry that knows of none
	follow     func(context.Context) error // runs the registry
	exchange   *exchange.Exchange
	directory  *session.Directory
	lane       *sequence.Lane
	handler    *handler.Handler
	dispatcher *deliver.Dispatcher
	checker    *txn.Checker
	hooks      *webhook.Hooks
	scheduler  *delay.Scheduler
	transport  *transport.Transport
	gate       *access.Gate // nil: everybody may do everything
	guard      *guard.Guard
	// certificates are nil when nobody speaks TLS.
	certificates *transport.Certificates
	admin        *admin.Server // nil without
	page         *page.Page    // nil without admin

	advertised string
	madeMs     int64                    // when New was called, Unix ms
	topics     atomic.Pointer[[]string] // served now; replaced by reload
	serving    atomic.Bool
	// badBindings counts what was left out of the routes.
	badBindings atomic.Int64
	bad         atomic.Pointer[[]operate.BadBinding] // of the newest picture
	brokers     atomic.Pointer[registry.Brokers]     // who serves the topics; nil until it was read once
	reloads     chan chan<- reloaded                 // who asks Run to reload
	drains      chan drainOrder                      // what operators order Run
	drained     atomic.Pointer[operate.Drain]        // nil: nobody has ordered it
	found       atomic.Bool                          // it was announced
	started     chan struct{}                        // closed when clients can find the broker
	closing     chan struct{}                        // closed when Run answers no reload any more
}

// Serve runs a broker until ctx ends. When its journal was taken over, since it was away for too long, it
// starts again, as if it had been stopped meanwhile.
func Serve(ctx context.Context, c conf.Config, control Control, log *slog.Logger) error {
	for {
		broker, err := New(c, control, log)
		if err != nil {
			return err
		}
		if err = broker.Run(ctx); ctx.Err() != nil || !errors.Is(err, store.ErrFenced) {
			return err
		}
		log.Warn("this broker was away for too long: it starts again", "err", err)
	}
}

// New opens the store, replays it and makes the parts, upstream last. An error names the value and what
// to do; nothing stays open after it.
func New(c conf.Config, control Control, log *slog.Logger) (*Server, error) {
	for _, note := range c.Notes {
		log.Info("configuration", "note", note)
	}
	address, err := advertised(c)
	if err != nil {
		return nil, err
	}
	journal, keeper, err := openStore(c.Store, address, log)
	if err != nil {
		return nil, err
	}
	return assembled(c, control, address, journal, keeper, log)
}

// assembled makes a broker of the journal and the keeper, if any, which it owns from now on: also after an error.
func assembled(c conf.Config, control Control, address string, journal store.Journal, keeper *keeper, log *slog.Logger) (_ *Server, err error) {
	s := &Server{
		config: c, control: control, log: log, madeMs: kite.UnixMs(time.Now()), exchange: &exchange.Exchange{},
		advertised: address, journal: journal, keeper: keeper,
		reloads: make(chan chan<- reloaded), drains: make(chan drainOrder), started: make(chan struct{}), closing: make(chan struct{}),
	}
	s.live.Store(&c)
	s.topics.Store(&c.Topics)
	s.bad.Store(&[]operate.BadBinding{})
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	c.Lane.DeliverFirst, c.Lane.Classes = c.DeliveryFirst, c.Classes()
	if s.lane, err = sequence.Open(c.Lane, s.journal, router{s.exchange, s}, log); err != nil {
		return nil, err
	}
	if c.TLS.Listen != "" || c.TLS.Admin {
		if s.certificates, err = transport.LoadCertificates(c.TLS, log); err != nil {
			return nil, err
		}
	}
	if err = s.openRegistry(); err != nil {
		return nil, err
	}
	if err = s.keep(); err != nil {
		return nil, err
	}
	s.assemble()
	s.warnOpen()
	if port := adminPort(c); port >= 0 {
		if s.admin, err = admin.Listen(net.JoinHostPort(c.AdminHost, strconv.Itoa(port)), s, s, log); err != nil {
			return nil, err
		}
		s.secureAdmin()
		s.page = page.New(s, log)
		s.admin.Mount(page.Root, s.page)
	}
	return s, nil
}

// router is the exchange as the lane sees it: while the registry is away its picture may be an old one, by
// which nothing is trimmed.
type router struct {
	*exchange.Exchange
	server *Server
}

// Loaded implements sequence.Router.
func (r router) Loaded() bool { return r.Exchange.Loaded() && r.server.registry.Ready() == nil }

// assemble makes the parts between the network and the journal. Requests go transport -> handler -> lane
// -> journal; what became durable goes lane -> handler (answers), dispatcher (deliveries), checker
// (silence), scheduler (messages for later).
func (s *Server) assemble() {
	c := s.config
	s.directory = session.NewDirectory(c.InFlight)
	recovered := s.lane.Recovered()
	s.handler = handler.New(s.directory, s.lane.Classes(), s.advertised, s.log)
	s.handler.SetTopics(c.Topics)
	s.handler.Limit(c.AcceptPerSecond)
	s.handler.Bound(c.Accept)
	if c.Auth.File != "" {
		s.gate = access.New(c.Rules, s.log)
		s.handler.Guard(s.gate)
	}
	courier := func() deliver.Courier { return handler.NewCourier(s.directory) }
	s.dispatcher = deliver.New(c.Delivery, s.journal, s.lane, courier, recovered.Standing, recovered.Heads, s.log)
	c.Webhook.First, c.Webhook.Longest = c.Transaction.First, c.Transaction.Longest
	s.hooks = webhook.New(c.Webhook, s.journal, s.lane, s.log)
	s.checker = txn.New(c.Transaction, handler.NewInquirer(s.directory, s.journal, s.hooks, s.log), s.lane, s.log)
	for _, u := range recovered.Open {
		s.checker.Restore(txn.Undecided{
			ID: u.ID, Topic: u.Topic, Group: u.Group, Position: u.Position,
			PreparedMs: u.PreparedMs, ExpiresMs: u.ExpiresMs, ParkedMs: u.ParkedMs,
		})
	}
	s.scheduler = delay.New(s.journal, s.lane, recovered.Delayed, s.log)
	s.lane.Follow(s.dispatcher)
	s.handler.Connect(s.lane, s.dispatcher, s.checker)
	s.guard = s.newGuard()
	s.transport = transport.New(c.Network, s.handler, s.log)
	if c.TLS.Listen != "" {
		s.transport.Secure(c.TLS, s.certificates)
	}
}

// Started is closed when clients can find the broker.
func (s *Server) Started() <-chan struct{} { return s.started }

// Addr returns the address that clients dial, once Started.
func (s *Server) Addr() string { return s.advertised }

// SecureAddr returns the address for TLS, once Started, or "".
func (s *Server) SecureAddr() string { return s.transport.SecureAddr() }

// AdminAddr returns the address of the health checks, or "".
func (s *Server) AdminAddr() string {
	if s.admin == nil {
		return ""
	}
	return s.admin.Addr()
}

// RegistryAddr returns the address of the embedded registry, or "".
func (s *Server) RegistryAddr() string {
	if s.embedded == nil {
		return ""
	}
	return s.embedded.Addr()
}

// Ready returns why the broker does not serve, or nil.
func (s *Server) Ready() error {
	var why []error
	if err := s.journal.Err(); err != nil {
		why = append(why, fmt.Errorf("store: %w", err))
	}
	if err := s.registry.Ready(); err != nil {
		why = append(why, fmt.Errorf("registry: %w", err))
	}
	if !s.exchange.Loaded() {
		why = append(why, errors.New("bindings: not read yet"))
	}
	if !s.serving.Load() {
		why = append(why, errors.New("broker: starting or stopping"))
	}
	if drain := s.drained.Load(); drain != nil {
		why = append(why, fmt.Errorf("broker: it drains, by order of %s", drain.By))
	}
	return errors.Join(why...)
}

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

// maxComplaints bounds the memory of which bad bindings were logged.
const maxComplaints = 10_000

// bindings compiles every picture of the registry into routes. loaded is closed after the first.
func (s *Server) bindings(loaded chan struct{}) func(bindings registry.Bindings) {
	first := true
	complained := map[string]bool{}
	complain := func(topic, group string, bad error) {
		if complained[bad.Error()] {
			return
		}
		if len(complained) >= maxComplaints {
			clear(complained)
		}
		complained[bad.Error()] = true
		s.badBindings.Add(1)
		s.log.Warn("binding left out", "topic", topic, "group", group, "err", bad)
	}
	return func(bindings registry.Bindings) {
		var routes []kite.Route
		var left []operate.BadBinding
		for topic, groups := range bindings {
			for _, g := range groups {
				for _, bad := range slices.Concat(g.Bad, s.tooLong(&g)) {
					left = append(left, operate.BadBinding{Topic: topic, Group: g.Group, Error: bad.Error()})
					complain(topic, g.Group, bad)
				}
				if len(g.Bindings) > 0 && !s.maySubscribe(topic, g.Group) {
					bad := kite.Errorf(kite.Unauthorized, "group %s may not subscribe to topic %s: the rules in [auth] file have it not", g.Group, topic)
					left = append(left, operate.BadBinding{Topic: topic, Group: g.Group, Error: bad.Error()})
					complain(topic, g.Group, bad)
					continue
				}
				if len(g.Bindings) > 0 {
					routes = append(routes, kite.Route{Topic: topic, Group: g.Group, Bindings: g.Bindings, SinceMs: g.SinceMs})
				}
			}
		}
		s.bad.Store(&left)
		s.exchange.Swap(slices.Collect(maps.Keys(bindings)), routes)
		s.dispatcher.Routes(s.exchange.Routes())
		s.log.Info("bindings read", "routes", len(routes))
		if first {
			first = false
			close(loaded)
		}
	}
}
