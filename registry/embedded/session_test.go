package embedded

import (
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-zookeeper/zk"
)

// The tests with a bubble run on virtual time, over pipes: what they say about times is exact.

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }

func TestSessionExpiresTimeoutAfterLastPacket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dial, s, stop := startPipes(t, Options{})
		defer stop()
		owner, watcher := dial(), dial()
		owner.connect(hello{timeout: 10 * time.Second})
		watcher.connect(hello{timeout: 40 * time.Second})
		owner.want(opCreate, encodeCreate("/e", "", flagEphemeral), codeOK)
		watcher.want(opExists, encodePathWatch("/e"), codeOK)
		pass(9 * time.Second)
		owner.want(opPing, nil, codeOK)
		last := time.Now()
		if got := watcher.event(); got != (seen{eventDeleted, "/e"}) {
			t.Errorf("event %v", got)
		}
		if after := time.Since(last); after < 10*time.Second || after > 10*time.Second+10*time.Millisecond {
			t.Errorf("expired %s after the last packet, want 10s", after)
		}
		if owner.receive() != nil {
			t.Error("the connection of the expired session goes on")
		}
		back := dial()
		back.connect(hello{session: owner.session, password: owner.password})
		if back.session != 0 || back.timeout != 0 {
			t.Error("an expired session was taken up again")
		}
		if got := s.Stats(); got.Expired != 1 || got.Sessions != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestSessionMovesToNewConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dial, _, stop := startPipes(t, Options{})
		defer stop()
		first := dial()
		first.connect(hello{timeout: 10 * time.Second})
		first.want(opCreate, encodeCreate("/e", "", flagEphemeral), codeOK)
		first.want(opExists, encodePathWatch("/later"), codeNoNode)
		pass(9 * time.Second)
		second := dial()
		second.connect(hello{session: first.session, password: first.password, timeout: 5 * time.Second})
		if second.session != first.session || second.timeout != 5*time.Second {
			t.Fatalf("session %d, timeout %s", second.session, second.timeout)
		}
		if first.receive() != nil {
			t.Error("the old connection goes on")
		}
		// The watch of the old connection is not the new one's: this is the reply, not an event.
		second.want(opCreate, encodeCreate("/later", "", 0), codeOK)
		pass(4 * time.Second)
		second.want(opExists, encodePathWatch("/e"), codeOK)
		pass(6 * time.Second)
		other := dial()
		other.connect(hello{timeout: 10 * time.Second})
		other.want(opExists, encodePathWatch("/e"), codeNoNode)
	})
}

func TestSessionOutlivesItsConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dial, s, stop := startPipes(t, Options{})
		defer stop()
		r, other := dial(), dial()
		other.connect(hello{timeout: 40 * time.Second})
		r.connect(hello{timeout: 10 * time.Second})
		r.want(opCreate, encodeCreate("/e", "", flagEphemeral), codeOK)
		r.socket.Close()
		synctest.Wait()
		if got := s.Stats(); got.Connections != 1 || got.Sessions != 2 {
			t.Errorf("after the cut: %+v", got)
		}
		pass(9 * time.Second)
		other.want(opExists, encodePath1("/e"), codeOK)
		pass(2 * time.Second)
		other.want(opExists, encodePath1("/e"), codeNoNode)
	})
}

func encodePath1(path string) func(*encoder) {
	return func(e *encoder) { e.text(path); e.bool(false) }
}

func TestManySessionsExpireInTheirOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dial, s, stop := startPipes(t, Options{})
		defer stop()
		const n = 30
		for i := range n {
			r := dial()
			r.connect(hello{timeout: time.Duration(5+i) * time.Second})
			r.socket.Close()
		}
		pass(4*time.Second + 500*time.Millisecond)
		for i := range n {
			synctest.Wait()
			if got := s.Stats().Sessions; got != int64(n-i) {
				t.Fatalf("%d sessions after %ds, want %d", got, i, n-i)
			}
			pass(time.Second)
		}
	})
}

// TestOwnerAwayCostsNoSession has the expiry timer ring late, as after a stopped process: packets may be
// waiting unread, so nobody expires for it.
func TestOwnerAwayCostsNoSession(t *testing.T) {
	t.Parallel()
	tests := []struct {
		late    time.Duration
		expired bool
	}{{0, true}, {stall / 2, true}, {2 * stall, false}, {time.Hour, false}}
	for _, tt := range tests {
		o := newOwner(Options{}.WithDefaults(), newTree(), nil, &counters{}, discardLog())
		now := time.Now()
		o.sessions.restore(o.tree, now)
		x := o.begin()
		o.do(x, change{kind: changeOpenSession, session: 1, timeoutMs: 1000})
		o.end(x)
		o.sessions.add(1, time.Second, now.Add(-time.Second-tt.late))
		due, _ := o.sessions.next()
		o.expire(due)
		if expired := o.sessions.byID[1] == nil; expired != tt.expired {
			t.Errorf("timer late by %s: expired %t, want %t", tt.late, expired, tt.expired)
		}
	}
}

func TestHandshakeTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dial, _, stop := startPipes(t, Options{})
		defer stop()
		begun := time.Now()
		if dial().receive() != nil {
			t.Error("an answer to nothing")
		}
		if after := time.Since(begun); after != handshakeTimeout {
			t.Errorf("closed after %s, want %s", after, handshakeTimeout)
		}
	})
}

func TestContainersAndTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dial, _, stop := startPipes(t, Options{ReapInterval: time.Second})
		defer stop()
		r := dial()
		r.connect(hello{timeout: 40 * time.Second})
		ttl := func(path string, ms int64) func(*encoder) {
			return func(e *encoder) { encodeCreate(path, "", flagTTL)(e); e.int64(ms) }
		}
		r.want(opCreateTTL, ttl("/t", 0), codeBadArguments)
		r.want(opCreate, encodeCreate("/t", "", flagTTL), codeBadArguments)
		r.want(opCreateTTL, ttl("/t", 5000), codeOK)
		r.want(opCreateTTL, ttl("/parent", 5000), codeOK)
		r.want(opCreate, encodeCreate("/parent/child", "", 0), codeOK)
		r.want(opCreateContainer, encodeCreate("/c", "", flagContainer), codeOK)
		r.want(opCreateContainer, encodeCreate("/unused", "", flagContainer), codeOK)
		r.want(opCreate, encodeCreate("/c/child", "", 0), codeOK)
		expect := func(want map[string]code) {
			t.Helper()
			for path, c := range want {
				if got := r.call(opExists, encodePath1(path)); got.code != c {
					t.Errorf("%s: %d, want %d", path, got.code, c)
				}
			}
		}
		pass(4500 * time.Millisecond)
		expect(map[string]code{"/t": 0, "/parent": 0, "/c": 0, "/unused": 0})
		r.want(opDelete, encodePathInt("/c/child", -1), codeOK)
		pass(3 * time.Second)
		expect(map[string]code{"/t": codeNoNode, "/parent": 0, "/c": codeNoNode, "/unused": 0})
		r.want(opDelete, encodePathInt("/parent/child", -1), codeOK)
		pass(2 * time.Second)
		expect(map[string]code{"/parent": codeNoNode})
	})
}

// TestClientCutAndBack cuts a go-zookeeper client's TCP connection.
func TestClientCutAndBack(t *testing.T) {
	t.Parallel()
	s := start(t, Options{})
	var mu sync.Mutex
	var socket net.Conn
	dialer := func(network, address string, timeout time.Duration) (net.Conn, error) {
		c, err := net.DialTimeout(network, address, timeout)
		mu.Lock()
		defer mu.Unlock()
		socket = c
		return c, err
	}
	events := make(chan zk.Event, 1000)
	c, _, err := zk.Connect([]string{s.Addr()}, generous, zk.WithLogger(quietLogger{}), zk.WithLogInfo(false),
		zk.WithDialer(dialer), zk.WithEventCallback(func(e zk.Event) { events <- e }))
	must(t, err)
	t.Cleanup(c.Close)
	awaitState(t, events, zk.StateHasSession)
	other := dial(t, s.Addr(), generous)
	id := c.SessionID()
	mustCreate(t, c, "/e", "", zk.FlagEphemeral)
	mustCreate(t, c, "/quiet", "", 0)
	_, _, children, err := c.ChildrenW("/")
	must(t, err)
	_, _, quiet, err := c.GetW("/quiet")
	must(t, err)
	mu.Lock()
	socket.Close()
	mu.Unlock()
	mustCreate(t, other, "/meanwhile", "", 0)
	awaitState(t, events, zk.StateHasSession)
	if c.SessionID() != id {
		t.Errorf("session 0x%x became 0x%x", id, c.SessionID())
	}
	// What changed during the cut is told, and what did not is watched again.
	awaitEvent(t, children, zk.EventNodeChildrenChanged, "/")
	if there, _, err := other.Exists("/e"); !there || err != nil {
		t.Errorf("ephemeral node after the cut: %t %v", there, err)
	}
	_, err = other.Set("/quiet", []byte("x"), -1)
	must(t, err)
	awaitEvent(t, quiet, zk.EventNodeDataChanged, "/quiet")
}

func TestClientKeepsSessionOverRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	c, events := dialEvents(t, s.Addr(), 30*time.Second)
	id := c.SessionID()
	mustCreate(t, c, "/e", "mine", zk.FlagEphemeral)
	mustCreate(t, c, "/p", "kept", 0)
	_, _, watch, err := c.GetW("/p")
	must(t, err)
	s.stop()
	again := start(t, Options{Dir: dir, Addr: s.Addr()})
	awaitState(t, events, zk.StateHasSession)
	if c.SessionID() != id {
		t.Errorf("session 0x%x became 0x%x", id, c.SessionID())
	}
	other := dial(t, again.Addr(), generous)
	data, stat, err := other.Get("/e")
	if err != nil || string(data) != "mine" || stat.EphemeralOwner != id {
		t.Errorf("ephemeral node: %q %+v %v", data, stat, err)
	}
	_, err = other.Set("/p", []byte("new"), 0)
	must(t, err)
	// c makes no request before this: go-zookeeper 1.0.4 has a data race between setting its watches
	// again and the reply to any request that it sends meanwhile.
	awaitEvent(t, watch, zk.EventNodeDataChanged, "/p")
	c.Close()
	if names, _, err := other.Children("/"); err != nil || slices.Contains(names, "e") {
		t.Errorf("after close: %v %v", names, err)
	}
}

// TestMemoryRestartExpiresClients: clients of lost data get a new session rather than none for ever.
func TestMemoryRestartExpiresClients(t *testing.T) {
	t.Parallel()
	s := start(t, Options{})
	c, events := dialEvents(t, s.Addr(), 30*time.Second)
	mustCreate(t, c, "/p", "", 0)
	s.stop()
	start(t, Options{Addr: s.Addr()})
	awaitState(t, events, zk.StateExpired)
	awaitState(t, events, zk.StateHasSession)
	if there, _, err := c.Exists("/p"); there || err != nil {
		t.Errorf("/p: %t %v", there, err)
	}
}

func TestSessionsExpireAfterRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	r := openRaw(t, s.Addr(), 300*time.Millisecond)
	r.want(opCreate, encodeCreate("/e", "", flagEphemeral), codeOK)
	s.stop()
	again := start(t, Options{Dir: dir})
	c := dial(t, again.Addr(), generous)
	there, _, gone, err := c.ExistsW("/e")
	must(t, err)
	if there {
		awaitEvent(t, gone, zk.EventNodeDeleted, "/e")
	}
	if got := again.Stats().Expired; got != 1 {
		t.Errorf("%d expired, want 1", got)
	}
}

// TestKilled kills the process in the middle of writing, again and again: what was answered is there,
// in order, and the sessions with it.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := 0
	var last *raw
	for round := range 5 {
		addr, kill := startKillable(t, dir)
		r := dialRaw(t, addr)
		if last != nil {
			r.connect(hello{session: last.session, password: last.password, timeout: time.Minute})
			if r.session != last.session {
				t.Fatalf("round %d: the session is gone", round)
			}
			r.want(opExists, encodePath1("/mine"), codeOK)
		} else {
			r.connect(hello{timeout: time.Minute})
			r.want(opCreate, encodeCreate("/mine", "", flagEphemeral), codeOK)
			r.want(opCreate, encodeCreate("/n", "", 0), codeOK)
		}
		counts := make(chan int)
		go func() {
			defer close(counts)
			for n := 1; ; n++ {
				if _, err := r.socket.Write(framed(ask(1, opCreate, encodeCreate("/n/", "", flagPersistentSequential)))); err != nil {
					return
				}
				if _, err := readPacket(r.socket, 1<<20); err != nil {
					return
				}
				counts <- n
			}
		}()
		for n := range counts {
			acked++
			if n == 50+round {
				kill()
			}
		}
		last = r
	}
	s := start(t, Options{Dir: dir})
	c := dial(t, s.Addr(), generous)
	names, _, err := c.Children("/n")
	must(t, err)
	// Each kill may leave one that was durable but not answered.
	if len(names) < acked || len(names) > acked+5 {
		t.Errorf("%d nodes, %d were answered", len(names), acked)
	}
	if there, _, err := c.Exists("/mine"); !there || err != nil {
		t.Errorf("/mine: %t %v", there, err)
	}
}
