package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
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
	return newBroker(c, control, address, journal, keeper, log)
}

// newBroker makes a broker of the journal and the keeper, if any, which it owns from now on: also after an error.
func newBroker(c conf.Config, control Control, address string, journal store.Journal, keeper *keeper, log *slog.Logger) (_ *Server, err error) {
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
