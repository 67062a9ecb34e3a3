package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// Server is a ZooKeeper server that listens. Make one with Listen.
type Server struct {
	options  Options
	log      *slog.Logger
	listener net.Listener
	owner    *owner
	journal  *journal // nil: memory only
	stats    *counters
	closing  sync.Once
	closeErr error
}

// Listen recovers what Dir holds and binds the port, so that errors of either show at start. Clients
// are served by Run, and wait until then. A nil log discards.
//
// It refuses a Dir that another process uses, one whose files are damaged (CorruptionError), and a
// port that is taken.
func Listen(o Options, log *slog.Logger) (*Server, error) {
	o = o.WithDefaults()
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("embedded registry options: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log = log.With("component", "registry/embedded")
	t := newTree()
	var j *journal
	if o.Dir != "" {
		var err error
		if j, err = openJournal(o.Dir, t, log); err != nil {
			return nil, fmt.Errorf("embedded registry: %w", err)
		}
	}
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		j.close()
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("the port is taken, perhaps by another registry: use another one, or join that registry with -zkhost=%s: %w",
				o.Addr, err)
		}
		return nil, fmt.Errorf("embedded registry: listen on %s: %w", o.Addr, err)
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		log.Warn("registry can be reached from the network: it has no encryption, and nodes without ACL are open to all",
			"addr", listener.Addr().String())
	}
	s := newServer(o, t, j, listener, log)
	log.Info("registry listens", "addr", s.Addr(), "dir", o.Dir, "nodes", len(t.nodes), "sessions", len(t.sessions))
	return s, nil
}

func newServer(o Options, t *tree, j *journal, listener net.Listener, log *slog.Logger) *Server {
	stats := &counters{}
	return &Server{
		options: o, log: log, listener: listener, journal: j, stats: stats,
		owner: newOwner(o, t, j, stats, log),
	}
}

// Addr returns the address that it listens on, "ip:port".
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Stats returns the server's figures now.
func (s *Server) Stats() Stats { return s.stats.stats() }

// Run serves until ctx ends, and returns nil then, or until the disk fails. When it returns, every
// connection is closed, every goroutine has ended, and port and Dir are free. It is called once.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var accepting sync.WaitGroup
	var acceptErr error
	accepting.Go(func() {
		defer cancel()
		acceptErr = s.accept(ctx)
	})
	err := s.owner.run(ctx)
	cancel()
	s.listener.Close()
	accepting.Wait()
	return errors.Join(err, acceptErr, s.Close())
}

// Close frees the port and Dir of a server whose Run was never called. After Run it does nothing.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.listener.Close() // a second close after Run's is harmless
		s.closeErr = s.journal.close()
	})
	return s.closeErr
}

// accept takes connections until ctx ends, and waits for all of them.
func (s *Server) accept(ctx context.Context) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	stop := context.AfterFunc(ctx, func() { s.listener.Close() })
	defer stop()
	places := make(chan struct{}, s.options.MaxConnections)
	words := newFourLetters(s.stats)
	for delay := minAcceptDelay; ; {
		socket, err := s.listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				socket.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %s: %w", s.Addr(), err)
		case err != nil: // out of descriptors, most likely: wait for some to come back
			s.log.Warn("accept failed, will try again", "err", err, "delay", delay)
			select {
			case <-time.After(delay):
			case <-ctx.Done():
			}
			delay = min(2*delay, maxAcceptDelay)
			continue
		}
		delay = minAcceptDelay
		select {
		case places <- struct{}{}:
		default:
			s.stats.refused.Add(1)
			s.stats.warn(s.log, "connection refused: as many as max connections", "max_connections",
				s.options.MaxConnections, "remote", socket.RemoteAddr().String())
			socket.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-places }()
			s.serve(ctx, socket, words)
		})
	}
}

const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second
)

func (s *Server) serve(ctx context.Context, socket net.Conn, words fourLetters) {
	s.stats.connections.Add(1)
	defer s.stats.connections.Add(-1)
	c := newConn(socket)
	if err := c.serve(ctx, s.owner.inbox, s.options, words); err != nil {
		s.stats.malformed.Add(1)
		s.stats.warn(s.log, "connection closed: what it sent is not understood", "remote", c.remote, "err", err)
	}
}
