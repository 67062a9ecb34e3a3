package zk_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	libzk "github.com/go-zookeeper/zk"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/zktest"
	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/registry/zk"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

func mustNot(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listener accepts and lets serve have each connection, until the test ends.
func listener(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	mustNot(t, err)
	done := make(chan struct{})
	var open []net.Conn
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open = append(open, conn)
			serve(conn)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, conn := range open {
			_ = conn.Close()
		}
	})
	return l.Addr().String()
}

// TestServerThatNeverAnswers: the library would wait minutes for the handshake, and so would Close.
func TestServerThatNeverAnswers(t *testing.T) {
	t.Parallel()
	dialled := make(chan struct{}, 100)
	addr := listener(t, func(net.Conn) { dialled <- struct{}{} })
	reg := zktest.OpenRegistry(t, zk.Options{Hosts: []string{addr}, SessionTimeout: 100 * time.Millisecond})
	for range 3 { // the second handle and the third: the watchdog gave up the ones before
		select {
		case <-dialled:
		case <-time.After(patience):
			t.Fatal("a server that never answers is not dialled again")
		}
	}
	err := reg.Ready()
	if !errors.Is(err, kite.Unavailable) || !strings.Contains(err.Error(), addr) {
		t.Errorf("Ready is %v, want code %v and the address %s", err, kite.Unavailable, addr)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err = reg.CreateTopics(ctx, []string{"trade"})
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, kite.Unavailable) || !strings.Contains(err.Error(), addr) {
		t.Errorf("CreateTopics: %v, want the deadline, code %v and the address %s", err, kite.Unavailable, addr)
	}
	mustNot(t, reg.Close())
	for len(dialled) > 0 {
		<-dialled
	}
	patient := zktest.OpenRegistry(t, zk.Options{Hosts: []string{addr}})
	<-dialled
	began := time.Now()
	mustNot(t, patient.Close())
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Close took %v", took)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	mustNot(t, err)
	addr := l.Addr().String()
	mustNot(t, l.Close())
	refused := make(chan struct{}, 100)
	reg := zktest.OpenRegistry(t, zk.Options{Hosts: []string{addr}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		defer func() { refused <- struct{}{} }()
		return new(net.Dialer).DialContext(ctx, network, address)
	}})
	for range 2 { // the second attempt begins when the first was noted
		select {
		case <-refused:
		case <-time.After(patience):
			t.Fatal("nobody is dialled")
		}
	}
	if err := reg.Ready(); err == nil || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), addr) {
		t.Errorf("Ready is %v, want the address and that the connection was refused", err)
	}
}

