package transport

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// peer is what connections of both kinds have in common: how bytes become frames and go to the handler, and
// the bounds of what waits in either direction.
type peer struct {
	transport *Transport
	session   *session.Session
	remote    string // "ip:port"
	address   netip.Addr
	opened    time.Time
	hangUp    func() // ends the connection after what was written

	// Owned by who reads.
	framing protocol.Framing
	wanted  int // size of the frame whose beginning is there, bytes; 0: not known

	partial  atomic.Int64 // bytes of a frame that is not whole; its reader's to change
	sinceMs  atomic.Int64 // when it began, Unix ms
	queued   atomic.Int64 // given to Write, not written
	buffered atomic.Int64 // written, not taken by the socket; as of the last look
	full     atomic.Bool  // was over the bound, and nobody was told yet that it no longer is
	closed   atomic.Bool
}

// closeFactor times OutboundBytes unsent bytes close a connection.
const closeFactor = 4

// heldFactor times InboundBytes of frames that are not whole close the connection that brings more, at once: watch
// closes those that wait longest only when it looks.
const heldFactor = 2

// helloBytes bounds the frames of a connection before its ConnMeta, which is shorter than this: who has not
// said who it is holds no more memory.
const helloBytes = 4 << 10

// Writable implements session.Conn.
func (p *peer) Writable() bool { return !p.full.Load() && !p.closed.Load() }

// Close implements session.Conn.
func (p *peer) Close(reason error) {
	if !p.closed.Swap(true) {
		p.log().Info("connection closed by the broker", "reason", reason)
		p.hangUp()
	}
}

// RemoteAddr implements session.Conn.
func (p *peer) RemoteAddr() string { return p.remote }

// failed notes that the connection ends for what the client did, or does not do. Its reader hangs up.
func (p *peer) failed(reason error) {
	if !p.closed.Swap(true) {
		p.log().Warn("connection closed by the broker", "reason", reason)
	}
}

func (p *peer) log() *slog.Logger {
	return p.transport.log.With("session", p.session.ID, "remote", p.remote)
}

// take hands every whole frame of buf to the handler. The reply is in r and is to be sent in any case; after
// an error the connection is to be closed. used bytes of buf are done with.
func (p *peer) take(r *reading, buf []byte) (used int, err error) {
	r.frames, r.reply = r.frames[:0], r.reply[:0]
	if p.framing == protocol.FramingUnknown {
		if p.framing, err = protocol.Detect(buf); err != nil {
			return 0, err
		}
		if p.framing == protocol.FramingUnknown {
			p.hold(len(buf), false)
			return 0, nil // more bytes must come
		}
		p.session.Framing = uint8(p.framing)
	}
	var broken error
	for used < len(buf) {
		f, size, err := p.framing.Next(buf[used:])
		if err != nil {
			broken = err
			break
		}
		if size == 0 {
			break
		}
		if limit := int(p.transport.options.Load().FrameBytes); len(f.Payload) > limit {
			broken = tooLarge(len(f.Payload), limit, "")
			break
		}
		used += size
		r.frames = append(r.frames, f)
	}
	if len(r.frames) > 0 {
		r.reply, err = p.transport.handler.Frames(p.session, r.frames, r.reply)
		clear(r.frames)
	}
	if p.wanted = 0; broken == nil {
		p.wanted = p.framing.Size(buf[used:])
		broken = p.checkSize()
	}
	p.hold(len(buf)-used, used > 0)
	if err == nil {
		err = broken
	}
	return used, err
}

// checkSize refuses a frame that is to come and is larger than this connection may send.
func (p *peer) checkSize() error {
	limit, when := int(p.transport.options.Load().FrameBytes), ""
	if p.session.Group() == "" {
		limit, when = min(limit, helloBytes), " before the ConnMeta"
	}
	if payload := p.wanted - p.framing.Overhead(); payload > limit {
		return tooLarge(payload, limit, when)
	}
	return nil
}

func tooLarge(payload, limit int, when string) error {
	return kite.Errorf(kite.TooLarge, "a frame with a payload of %d bytes, at most %d are allowed%s", payload, limit, when)
}

// hold notes how many bytes of a frame that is not whole this connection holds; begun says that it is another
// frame than before.
func (p *peer) hold(n int, begun bool) {
	was := p.partial.Swap(int64(n))
	if was != int64(n) {
		bound := p.transport.options.Load().InboundBytes
		if total := p.transport.held.Add(int64(n) - was); total > heldFactor*int64(bound) && int64(n) > was {
			p.Close(kite.Errorf(kite.Busy, "frames that are not whole hold %v together, inbound_bytes is %v", kite.ByteSize(total), bound))
		}
	}
	if n > 0 && (begun || was == 0) {
		p.sinceMs.Store(kite.UnixMs(time.Now()))
	}
}

// admit takes n bytes for writing. It is false when the client reads so little that the connection ends.
func (p *peer) admit(n int64) bool {
	limit := int64(p.transport.options.Load().OutboundBytes)
	unsent := p.queued.Add(n) + p.buffered.Load()
	if unsent > limit {
		p.full.Store(true)
	}
	if unsent > closeFactor*limit {
		p.queued.Add(-n)
		p.Close(deaf(unsent))
		return false
	}
	return true
}

// relieved tells whether a connection that was full has room again. It is true once.
func (p *peer) relieved() bool {
	return p.full.Load() && p.unsent() <= int64(p.transport.options.Load().OutboundBytes)/2 && p.full.CompareAndSwap(true, false)
}

func (p *peer) unsent() int64 { return p.queued.Load() + p.buffered.Load() }

func deaf(unsent int64) error {
	return kite.Errorf(kite.Busy, "%d unsent bytes: the client does not read", unsent)
}

// overdue returns why the connection is to be closed that keeps the broker waiting, or nil.
func (p *peer) overdue(now time.Time) error {
	o := p.transport.options.Load()
	switch {
	case p.session.Group() == "" && now.Sub(p.opened) > o.UnauthenticatedTimeout:
		return fmt.Errorf("no ConnMeta within %v", o.UnauthenticatedTimeout)
	case p.partial.Load() > 0 && kite.UnixMs(now)-p.sinceMs.Load() > o.FrameTimeout.Milliseconds():
		return fmt.Errorf("a frame was not whole within %v", o.FrameTimeout)
	}
	return nil
}
