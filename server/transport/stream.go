package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/kiteq/kiteq/handler/session"
)

// stream is a client's connection on the TLS port. Two goroutines serve it: the reader, which works for the
// handler, and the writer.
//
//	Write -> queue -> writer -> socket              any goroutine; while the handler works for the session
//	                                                it goes behind the reply
//	reader -> take -> handler -> reply -> queue
type stream struct {
	peer
	nc net.Conn

	turn sync.Mutex // held while the handler works for the session: one request at a time

	mu     sync.Mutex
	queue  []*session.Buffer
	behind []*session.Buffer // what was written while a read is under way: it leaves after its reply
	busy   bool              // a read is under way

	wake chan struct{} // 1: there is something to write, or the end
}

const (
	streamBuffer = 4 << 10  // bytes that an idle connection keeps for reading
	keepStream   = 64 << 10 // bytes that a connection keeps after a large frame
	joinBytes    = 64 << 10 // small buffers are written together, up to this
	// lingerTimeout is how long a connection that ends may take to get rid of what was written.
	lingerTimeout = time.Second
)

// Write implements session.Conn.
func (s *stream) Write(b *session.Buffer) {
	if s.closed.Load() || !s.admit(int64(len(b.B))) {
		b.Recycle()
		return
	}
	s.mu.Lock()
	if s.busy {
		s.behind = append(s.behind, b)
		s.mu.Unlock()
		return
	}
	s.queue = append(s.queue, b)
	s.mu.Unlock()
	s.ring()
}

// Run implements session.Conn.
func (s *stream) Run(work func()) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if !s.closed.Load() {
		work()
	}
}

// ring wakes the writer.
func (s *stream) ring() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// drop is the stream's hangUp: the reader ends at once, the writer after what is queued.
func (s *stream) drop() {
	now := time.Now()
	_ = s.nc.SetReadDeadline(now)
	_ = s.nc.SetWriteDeadline(now.Add(lingerTimeout))
	s.ring()
}

// serve reads until the connection ends, and returns when the writer has ended, too.
func (s *stream) serve() {
	var writer sync.WaitGroup
	writer.Go(s.write)
	err := s.read()
	s.closed.Store(true)
	s.drop()
	writer.Wait()
	_ = s.nc.Close()
	s.hold(0, false)
	s.transport.forget(&s.peer)
	s.turn.Lock()
	s.transport.handler.Closed(s.session)
	s.turn.Unlock()
	s.log().Debug("connection closed", "err", err)
}

// read hands on what comes.
func (s *stream) read() error {
	buf := make([]byte, 0, streamBuffer)
	for {
		if len(buf) == cap(buf) { // grows with what has come, not with what is announced
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, err := s.nc.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case s.closed.Load():
			return net.ErrClosed
		case n > 0 && len(buf) < s.wanted:
			s.hold(len(buf), false)
		case n > 0:
			used, err := s.handle(buf)
			if err != nil {
				s.failed(err)
				return err
			}
			rest := copy(buf, buf[used:])
			if buf = buf[:rest]; cap(buf) > keepStream && rest == 0 {
				buf = make([]byte, 0, streamBuffer)
			}
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// handle hands every whole frame of buf to the handler and queues the reply, and behind it what others wrote
// meanwhile.
func (s *stream) handle(buf []byte) (used int, err error) {
	s.mu.Lock()
	s.busy = true
	s.mu.Unlock()
	t := s.transport
	r := t.scratch.Get().(*reading)
	defer t.scratch.Put(r)
	s.turn.Lock()
	used, err = s.take(r, buf)
	s.turn.Unlock()
	if used > 0 {
		t.counters.read(used)
	}
	var reply *session.Buffer
	if len(r.reply) > 0 && s.admit(int64(len(r.reply))) {
		reply = session.NewBuffer()
		reply.B = append(reply.B, r.reply...)
	}
	s.mu.Lock()
	if reply != nil {
		s.queue = append(s.queue, reply)
	}
	s.queue = append(s.queue, s.behind...)
	clear(s.behind)
	s.behind, s.busy = s.behind[:0], false
	s.mu.Unlock()
	s.ring()
	return used, err
}

// write writes what is queued until the connection is closed and all of it has left, or cannot.
func (s *stream) write() {
	var taken []*session.Buffer
	var joined []byte
	var err error
	for range s.wake {
		for {
			ending := s.closed.Load()
			s.mu.Lock()
			taken, s.queue = s.queue, taken[:0]
			s.mu.Unlock()
			if len(taken) == 0 {
				if ending {
					return
				}
				break
			}
			joined, err = s.writeAll(taken, joined, err)
			clear(taken)
			if cap(taken) > keepQueue {
				taken = nil
			}
		}
		if s.relieved() {
			s.Run(func() { s.transport.handler.Writable(s.session) })
		}
	}
}

// writeAll writes the buffers, small ones together. After an error it only takes them back.
func (s *stream) writeAll(buffers []*session.Buffer, joined []byte, err error) ([]byte, error) {
	for _, b := range buffers {
		if err == nil && len(joined) > 0 && len(joined)+len(b.B) > joinBytes {
			err = s.writeOne(joined)
			joined = joined[:0]
		}
		switch {
		case err != nil:
		case len(b.B) >= joinBytes:
			err = s.writeOne(b.B)
		default:
			joined = append(joined, b.B...)
		}
		s.queued.Add(-int64(len(b.B)))
		b.Recycle()
	}
	if err == nil && len(joined) > 0 {
		err = s.writeOne(joined)
	}
	return joined[:0], err
}

func (s *stream) writeOne(b []byte) error {
	if _, err := s.nc.Write(b); err != nil {
		if s.closed.CompareAndSwap(false, true) {
			s.log().Debug("connection broken", "err", err)
			s.drop()
		}
		return err
	}
	s.transport.counters.wrote(int64(len(b)))
	return nil
}
