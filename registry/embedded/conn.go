package embedded

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// conn is one client's connection: a reader goroutine that hands requests to the owner, and a
// writer goroutine that hands the owner's bytes to the socket.
//
// Two bounds keep a client from taking memory. At most window requests are under way: the reader
// takes a place for each, and the writer gives it back when the reply is in the socket, so a client
// that does not read is not read either. What comes without a request, events, is bounded by
// MaxQueueBytes.
type conn struct {
	socket net.Conn
	remote string
	places chan struct{} // bound: window; full while that many requests are under way

	// Only the owner touches these.
	session  *session
	ids      []identity // ip first
	watched  map[watchKey]struct{}
	pending  encoder // bytes of the batch under way
	answered int     // requests of the batch under way
	oldest   time.Time
	dirty    bool
	ending   bool // the next flush is the last

	mu        sync.Mutex
	out       []byte // committed bytes for the writer
	freed     int    // places that go free when out is written
	finishing bool   // after out, no more
	closed    bool
	over      chan struct{} // closed with the connection
	wake      chan struct{} // bound: 1; out, finishing or closed have changed
}

const (
	// handshakeTimeout is how long a connection may wait with its first packet, and how long its last
	// bytes may take.
	handshakeTimeout = 10 * time.Second
	// lingerTimeout is how long a finished connection is read, and what it sends thrown away. Closing
	// at once with bytes unread makes TCP reset the connection, and the last reply may be lost.
	lingerTimeout = time.Second
)

func newConn(socket net.Conn) *conn {
	c := &conn{
		socket:  socket,
		remote:  socket.RemoteAddr().String(),
		places:  make(chan struct{}, window),
		watched: make(map[watchKey]struct{}),
		wake:    make(chan struct{}, 1),
		over:    make(chan struct{}),
	}
	ip := c.remote
	if addr, err := netip.ParseAddrPort(c.remote); err == nil {
		ip = addr.Addr().Unmap().WithZone("").String()
	}
	c.ids = []identity{{"ip", ip}}
	return c
}

// serve runs the connection until it is closed. It returns when nothing of it is left, with why the
// client was cut off, nil when it went by itself.
func (c *conn) serve(ctx context.Context, inbox chan<- inbound, o Options, words fourLetters) error {
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	var writer sync.WaitGroup
	writer.Go(c.write)
	err := c.read(ctx, inbox, o, words)
	if ctx.Err() != nil || !blamesClient(err) {
		err = nil
	}
	c.close()
	writer.Wait()
	select {
	case inbox <- inbound{conn: c, gone: true}:
	case <-ctx.Done():
	}
	return err
}

// blamesClient tells an error in what the client sent from an end of the connection.
func blamesClient(err error) bool {
	var netErr net.Error // a reset or a timeout
	return err != nil && !errors.As(err, &netErr) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) &&
		!errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
}

// read hands packets to the owner until the connection ends.
func (c *conn) read(ctx context.Context, inbox chan<- inbound, o Options, words fourLetters) error {
	r := bufio.NewReader(c.socket)
	c.socket.SetReadDeadline(time.Now().Add(handshakeTimeout))
	if first, err := r.Peek(4); err == nil {
		if answer, known := words.answer(string(first)); known {
			c.socket.SetWriteDeadline(time.Now().Add(handshakeTimeout))
			_, err := io.WriteString(c.socket, answer)
			return err
		}
	}
	packet, err := readPacket(r, o.MaxNodeBytes)
	if err != nil {
		return err
	}
	hello, err := decodeConnect(packet)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	c.socket.SetReadDeadline(time.Time{})
	in := inbound{conn: c, at: time.Now(), connect: &hello}
	for {
		select {
		case c.places <- struct{}{}:
		case <-c.over: // ctx's end closes it too
			return nil
		}
		select {
		case inbox <- in:
		case <-ctx.Done():
			return nil
		}
		if packet, err = readPacket(r, o.MaxNodeBytes); err != nil {
			return err
		}
		request, err := decodeRequest(packet)
		if err != nil {
			return err
		}
		in = inbound{conn: c, at: time.Now(), request: &request}
	}
}

// readPacket reads one packet into memory of its own. The length is checked before anything is allocated.
func readPacket(r io.Reader, limit int) ([]byte, error) {
	var header [4]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	n := int32(binary.BigEndian.Uint32(header[:]))
	if n < 0 || int(n) > limit {
		return nil, fmt.Errorf("packet of %d bytes: max node bytes is %d", n, limit)
	}
	packet := make([]byte, n)
	if _, err := io.ReadFull(r, packet); err != nil {
		return nil, err
	}
	return packet, nil
}

// flush hands the batch's bytes to the writer. It is called by the owner after the commit. It closes
// the connection and returns false when more than limit bytes wait there already.
func (c *conn) flush(limit int) bool {
	c.mu.Lock()
	if !c.closed {
		c.out = append(c.out, c.pending.b...)
	}
	c.freed += c.answered
	c.finishing = c.ending
	ok := len(c.out) <= limit
	c.mu.Unlock()
	if c.ending { // no session's end will close it, should the client not read
		c.socket.SetWriteDeadline(time.Now().Add(handshakeTimeout))
	}
	c.pending.b = recycle(c.pending.b)
	c.answered, c.oldest, c.dirty = 0, time.Time{}, false
	if !ok {
		c.close()
		return false
	}
	c.signal()
	return true
}

// finish closes the connection once this batch's bytes are written. Only the owner calls it.
func (c *conn) finish() { c.ending = true }

// close ends the connection now. It may be called by anybody, more than once.
func (c *conn) close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.over)
	}
	c.out = nil
	c.mu.Unlock()
	c.socket.Close()
	c.signal()
}

func (c *conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// write moves bytes to the socket until the connection is closed.
func (c *conn) write() {
	var spare []byte
	for range c.wake {
		c.mu.Lock()
		b, freed, finishing, closed := c.out, c.freed, c.finishing, c.closed
		c.out, c.freed = spare[:0], 0
		c.mu.Unlock()
		if len(b) > 0 && !closed {
			if _, err := c.socket.Write(b); err != nil {
				c.close()
			}
		}
		for range freed {
			<-c.places
		}
		if closed {
			return
		}
		if finishing {
			c.linger()
		}
		spare = recycle(b)
	}
}

// linger tells the client that nothing more comes, and lets the reader go on for a moment.
func (c *conn) linger() {
	c.socket.SetReadDeadline(time.Now().Add(lingerTimeout))
	if half, ok := c.socket.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		return
	}
	c.close()
}
