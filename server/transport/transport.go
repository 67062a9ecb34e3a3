package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/protocol"
)

// Handler does the work of frames. For one session its methods are called one at a time, and they
// must not block: an event loop waits for them.
type Handler interface {
	Opened(conn session.Conn) *session.Session
	// Frames handles what one read brought. The frames are views that die with the call. The reply is
	// sent in any case; an error closes the connection after it.
	Frames(s *session.Session, frames []protocol.Frame, reply []byte) ([]byte, error)
	// Writable says that a connection that had too many unsent bytes takes deliveries again.
	Writable(s *session.Session)
	Closed(s *session.Session)
}

// Transport listens for clients.
type Transport struct {
	gnet.BuiltinEventEngine

	options      atomic.Pointer[Options]
	tls          TLS
	certificates *Certificates // nil: no TLS
	handler      Handler
	log          *slog.Logger
	engine       gnet.Engine
	addr, secure string
	ready        chan struct{}
	scratch      sync.Pool // *reading
	door         *door
	held         atomic.Int64 // bytes of frames that are not whole, of all connections
	handshakes   atomic.Int64 // of TLS that failed

	mu    sync.Mutex
	peers map[*peer]func() // what measures the unsent bytes; nil: nothing must

	counters counters
}

// reading is what one read needs besides the connection.
type reading struct {
	frames []protocol.Frame
	reply  []byte
}

// New returns a transport that listens from Run on.
func New(o Options, h Handler, log *slog.Logger) *Transport {
	t := &Transport{
		handler: h, log: log.With("component", "transport"), ready: make(chan struct{}), door: newDoor(o),
		scratch: sync.Pool{New: func() any { return &reading{} }}, peers: map[*peer]func(){},
	}
	t.options.Store(&o)
	return t
}

// Tune takes over what may change while clients are connected: everything but Addr and EventLoops. Who is connected
// stays.
func (t *Transport) Tune(o Options) {
	was := t.options.Load()
	o.Addr, o.EventLoops = was.Addr, was.EventLoops
	t.options.Store(&o)
	t.door.bound(o)
}

// Secure makes the transport listen for TLS, too, or with Only for nothing else. It is called before Run.
func (t *Transport) Secure(o TLS, c *Certificates) { t.tls, t.certificates = o, c }

// Run serves until ctx ends, then closes every connection. An address that is in use is an error
// that names it.
func (t *Transport) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	parts.Go(func() { t.watch(ctx) })
	if t.certificates != nil {
		l, err := listenTLS(t.tls.Listen)
		if err != nil {
			return err
		}
		t.secure = l.Addr().String()
		context.AfterFunc(ctx, func() { _ = l.Close() })
		parts.Go(func() { t.accept(ctx, l) })
		if t.tls.Only {
			t.addr = t.secure
			close(t.ready)
			<-ctx.Done()
			return nil
		}
	}
	return t.plain(ctx)
}

// plain serves the plain port.
func (t *Transport) plain(ctx context.Context) error {
	if err := t.probe(); err != nil {
		return err
	}
	stopped := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(stopped)
		select {
		case <-t.ready:
			_ = t.engine.Stop(context.WithoutCancel(ctx))
		case <-stopped:
		}
	})
	err := gnet.Run(t, "tcp4://"+t.options.Load().Addr,
		gnet.WithNumEventLoop(t.options.Load().EventLoops), gnet.WithReadBufferCap(1<<20),
		gnet.WithTCPNoDelay(gnet.TCPNoDelay), gnet.WithTCPKeepAlive(time.Minute), gnet.WithReuseAddr(true),
		gnet.WithLogger(logger{t.log}))
	if !unhook() {
		<-stopped
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w", t.options.Load().Addr, err)
	}
	return nil
}

