package mysql

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
)

// proxy passes connections on to the server, until a test stops it or has it lose the answer of a COMMIT.
type proxy struct {
	target   string
	listener net.Listener
	serving  sync.WaitGroup

	mu    sync.Mutex
	away  bool
	lose  loss // at the next COMMIT, and then the server is away
	conns map[net.Conn]bool
	tried chan struct{} // somebody dialled and was turned away
}

// loss says what becomes of a COMMIT.
type loss int

const (
	none   loss = iota
	before      // it does not reach the server
	after       // the server does it, and its answer is lost
)

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: target, listener: l, conns: map[net.Conn]bool{}, tried: make(chan struct{}, 1)}
	p.serving.Go(p.serve)
	t.Cleanup(func() {
		_ = l.Close()
		p.stop(none)
		p.cut()
		p.serving.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) serve() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		if !p.add(near, far) {
			_, _ = near.Close(), far.Close()
			select {
			case p.tried <- struct{}{}:
			default:
			}
			continue
		}
		link := &link{p: p, near: near, far: far}
		p.serving.Go(link.requests)
		p.serving.Go(link.answers)
	}
}

func (p *proxy) add(both ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return false
	}
	for _, c := range both {
		p.conns[c] = true
	}
	return true
}

// stop turns everybody away: at once, or from the next COMMIT on.
func (p *proxy) stop(at loss) {
	p.mu.Lock()
	p.lose, p.away = at, at == none
	p.mu.Unlock()
	if at == none {
		p.cut()
	}
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

// start lets everybody through again.
func (p *proxy) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = false
}

// take returns what to do with a COMMIT.
func (p *proxy) take() loss {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lose
	if l != none {
		p.lose, p.away = none, true
	}
	return l
}

type link struct {
	p         *proxy
	near, far net.Conn
	mu        sync.Mutex
	deaf      bool
}

func (l *link) close() { _, _ = l.near.Close(), l.far.Close() }

func (l *link) requests() {
	defer l.close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.near.Read(buffer)
		if err != nil {
			return
		}
		if bytes.Contains(buffer[:n], []byte("COMMIT")) {
			switch l.p.take() {
			case before:
				return
			case after:
				l.mu.Lock()
				l.deaf = true
				l.mu.Unlock()
			}
		}
		if _, err := l.far.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (l *link) answers() {
	defer l.close()
	_, _ = io.Copy(answerWriter{l}, l.far)
}

type answerWriter struct{ l *link }

func (w answerWriter) Write(b []byte) (int, error) {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	if w.l.deaf {
		return 0, net.ErrClosed
	}
	return w.l.near.Write(b)
}
