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

	options Options
	handler Handler
	log     *slog.Logger
	engine  gnet.Engine
	addr    string
	ready   chan struct{}
	scratch sync.Pool // *reading

	mu    sync.Mutex
	conns map[*conn]struct{}
	count atomic.Int64

	counters counters
}

// reading is what one read needs besides the connection.
type reading struct {
	frames []protocol.Frame
	reply  []byte
}

// New returns a transport that listens from Run on.
func New(o Options, h Handler, log *slog.Logger) *Transport {
	return &Transport{
		options: o, handler: h, log: log.With("component", "transport"), ready: make(chan struct{}),
		scratch: sync.Pool{New: func() any { return &reading{} }}, conns: map[*conn]struct{}{},
	}
}

// Run serves until ctx ends, then closes every connection. An address that is in use is an error
// that names it.
func (t *Transport) Run(ctx context.Context) error {
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
	err := gnet.Run(t, "tcp4://"+t.options.Addr,
		gnet.WithNumEventLoop(t.options.EventLoops), gnet.WithReadBufferCap(1<<20), gnet.WithTicker(true),
		gnet.WithTCPNoDelay(gnet.TCPNoDelay), gnet.WithTCPKeepAlive(time.Minute), gnet.WithReuseAddr(true),
		gnet.WithLogger(logger{t.log}))
	if !unhook() {
		<-stopped
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w", t.options.Addr, err)
	}
	return nil
}

// probe listens once by the standard library, whose errors say what is wrong.
func (t *Transport) probe() error {
	l, err := net.Listen("tcp4", t.options.Addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen on %s: the port is in use: stop what uses it or choose another with -bind", t.options.Addr)
	case err != nil:
		return fmt.Errorf("listen on %s: %w: choose an address of this machine with -bind", t.options.Addr, err)
	}
	return l.Close()
}

// Ready is closed when connections are accepted.
func (t *Transport) Ready() <-chan struct{} { return t.ready }

// Addr returns the "ip:port" listened on, once Ready.
func (t *Transport) Addr() string { return t.addr }

// Connections returns how many connections are open.
func (t *Transport) Connections() int { return int(t.count.Load()) }

// OnBoot is gnet's: the listener is there.
func (t *Transport) OnBoot(engine gnet.Engine) gnet.Action {
	t.engine = engine
	t.addr = t.options.Addr
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
	if t.count.Add(1) > int64(t.options.MaxConnections) {
		t.log.Warn("connection refused: too many", "remote", c.RemoteAddr().String(), "max", t.options.MaxConnections)
		return nil, gnet.Close
	}
	n := &conn{conn: c, transport: t, remote: c.RemoteAddr().String(), opened: time.Now()}
	n.whenSent = n.sent
	n.session = t.handler.Opened(n)
	c.SetContext(n)
	t.mu.Lock()
	t.conns[n] = struct{}{}
	t.mu.Unlock()
	return nil, gnet.None
}

// OnClose is gnet's: the connection is gone.
func (t *Transport) OnClose(c gnet.Conn, err error) gnet.Action {
	t.count.Add(-1)
	n, ok := c.Context().(*conn)
	if !ok {
		return gnet.None
	}
	n.closed.Store(true)
	t.mu.Lock()
	delete(t.conns, n)
	t.mu.Unlock()
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
	if c.InboundBuffered() < n.wanted {
		return gnet.None
	}
	buf, err := c.Peek(-1)
	if err != nil || len(buf) == 0 {
		return gnet.None
	}
	if n.framing == protocol.FramingUnknown {
		if n.framing, err = protocol.Detect(buf); err != nil {
			return n.fail(err)
		}
		if n.framing == protocol.FramingUnknown {
			return gnet.None // more bytes must come
		}
		n.session.Framing = uint8(n.framing)
	}
	return t.read(n, c, buf)
}

// read hands every whole frame of buf to the handler and sends the reply.
func (t *Transport) read(n *conn, c gnet.Conn, buf []byte) gnet.Action {
	r := t.scratch.Get().(*reading)
	defer t.scratch.Put(r)
	r.frames, r.reply = r.frames[:0], r.reply[:0]
	used := 0
	var broken error
	for used < len(buf) {
		f, size, err := n.framing.Next(buf[used:])
		if err != nil {
			broken = err
			break
		}
		if size == 0 {
			break
		}
		used += size
		r.frames = append(r.frames, f)
	}
	if n.wanted = 0; broken == nil {
		n.wanted = n.framing.Size(buf[used:])
	}
	var err error
	if len(r.frames) > 0 {
		r.reply, err = t.handler.Frames(n.session, r.frames, r.reply)
		clear(r.frames)
	}
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
	switch {
	case err != nil:
		return n.fail(err)
	case broken != nil:
		return n.fail(broken)
	}
	return gnet.None
}

// tickEvery is how often connections are looked at that nothing happens on.
const tickEvery = 250 * time.Millisecond

// OnTick is gnet's: it closes connections that do not say who they are, and looks whether those with too
// many unsent bytes got rid of them.
func (t *Transport) OnTick() (time.Duration, gnet.Action) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for n := range t.conns {
		switch {
		case n.session.Group() == "" && now.Sub(n.opened) > t.options.UnauthenticatedTimeout:
			n.Close(fmt.Errorf("no ConnMeta within %v", t.options.UnauthenticatedTimeout))
		case n.full.Load():
			// An empty write brings the callback that measures.
			_ = n.conn.AsyncWrite(nil, n.measured)
		}
	}
	return tickEvery, gnet.None
}
