package transport

import (
	"sync"

	"github.com/panjf2000/gnet/v2"

	"github.com/kiteq/kiteq/handler/session"
)

// outbox holds what other goroutines gave a connection, on its way to the event loop. The first buffer
// brings one task there; what follows before that has run leaves with it, so a busy loop is not woken for
// each, and writes them in one go.
//
//	Write -> idle? AsyncWrite(buffer) : queue          any goroutine
//	gnet writes the buffer, calls sent                 event loop
//	sent: queue empty? idle : write all of it, again   event loop
//
// Between AsyncWrite and idle the task is under way and nobody else starts one: the order of Write is kept.
type outbox struct {
	mu    sync.Mutex
	first *session.Buffer   // given to AsyncWrite; nil: idle
	queue []*session.Buffer // behind it

	// Owned by the event loop while the task is under way.
	taken  []*session.Buffer
	vector [][]byte
}

// vectorLength bounds the buffers of one write; the kernel takes 1024.
const vectorLength = 64

// keepQueue bounds how long a queue a connection keeps the memory of.
const keepQueue = 256

// put adds the buffer. It returns true when the caller must bring it to the event loop.
func (o *outbox) put(b *session.Buffer) (start bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first == nil {
		o.first = b
		return true
	}
	o.queue = append(o.queue, b)
	return false
}

// take returns what has gathered behind the buffers taken before, or nothing, and then the outbox is idle.
func (o *outbox) take() []*session.Buffer {
	o.mu.Lock()
	defer o.mu.Unlock()
	if clear(o.taken); cap(o.taken) > keepQueue {
		o.taken = nil
	}
	o.taken, o.queue = o.queue, o.taken[:0]
	if len(o.taken) == 0 {
		o.first = nil
	}
	return o.taken
}

// sent is gnet's: the first buffer was written, or err says why not. It runs on the event loop.
func (c *conn) sent(g gnet.Conn, err error) error {
	c.left(err, c.outbox.first)
	for {
		all := c.outbox.take()
		if len(all) == 0 {
			break
		}
		for len(all) > 0 {
			some := all[:min(vectorLength, len(all))]
			if err == nil { // after an error gnet has closed the connection: its descriptor may be another's
				err = c.outbox.write(g, some)
			}
			c.left(err, some...)
			all = all[len(some):]
		}
	}
	return c.measured(g, err)
}

func (o *outbox) write(g gnet.Conn, buffers []*session.Buffer) error {
	if len(buffers) == 1 {
		_, err := g.Write(buffers[0].B)
		return err
	}
	for _, b := range buffers {
		o.vector = append(o.vector, b.B)
	}
	_, err := g.Writev(o.vector)
	clear(o.vector)
	o.vector = o.vector[:0]
	return err
}

// left takes back buffers that one write was about.
func (c *conn) left(err error, buffers ...*session.Buffer) {
	n := int64(0)
	for _, b := range buffers {
		n += int64(len(b.B))
		b.Recycle()
	}
	c.queued.Add(-n)
	if err == nil {
		c.transport.counters.wrote(n)
	}
}
