package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/kiteq/kiteq/internal/protocol"
)

// firstOpaque is the first number of our requests: none of a broker that counts from 1 meets it.
const firstOpaque = 0x80000000

// link is a raw connection to a broker after the handshake. One goroutine reads, one writes.
type link struct {
	conn   net.Conn
	in     []byte // in[from:to] is read and not taken
	from   int
	to     int
	opaque uint32
}

// dial connects and introduces a member of the group. room is the buffer for reading, bytes; it grows.
func dial(ctx context.Context, addr string, who protocol.ConnMeta, room int, patience time.Duration) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	l := &link{conn: conn, in: make([]byte, room), opaque: firstOpaque}
	err = l.greet(who)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("introduce group %s to %s: %w", who.GroupID, addr, err)
	}
	return l, nil
}

func (l *link) greet(who protocol.ConnMeta) error {
	if _, err := l.conn.Write(protocol.AppendConnMeta(nil, protocol.FramingG, l.number(), who)); err != nil {
		return err
	}
	f, err := l.next()
	if err != nil {
		return err
	}
	if f.Command != protocol.CmdConnAuthAck {
		return fmt.Errorf("the broker answered with %v", f.Command)
	}
	ack, err := protocol.DecodeConnAuthAck(f.Payload)
	if err == nil && !ack.OK {
		err = fmt.Errorf("the broker refused: %s", ack.Feedback)
	}
	return err
}

// number returns a fresh opaque, never 0.
func (l *link) number() uint32 {
	l.opaque = l.opaque + 1 | firstOpaque
	return l.opaque
}

// next returns the next frame. It is valid until the next call.
func (l *link) next() (protocol.Frame, error) {
	for {
		f, n, err := protocol.FramingG.Next(l.in[l.from:l.to])
		if err != nil {
			return f, err
		}
		if n > 0 {
			l.from += n
			return f, nil
		}
		l.to = copy(l.in, l.in[l.from:l.to])
		l.from = 0
		if l.to == len(l.in) {
			l.in = append(l.in, make([]byte, len(l.in))...)
		}
		n, err = l.conn.Read(l.in[l.to:])
		l.to += n
		if n == 0 && err != nil {
			return f, err
		}
	}
}

// more tells whether next would return without reading.
func (l *link) more() bool {
	_, n, err := protocol.FramingG.Next(l.in[l.from:l.to])
	return n > 0 || err != nil
}

func (l *link) close() { _ = l.conn.Close() }
