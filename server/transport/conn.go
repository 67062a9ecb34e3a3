package transport

import (
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// conn is one client's connection. gnet queues without a bound what is written to it, so conn counts: the
// bytes in the outbox and those that the socket did not take.
type conn struct {
	conn      gnet.Conn
	transport *Transport
	session   *session.Session
	remote    string
	opened    time.Time

	// Owned by the event loop.
	framing protocol.Framing
	wanted  int // size of the frame whose beginning is there, bytes; 0: not known

	outbox   outbox
	whenSent gnet.AsyncCallback // sent, made once
	queued   atomic.Int64       // in the outbox
	buffered atomic.Int64       // written, not taken by the socket; as of the last look
	full     atomic.Bool        // was over the bound, and nobody was told yet that it no longer is
	closed   atomic.Bool
}

// closeFactor times OutboundBytes unsent bytes close a connection.
const closeFactor = 4

// Write implements session.Conn.
func (c *conn) Write(b *session.Buffer) {
	n := int64(len(b.B))
	if c.closed.Load() {
		b.Recycle()
		return
	}
	limit := int64(c.transport.options.OutboundBytes)
	unsent := c.queued.Add(n) + c.buffered.Load()
	if unsent > limit {
		c.full.Store(true)
	}
	if unsent > closeFactor*limit {
		c.queued.Add(-n)
		b.Recycle()
		c.Close(deaf(unsent))
		return
	}
	if !c.outbox.put(b) {
		return
	}
	if err := c.conn.AsyncWrite(b.B, c.whenSent); err != nil { // the event loop has ended
		_ = c.sent(c.conn, err)
	}
}

// measured runs on the event loop after a write.
func (c *conn) measured(g gnet.Conn, err error) error {
	if err == nil && !c.closed.Load() {
		c.settle(g.OutboundBuffered())
	}
	return nil
}

// settle notes how much the socket did not take and tells the handler when there is room again. Replies
// that the event loop itself writes pass the bounds only here.
func (c *conn) settle(buffered int) {
	c.buffered.Store(int64(buffered))
	limit := int64(c.transport.options.OutboundBytes)
	switch unsent := c.unsent(); {
	case unsent > closeFactor*limit:
		c.Close(deaf(unsent))
	case unsent > limit:
		c.full.Store(true)
	case c.full.Load() && unsent <= limit/2:
		c.full.Store(false)
		c.transport.handler.Writable(c.session)
	}
}

func (c *conn) unsent() int64 { return c.queued.Load() + c.buffered.Load() }

func deaf(unsent int64) error {
	return kite.Errorf(kite.Busy, "%d unsent bytes: the client does not read", unsent)
}

// Writable implements session.Conn.
func (c *conn) Writable() bool { return !c.full.Load() && !c.closed.Load() }

// Close implements session.Conn.
func (c *conn) Close(reason error) {
	if c.closed.Swap(true) {
		return
	}
	c.transport.log.Info("connection closed by the broker", "session", c.session.ID, "remote", c.remote, "reason", reason)
	_ = c.conn.Close()
}

// RemoteAddr implements session.Conn.
func (c *conn) RemoteAddr() string { return c.remote }

// fail closes the connection from within its event loop.
func (c *conn) fail(reason error) gnet.Action {
	if !c.closed.Swap(true) {
		c.transport.log.Warn("connection closed by the broker", "session", c.session.ID, "remote", c.remote, "reason", reason)
	}
	return gnet.Close
}