func TestRunAndCloseOrder(t *testing.T) {
	t.Parallel()
	options := zk.Options{Hosts: []string{listener(t, func(net.Conn) {})}}
	quiet := slog.New(slog.DiscardHandler)
	closed, err := zk.Connect(options, quiet)
	mustNot(t, err)
	mustNot(t, closed.Close())
	mustNot(t, closed.Run(t.Context()))
	if err := closed.Bind(t.Context(), []kite.Binding{kite.Fanout("g", "t")}); !errors.Is(err, zk.ErrClosed) {
		t.Errorf("Bind after Close: %v, want %v", err, zk.ErrClosed)
	}
	if err := closed.WatchBrokers(t.Context(), []string{"t"}, func(registry.Brokers) {}); !errors.Is(err, zk.ErrClosed) {
		t.Errorf("WatchBrokers after Close: %v, want %v", err, zk.ErrClosed)
	}
	ended, err := zk.Connect(options, quiet)
	mustNot(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	mustNot(t, ended.Run(ctx))
	if err := ended.Ready(); !errors.Is(err, zk.ErrClosed) {
		t.Errorf("Ready after Run: %v, want %v", err, zk.ErrClosed)
	}
	if err := ended.Run(t.Context()); err == nil {
		t.Error("Run ran twice")
	}
	if _, err := zk.Connect(zk.Options{}, quiet); !errors.Is(err, kite.Invalid) {
		t.Errorf("Connect without hosts: %v, want code %v", err, kite.Invalid)
	}
}

// frames passes whole frames of the server on and, when deaf, drops those that tell of changes.
type frames struct {
	net.Conn
	deaf  *atomic.Bool
	drops *atomic.Int64
	frame []byte // what is left of the one that is passed on
}

func (f *frames) Read(p []byte) (int, error) {
	for len(f.frame) == 0 {
		var head [4]byte
		if _, err := io.ReadFull(f.Conn, head[:]); err != nil {
			return 0, err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(f.Conn, body); err != nil {
			return 0, err
		}
		if xid := int32(binary.BigEndian.Uint32(body)); xid == -1 && f.deaf.Load() { // the xid of events
			f.drops.Add(1)
			continue
		}
		f.frame = append(head[:], body...)
	}
	n := copy(p, f.frame)
	f.frame = f.frame[n:]
	return n, nil
}

func TestAgainstZooKeeper(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t)
	t.Run("lost event", func(t *testing.T) { t.Parallel(); lostEvent(t, server) })
	t.Run("digest ACLs", func(t *testing.T) { t.Parallel(); digestACLs(t, server) })
	t.Run("protected nodes", func(t *testing.T) { t.Parallel(); protectedNodes(t, server) })
	t.Run("without chroot", func(t *testing.T) { t.Parallel(); withoutChroot(t, server) })
	t.Run("taken address", func(t *testing.T) { t.Parallel(); takenAddress(t, server) })
}

// lostEvent: an event that never arrives is made good when the connection comes back.
func lostEvent(t *testing.T, server *zktest.Server) {
	var deaf atomic.Bool
	var drops atomic.Int64
	proxy := zktest.NewProxy(t, server.Addr())
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &frames{Conn: conn, deaf: &deaf, drops: &drops}, nil
	}
	options := zk.Options{Hosts: []string{proxy.Addr()}, Root: "/lost", SessionTimeout: zktest.MaxSession, Dial: dial}
	broker := zktest.OpenRegistry(t, options)
	options.Hosts, options.Dial = []string{server.Addr()}, nil
	other := zktest.OpenRegistry(t, options)

	mustNot(t, other.CreateTopics(t.Context(), []string{"trade"}))
	mustNot(t, other.Bind(t.Context(), []kite.Binding{kite.Fanout("s-a", "trade")}))
	seen := make(chan registry.Bindings, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- broker.WatchBindings(ctx, []string{"trade", "later"}, func(b registry.Bindings) { seen <- b })
	}()
	defer func() {
		cancel()
		mustNot(t, <-ended)
	}()
	until(t, seen, func(b registry.Bindings) bool { return len(b["trade"]) == 1 })
	deaf.Store(true)
	mustNot(t, other.Bind(t.Context(), []kite.Binding{kite.Direct("s-a", "trade", "x")}))
	mustNot(t, other.Bind(t.Context(), []kite.Binding{kite.Fanout("s-b", "trade"), kite.Fanout("s-b", "later")}))
	waitFor(t, "three events are lost", func() bool { return drops.Load() == 3 })
	proxy.Cut()
	proxy.Heal()
	until(t, seen, func(b registry.Bindings) bool {
		return len(b["trade"]) == 2 && b["trade"][0].Bindings[0].MessageType == "x" && len(b["later"]) == 1
	})
	deaf.Store(false)
	// That this node came was missed; who comes below it must be seen all the same.
	mustNot(t, other.Bind(t.Context(), []kite.Binding{kite.Fanout("s-c", "later")}))
	until(t, seen, func(b registry.Bindings) bool { return len(b["later"]) == 2 })
}

func until(t *testing.T, seen <-chan registry.Bindings, wanted func(registry.Bindings) bool) {
	t.Helper()
	deadline := time.After(patience)
	var last registry.Bindings
	for {
		select {
		case last = <-seen:
			if wanted(last) {
				return
			}
		case <-deadline:
			t.Fatalf("not seen; the last picture is %+v", last)
		}
	}
}

func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not reached: %s", what)
		}
	}
}

