package zk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

// session is one ZooKeeper session. Its handle may already have a newer one.
type session struct {
	conn *zk.Conn
	id   int64
	root string
	acls acls
	done sync.Map      // string -> true: nodes whose ACL is known to be right
	over chan struct{} // closed when the server has expired it or its handle is given up
}

// link is how things stand with ZooKeeper. The supervisor replaces it whole.
type link struct {
	session *session      // the newest one; it stays while the connection is down
	up      bool          // the session is connected
	opened  int64         // the handle's count; a watch compares when it changes within a session
	changed chan struct{} // closed when this link is replaced
}

// handle is one connection object of the library and what it needs around it.
type handle struct {
	conn   *zk.Conn
	events <-chan zk.Event // only its end counts: the library's goroutines are done
	wake   chan struct{}   // something changed
	opened atomic.Int64    // how often a connection got its session, seen or not
	socket *socket
	cancel context.CancelFunc
}

func (r *Registry) current() link {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.link
}

// setLink replaces the link. Only the supervisor calls it.
func (r *Registry) setLink(s *session, up bool, opened int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.link
	r.link = link{session: s, up: up, opened: opened, changed: make(chan struct{})}
	if !up && old.up {
		r.reason = errors.New("the connection is lost")
	}
	if old.session != nil && old.session != s {
		close(old.session.over)
	}
	close(old.changed)
}

func (r *Registry) setReason(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason = err
}

// supervise keeps a handle open until ctx ends.
func (r *Registry) supervise(ctx context.Context) {
	for ctx.Err() == nil {
		h, err := r.open(ctx)
		if err == nil {
			err = r.follow(ctx, h)
			r.setLink(nil, false, 0)
			h.close(r.log)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		r.setReason(err)
		r.log.Warn("zookeeper is given up for a moment", "err", err)
		if r.pause(ctx, jitter(time.Second)) != nil {
			return
		}
	}
}

// open starts the library. It fails when no host's name is known.
func (r *Registry) open(ctx context.Context) (*handle, error) {
	// The library's dials and sockets end with this context, whatever the library waits for.
	ctx, cancel := context.WithCancel(ctx)
	h := &handle{wake: make(chan struct{}, 1), socket: &socket{}, cancel: cancel}
	dial := func(network, address string, _ time.Duration) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, r.o.ConnectTimeout)
		defer cancel()
		conn, err := r.o.Dial(ctx, network, address)
		if err != nil {
			r.setReason(err)
			return nil, err
		}
		r.setReason(fmt.Errorf("%s accepts connections but opens no session", address))
		return h.socket.swap(conn)
	}
	var err error
	h.conn, h.events, err = zk.Connect(r.o.Hosts, r.o.SessionTimeout,
		zk.WithDialer(dial),
		zk.WithLogger(quiet{r.log}),
		zk.WithLogInfo(false),
		// Called with a lock of the library held: mark and signal, nothing else.
		zk.WithEventCallback(func(e zk.Event) {
			if e.Type != zk.EventSession {
				r.hub.mark(e.Path)
				return
			}
			if e.State == zk.StateHasSession {
				h.opened.Add(1)
			}
			select {
			case h.wake <- struct{}{}:
			default:
			}
		}))
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open a handle for %v: %w", r.o.Hosts, err)
	}
	return h, nil
}

// patience is how many session timeouts may pass without a session before the handle is given up.
const patience = 3

// settle is how long a new connection is left alone. The library tells of it before it has read, without
// a lock, the zxid that the first answer writes (conn.go, loop and sendSetWatches, v1.0.4).
const settle = 20 * time.Millisecond

