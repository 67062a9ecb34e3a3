package transport

import (
	"github.com/panjf2000/gnet/v2"

	"github.com/kiteq/kiteq/handler/session"
)

// conn is a client's connection on the plain port. gnet queues without a bound what is written to it, so
// conn counts: the bytes in the outbox and those that the socket did not take.
type conn struct {
	peer
	conn     gnet.Conn
	outbox   outbox
	whenSent gnet.AsyncCallback // sent, made once
}

// Write implements session.Conn.
func (c *conn) Write(b *session.Buffer) {
	if c.closed.Load() || !c.admit(int64(len(b.B))) {
		b.Recycle()
		return
	}
	if !c.outbox.put(b) {
		return
	}
	if err := c.conn.AsyncWrite(b.B, c.whenSent); err != nil { // the event loop has ended
		_ = c.sent(c.conn, err)
	}
}

// Run implements session.Conn.
func (c *conn) Run(work func()) {
	_ = c.conn.AsyncWrite(nil, func(_ gnet.Conn, err error) error {
		if err == nil && !c.closed.Load() {
			work()
		}
		return nil
	})
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
	limit := int64(c.transport.options.Load().OutboundBytes)
	switch unsent := c.unsent(); {
	case unsent > closeFactor*limit:
		c.Close(deaf(unsent))
	case unsent > limit:
		c.full.Store(true)
	case c.relieved():
		c.transport.handler.Writable(c.session)
	}
}

// fail closes the connection from within its event loop.
func (c *conn) fail(reason error) gnet.Action {
	c.failed(reason)
	return gnet.Close
}