// probe listens once by the standard library, whose errors say what is wrong.
func (t *Transport) probe() error {
	l, err := net.Listen("tcp4", t.options.Load().Addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen on %s: the port is in use: stop what uses it or choose another with -bind", t.options.Load().Addr)
	case err != nil:
		return fmt.Errorf("listen on %s: %w: choose an address of this machine with -bind", t.options.Load().Addr, err)
	}
	return l.Close()
}

// Ready is closed when connections are accepted.
func (t *Transport) Ready() <-chan struct{} { return t.ready }

// Addr returns the "ip:port" listened on, once Ready: with TLS.Only that for TLS.
func (t *Transport) Addr() string { return t.addr }

// SecureAddr returns the "ip:port" listened on for TLS, once Ready, or "".
func (t *Transport) SecureAddr() string { return t.secure }

// Connections returns how many connections are open, of both ports.
func (t *Transport) Connections() int { return t.door.count() }

// add lists a connection for watch.
func (t *Transport) add(p *peer, measure func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.peers[p] = measure
}

func (t *Transport) forget(p *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.peers, p)
}

// OnBoot is gnet's: the listener is there.
func (t *Transport) OnBoot(engine gnet.Engine) gnet.Action {
	t.engine = engine
	t.addr = t.options.Load().Addr
	if fd, err := engine.Dup(); err == nil {
		if sa, err := unix.Getsockname(fd); err == nil {
			if in, ok := sa.(*unix.SockaddrInet4); ok {
				t.addr = fmt.Sprintf("%s:%d", net.IP(in.Addr[:]), in.Port)
			}
		}
		_ = unix.Close(fd)
	}
	close(t.ready)
	return gnet.None
}

// OnOpen is gnet's: a client has connected.
func (t *Transport) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	from := addressOf(c.RemoteAddr())
	if t.door.enter(from) != nil {
		return nil, gnet.Close
	}
	n := &conn{conn: c, peer: peer{transport: t, remote: c.RemoteAddr().String(), address: from, opened: time.Now()}}
	n.hangUp = func() { _ = c.Close() }
	n.whenSent = n.sent
	n.session = t.handler.Opened(n)
	c.SetContext(n)
	t.add(&n.peer, func() { _ = c.AsyncWrite(nil, n.measured) }) // an empty write brings the callback that measures
	return nil, gnet.None
}

// OnClose is gnet's: the connection is gone.
func (t *Transport) OnClose(c gnet.Conn, err error) gnet.Action {
	n, ok := c.Context().(*conn)
	if !ok { // it was refused
		return gnet.None
	}
	n.closed.Store(true)
	n.hold(0, false)
	t.forget(&n.peer)
	t.door.leave(n.address)
	t.handler.Closed(n.session)
	t.log.Debug("connection closed", "session", n.session.ID, "remote", n.remote, "err", err)
	return gnet.None
}

// OnTraffic is gnet's: bytes have come in.
func (t *Transport) OnTraffic(c gnet.Conn) gnet.Action {
	n, ok := c.Context().(*conn)
	if !ok {
		return gnet.Close
	}
	// Peek puts the pieces of a large frame together each time it is asked: not before all are there.
	if here := c.InboundBuffered(); here < n.wanted {
		n.hold(here, false)
		return gnet.None
	}
	buf, err := c.Peek(-1)
	if err != nil || len(buf) == 0 {
		return gnet.None
	}
	r := t.scratch.Get().(*reading)
	defer t.scratch.Put(r)
	used, err := n.take(r, buf)
	if used > 0 { // Discard(0) would throw the whole buffer away
		t.counters.read(used)
		if _, err := c.Discard(used); err != nil {
			return n.fail(err)
		}
	}
	if len(r.reply) > 0 {
		if _, err := c.Write(r.reply); err != nil {
			return gnet.Close
		}
		t.counters.wrote(int64(len(r.reply)))
		n.settle(c.OutboundBuffered())
	}
	if err != nil {
		return n.fail(err)
	}
	return gnet.None
}