// follow publishes how the handle stands until ctx ends. It returns nil when the handle is given up
// because no session came back, and an error when the server does not let us in.
//
// Signals may be merged, so it looks at the state of now and not at a history: what matters is
// whether there is a session, whether its number is still the same, and whether the count of opened
// connections grew, which tells of a disconnect that was over before it was seen.
func (r *Registry) follow(ctx context.Context, h *handle) error {
	limit := patience * r.o.SessionTimeout
	watchdog := time.NewTimer(limit)
	defer watchdog.Stop()
	admitted := r.o.Auth == ""
	settled := int64(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watchdog.C:
			r.log.Warn("no zookeeper session for too long, connecting anew", "dur", limit)
			return nil
		case <-h.wake:
		}
		l := r.current()
		opened, id := h.opened.Load(), h.conn.SessionID() // the count first: an event after it wakes us again
		if h.conn.State() != zk.StateHasSession || id == 0 {
			if l.up {
				r.setLink(l.session, false, l.opened)
				r.log.Warn("zookeeper connection lost", "session", fmt.Sprintf("%#x", l.session.id))
				watchdog.Reset(limit)
			}
			continue
		}
		if settled != opened {
			if r.pause(ctx, settle) != nil {
				return nil
			}
			settled = opened
			if h.conn.State() != zk.StateHasSession || h.opened.Load() != opened {
				continue // the change wakes us again
			}
		}
		if !admitted {
			switch err := r.authenticate(ctx, h.conn); {
			case err != nil && !transient(err):
				return fmt.Errorf("authenticate: %w", err)
			case err != nil:
				continue // the loss that caused it wakes us
			}
			admitted = true // the library repeats it on every connection from here on
		}
		watchdog.Stop()
		r.connected(l, h.conn, id, opened)
	}
}

// connected publishes that the session id has a connection.
func (r *Registry) connected(l link, conn *zk.Conn, id, opened int64) {
	attrs := []any{"session", fmt.Sprintf("%#x", id), "server", conn.Server()}
	switch {
	case l.session == nil || l.session.conn != conn || l.session.id != id:
		if l.session != nil {
			r.log.Warn("zookeeper session expired", "session", fmt.Sprintf("%#x", l.session.id))
		}
		r.setLink(&session{conn: conn, id: id, root: r.o.Root, acls: r.o.acls(), over: make(chan struct{})}, true, opened)
		r.log.Info("zookeeper session opened", attrs...)
	case !l.up || l.opened != opened:
		r.setLink(l.session, true, opened)
		r.log.Info("zookeeper connection resumed", attrs...)
	}
}

func (r *Registry) authenticate(ctx context.Context, conn *zk.Conn) error {
	s := &session{conn: conn, over: make(chan struct{})}
	_, err := ask(ctx, s, func(c *zk.Conn) (struct{}, error) {
		return struct{}{}, c.AddAuth("digest", []byte(r.o.Auth))
	})
	return err
}

// endPatience is how long the library's goroutines may take to end once nothing connects them any more. It is
// an instant, or for ever: v1.0.4 answers a request up to three times when its write fails while the handle is
// closed, or in the resending of credentials, into a channel of two or one that nobody reads (conn.go, sendData
// and flushRequests).
const endPatience = 3 * time.Second

// close ends the session and waits for the library's goroutines, unless they are stuck. A connected server has
// one second to confirm; it then knows that the ephemeral nodes go at once.
func (h *handle) close(log *slog.Logger) {
	if h.conn.State() != zk.StateHasSession {
		h.cut() // nobody to tell: do not wait for the library's time-outs
	}
	h.conn.Close()
	h.cut()
	late := time.NewTimer(endPatience)
	defer late.Stop()
	for {
		select {
		case _, more := <-h.events:
			if !more {
				return
			}
		case <-late.C:
			log.Warn("the zookeeper library is stuck, one goroutine is left behind")
			return
		}
	}
}

func (h *handle) cut() {
	h.cancel()
	h.socket.cut()
}

// socket holds the one socket that the library uses. The library forgets to close the socket on which it
// was told that a session expired, and waits long on one that never answers; both end here.
type socket struct {
	mu   sync.Mutex
	conn net.Conn
	dead bool
}

func (l *socket) swap(conn net.Conn) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		_ = l.conn.Close()
	}
	l.conn = conn
	if l.dead {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l *socket) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	if l.conn != nil {
		_ = l.conn.Close()
	}
}