// protectedNodes: the digest opens what an operator closed; without it one closed bind node is named
// and hides no other.
func protectedNodes(t *testing.T, server *zktest.Server) {
	raw := zktest.Raw(t, server.Addr())
	mustNot(t, raw.AddAuth("digest", []byte("kite:secret")))
	options := zk.Options{Hosts: []string{server.Addr()}, Root: "/protected", SessionTimeout: zktest.MaxSession}
	stranger := zktest.OpenRegistry(t, options)
	options.Auth = "kite:secret"
	admitted := zktest.OpenRegistry(t, options)

	mustNot(t, stranger.Bind(t.Context(), []kite.Binding{kite.Fanout("s-open", "trade")}))
	mustNot(t, stranger.Bind(t.Context(), []kite.Binding{kite.Fanout("s-closed", "trade")}))
	closed := "/protected" + registry.BindingNode("trade", "s-closed")
	_, err := raw.SetACL(closed, libzk.DigestACL(libzk.PermAll, "kite", "secret"), -1)
	mustNot(t, err)

	for name, tc := range map[string]struct {
		reg *zk.Registry
		bad int
	}{"stranger": {stranger, 1}, "admitted": {admitted, 0}} {
		ctx, cancel := context.WithCancel(t.Context())
		err := tc.reg.WatchBindings(ctx, []string{"trade"}, func(b registry.Bindings) {
			defer cancel()
			got := b["trade"]
			if len(got) != 2 || got[0].Group != "s-closed" || len(got[0].Bad) != tc.bad || len(got[1].Bindings) != 1 {
				t.Errorf("%s sees %+v, want both groups, the closed one with %d errors", name, got, tc.bad)
			}
			if len(got) > 0 && tc.bad > 0 && !errors.Is(got[0].Bad[0], kite.Unauthorized) {
				t.Errorf("%s is told %v, want code %v", name, got[0].Bad[0], kite.Unauthorized)
			}
		})
		mustNot(t, err)
	}
	err = stranger.Bind(t.Context(), []kite.Binding{kite.Direct("s-closed", "trade", "x")})
	if !errors.Is(err, kite.Unauthorized) || !strings.Contains(err.Error(), "s-closed-bind") {
		t.Errorf("a stranger binds: %v, want code %v and the node", err, kite.Unauthorized)
	}
	mustNot(t, admitted.Bind(t.Context(), []kite.Binding{kite.Direct("s-closed", "trade", "x")}))
}

// withoutChroot: by default the nodes are exactly where existing clients look.
func withoutChroot(t *testing.T, server *zktest.Server) {
	reg := zktest.OpenRegistry(t, zk.Options{Hosts: []string{server.Addr()}, SessionTimeout: zktest.MaxSession})
	mustNot(t, reg.Announce(t.Context(), "10.0.0.1:13800", []string{"trade"}))
	raw := zktest.Raw(t, server.Addr())
	for path, ephemeral := range map[string]bool{
		"/kiteq":                              false,
		"/kiteq/server/trade":                 false,
		"/kiteq/sub/trade":                    false,
		"/kiteq/pub/trade":                    false,
		"/kiteq/all_servers/10.0.0.1:13800":   false,
		"/kiteq/server/trade/10.0.0.1:13800":  true,
		"/kiteq/alive_servers/10.0.0.1:13800": true,
	} {
		found, stat, err := raw.Exists(path)
		if err != nil || !found || (stat.EphemeralOwner != 0) != ephemeral {
			t.Errorf("%s: exists %v, error %v, stat %+v; want it, ephemeral %v", path, found, err, stat, ephemeral)
		}
		if acl, _, err := raw.GetACL(path); err != nil || len(acl) != 1 || acl[0] != libzk.WorldACL(libzk.PermAll)[0] {
			t.Errorf("%s has the ACL %v, error %v; want world:anyone", path, acl, err)
		}
	}
}

// takenAddress: two brokers that are given the same address hear of it instead of fighting for ever.
func takenAddress(t *testing.T, server *zktest.Server) {
	const root = "/taken"
	raw := zktest.Raw(t, server.Addr())
	node := root + registry.BrokerNode("trade", "10.0.0.1:13800")
	gap := 100 * time.Millisecond
	reg := zktest.OpenRegistry(t, zk.Options{Hosts: []string{server.Addr()}, Root: root, SessionTimeout: zktest.MaxSession, GapOnLeftover: gap})
	mustNot(t, reg.CreateTopics(t.Context(), []string{"trade"}))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // the other broker, which makes its node again whenever it is gone
		defer close(stopped)
		tick := time.NewTicker(gap / 10)
		defer tick.Stop()
		for {
			_, _ = raw.Create(node, nil, libzk.FlagEphemeral, libzk.WorldACL(libzk.PermAll))
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := reg.Announce(ctx, "10.0.0.1:13800", []string{"trade"})
	close(stop)
	<-stopped
	if !errors.Is(err, kite.Invalid) || !strings.Contains(err.Error(), "address") || !strings.Contains(err.Error(), "10.0.0.1:13800") {
		t.Errorf("announce a taken address: %v, want code %v and the advice", err, kite.Invalid)
	}
}
