package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// inbound is who takes what a broker requests. It is called by the connection's reader and must
// not block; payload is valid until it returns.
type inbound interface {
	deliver(from *conn, f protocol.Frame)
	check(from *conn, f protocol.Frame)
}

// conn is one connection to a broker, after its handshake and until it fails: it is never mended, its
// link opens another one. Three goroutines serve it: the reader (its link's), the writer and the pulse.
type conn struct {
	addr  string
	link  *link
	nc    net.Conn
	in    *frameReader
	out   *outbox
	calls *calls
	slots chan struct{} // holds one element for each open call
	count *counters
	log   *slog.Logger
	level int32 // the broker's, after the handshake

	mu       sync.Mutex
	beats    []ping                 // unanswered heartbeats, oldest first
	barriers map[ping]chan struct{} // unanswered barriers, with what their echo closes
	ended    bool
	down     chan struct{} // closed when ended
}

type ping struct {
	opaque  uint32
	version int64
}

// missedBeats is how many heartbeats may stay unanswered.
const missedBeats = 3

// errClosed is why a connection ends that this side closes.
var errClosed = errors.New("the client closed the connection")

func newConn(l *link, nc net.Conn) *conn {
	return &conn{
		addr: l.addr, link: l, nc: nc, in: newFrameReader(nc), out: newOutbox(), calls: newCalls(),
		slots: make(chan struct{}, l.options.MaxPending), count: l.count,
		log: l.log, barriers: map[ping]chan struct{}{}, down: make(chan struct{}),
	}
}

// handshake introduces the client and waits for the broker's answer; until then nothing else may
// be sent.
func (c *conn) handshake(o *Options) error {
	opaque := c.calls.opaque()
	meta := protocol.ConnMeta{GroupID: o.Group, SecretKey: o.SecretKey, WarmingUpSec: int32(o.WarmingUp / time.Second), Level: protocol.Level, Credit: int32(o.Credit)}
	if _, err := c.nc.Write(protocol.AppendConnMeta(nil, framing, opaque, meta)); err != nil {
		return err
	}
	for {
		f, err := c.in.next()
		if err != nil {
			return err
		}
		if f.Command != protocol.CmdConnAuthAck || f.Opaque != opaque {
			c.unsolicited(f)
			continue
		}
		switch ack, err := protocol.DecodeConnAuthAck(f.Payload); {
		case err != nil:
			return err
		case !ack.OK:
			return kite.Errorf(kite.Unauthorized, "broker %s refused group %s: %s; check Group and SecretKey", c.addr, o.Group, ack.Feedback)
		default:
			c.level = ack.Level
		}
		return nil
	}
}

// read hands on what arrives until the connection fails, and returns why.
func (c *conn) read(in inbound) error {
	for {
		f, err := c.in.next()
		if err != nil {
			return err
		}
		switch f.Command {
		case protocol.CmdStoreAck:
			c.stored(f)
		case protocol.CmdHeartbeat:
			c.pong(f)
		case protocol.CmdBytesMessage, protocol.CmdStringMessage:
			in.deliver(c, f)
		case protocol.CmdTxAck:
			in.check(c, f)
		case protocol.CmdTxReceipt:
			c.receipted(f)
		default:
			c.unsolicited(f)
		}
	}
}

// stored settles the publish that a StoreAck answers.
func (c *conn) stored(f protocol.Frame) {
	var ack protocol.StoreAckView
	if err := ack.Decode(f.Payload); err != nil {
		c.malformed(f, err)
		return
	}
	call := c.calls.take(f.Opaque)
	switch {
	case call == nil: // it came after the timeout, or is not ours
		c.unsolicited(f)
	case ack.Status:
		c.count.acked.Add(1)
		c.release(call, nil)
	default:
		c.count.refused.Add(1)
		c.release(call, refusal(c.addr, ack.Feedback))
	}
}

// publish sends the message and returns when it is on its way; the call's end tells the rest.
func (c *conn) publish(ctx context.Context, m *outgoing, call *call) error {
	err := c.request(ctx, m, call)
	if err == nil {
		c.count.published.Add(1)
	}
	return err
}

// request sends a frame that is answered and returns when it is on its way; the call's end tells the rest.
// With MaxPending calls open it waits. An error means that nothing was sent.
func (c *conn) request(ctx context.Context, f frame, call *call) error {
	select {
	case c.slots <- struct{}{}:
	default:
		select {
		case c.slots <- struct{}{}:
		case <-c.down:
			return kite.Errorf(kite.Unavailable, "broker %s: connection lost", c.addr)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.link.work.add(1)
	if err := c.calls.add(call, time.Now().Add(c.link.options.AckTimeout)); err != nil {
		c.unslot()
		return err
	}
	err := c.out.put(ctx, f, call.opaque)
	if err != nil && c.calls.take(call.opaque) == nil {
		<-call.done // somebody else has just ended it; its error is the news
		return nil
	}
	if err != nil {
		c.unslot()
	}
	return err
}

func (c *conn) release(call *call, err error) {
	c.unslot()
	call.settle(err)
}

func (c *conn) unslot() {
	<-c.slots
	c.link.work.done()
}

// pulse sends heartbeats and ends overdue calls until the connection is down.
func (c *conn) pulse() {
	o := c.link.options
	beat := time.NewTimer(jitter(o.HeartbeatEvery))
	defer beat.Stop()
	sweep := time.NewTicker(o.AckTimeout / 4)
	defer sweep.Stop()
	for {
		select {
		case <-c.down:
			return
		case now := <-sweep.C:
			for _, call := range c.calls.overdue(now) {
				c.count.timeouts.Add(1)
				c.release(call, kite.Errorf(kite.Indeterminate, "broker %s gave no answer within %s", c.addr, o.AckTimeout))
			}
		case now := <-beat.C:
			if err := c.beat(now); err != nil {
				c.fail(err)
				return
			}
			beat.Reset(jitter(o.HeartbeatEvery))
		}
	}
}

func (c *conn) beat(now time.Time) error {
	p := ping{c.calls.opaque(), now.Unix()}
	c.mu.Lock()
	missed := len(c.beats)
	c.beats = append(c.beats, p)
	c.mu.Unlock()
	if missed >= missedBeats {
		return fmt.Errorf("broker %s left %d heartbeats unanswered", c.addr, missed)
	}
	return c.out.push(p, p.opaque)
}

func (p ping) appendTo(dst []byte, _ uint32) []byte {
	return protocol.AppendHeartbeat(dst, framing, p.opaque, p.version)
}

// pong takes the echo of a heartbeat: same opaque and same version. It also answers for the beats
// before it.
func (c *conn) pong(f protocol.Frame) {
	version, err := protocol.DecodeHeartbeat(f.Payload)
	if err != nil {
		c.malformed(f, err)
		return
	}
	p := ping{f.Opaque, version}
	c.mu.Lock()
	defer c.mu.Unlock()
	if reached, ok := c.barriers[p]; ok {
		delete(c.barriers, p)
		close(reached)
		return
	}
	if i := slices.Index(c.beats, p); i >= 0 {
		c.beats = c.beats[i+1:]
		return
	}
	c.unsolicited(f)
}

// tell sends a frame that has no answer and returns when the broker has received it, which it
// learns from the echo of a heartbeat right behind it: written is not received when the connection
// breaks. An error means that it may have arrived or not.
func (c *conn) tell(ctx context.Context, f frame) error {
	barrier := ping{c.calls.opaque(), time.Now().Unix()}
	reached := make(chan struct{})
	c.mu.Lock()
	c.barriers[barrier] = reached
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.barriers, barrier)
	}()
	if err := c.out.put(ctx, told{f, barrier}, c.calls.opaque()); err != nil {
		return err
	}
	select {
	case <-reached:
		return nil
	case <-c.down:
		return kite.Errorf(kite.Unavailable, "broker %s: connection lost", c.addr)
	case <-ctx.Done():
		return kite.Errorf(kite.Unavailable, "broker %s did not confirm: %w", c.addr, ctx.Err())
	}
}

// told is a frame with its barrier behind it.
type told struct {
	frame
	barrier ping
}

func (t told) appendTo(dst []byte, opaque uint32) []byte {
	return t.barrier.appendTo(t.frame.appendTo(dst, opaque), 0)
}

// unsolicited counts a frame that nothing on this side waits for: ignoring it keeps the connection.
func (c *conn) unsolicited(f protocol.Frame) {
	c.count.unsolicited.Add(1)
	c.log.Debug("frame ignored", "command", f.Command, "opaque", f.Opaque)
}

func (c *conn) malformed(f protocol.Frame, err error) {
	c.count.malformed.Add(1)
	c.log.Debug("frame does not decode", "command", f.Command, "opaque", f.Opaque, "err", err)
}

// answer sends what the broker waits for. The only failure is that of the connection, which ends.
func (c *conn) answer(f frame, opaque uint32) {
	if err := c.out.push(f, opaque); err != nil && !errors.Is(err, errClosed) {
		c.fail(err)
	}
}

// write is the writer: it runs until the connection fails or finish.
func (c *conn) write() {
	if err := c.out.run(c.nc); !errors.Is(err, errClosed) {
		c.fail(err)
	}
}

// fail ends the connection: open calls become indeterminate, since the broker may have stored them.
// Only the first error counts.
func (c *conn) fail(err error) {
	c.mu.Lock()
	ended := c.ended
	c.ended = true
	c.mu.Unlock()
	if ended {
		return
	}
	close(c.down)
	c.nc.Close()
	c.out.close(kite.Errorf(kite.Unavailable, "broker %s: connection lost: %w", c.addr, err))
	for _, call := range c.calls.close(err) {
		c.release(call, kite.Errorf(kite.Indeterminate, "broker %s: connection lost before the answer: %w", c.addr, err))
	}
}

// lingerTimeout is how long the broker gets to read what was written before the connection is closed.
const lingerTimeout = 250 * time.Millisecond

// finish closes the connection so that what was written arrives: a close with unread input would
// reset it and could discard our last acks on the broker's side. So it says the end, and the
// reader goes on until the broker's end or the timeout.
func (c *conn) finish() {
	c.link.live.CompareAndSwap(c, nil)
	c.out.close(kite.Errorf(kite.Unavailable, "%w", errClosed))
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.nc.SetReadDeadline(time.Now().Add(lingerTimeout)) != nil {
		c.fail(errClosed)
	}
}
