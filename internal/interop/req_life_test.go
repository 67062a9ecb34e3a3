package interop

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	libzk "github.com/go-zookeeper/zk"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/internal/zktest"
)

// reqConnMetaAgain says it three times, as Go does when the answer is late, and once for another group.
func reqConnMetaAgain(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	d.fanout("s-b")
	b := d.start(nil)
	p, often, once := b.connect(t, framingG, "p-golden"), b.dial(t, f), b.connect(t, f, "s-a")
	for range 3 {
		often.join("s-a", 0)
	}
	both := []string{often.conn.LocalAddr().String(), once.conn.LocalAddr().String()}
	slices.Sort(both)
	eventually(t, func() string {
		if got := b.members("s-a"); len(got) != 2 || !slices.Equal(slices.Sorted(slices.Values(got)), both) {
			return "the group has other members than its two connections"
		}
		return ""
	})
	// The choice between the two is even: of 200 each gets about a half.
	ids := make([]string, 200)
	counts := [2]int{}
	for n := range ids {
		ids[n] = p.mustPublish(nil)
		for i, c := range []*peer{often, once} {
			if fr, err := c.tryRead(time.Millisecond); err == nil {
				c.ack(delivery{fr, c.parse(fr)}, true)
				counts[i]++
			}
		}
	}
	for counts[0]+counts[1] < len(ids) {
		for i, c := range []*peer{often, once} {
			if fr, err := c.tryRead(10 * time.Millisecond); err == nil {
				c.ack(delivery{fr, c.parse(fr)}, true)
				counts[i]++
			}
		}
	}
	if counts[0] < 60 || counts[1] < 60 {
		t.Errorf("of 200 messages the connections got %v", counts)
	}
	once.conn.Close()
	often.join("s-b", 0)
	eventually(t, func() string {
		if len(b.members("s-a")) != 0 || len(b.members("s-b")) != 1 {
			return "the connection is not in its new group alone"
		}
		return ""
	})
	// s-b gets all 201, the other group's member is gone.
	last := p.mustPublish(nil)
	often.consume(append(ids, last)...)
}

func reqBeforeConnMeta(t *testing.T, f framing) {
	b := start(t, nil)
	p := b.dial(t, f)
	p.alive()
	p.alive()
	p.join("p-golden", 0)
	p.mustPublish(nil)
	for name, raw := range map[string][]byte{
		"publish":    p.encode(cmdBytes, 7, newMessage(t, f, cmdBytes)),
		"DeliverAck": p.encode(cmdDeliverAck, 7, vectorMessage(t, "31_deliverack_ok")),
		"TxACK":      p.encode(cmdTxAck, 7, vectorMessage(t, "44_txack_client_commit")),
	} {
		stranger := b.dial(t, f)
		stranger.write(raw)
		said := stranger.gone() // refuse, flush, close
		if len(said) != 1 {
			t.Errorf("%s was answered %v", name, said)
			continue
		}
		want := vectorMessage(t, "04_connauthack_refused_unsolicited").encode()
		if said[0].cmd != cmdConnAuth || said[0].opaque != 0 || string(said[0].payload) != string(want) {
			t.Errorf("%s was answered %#x %d %v", name, said[0].cmd, said[0].opaque, stranger.parse(said[0]))
		}
	}
}

// reqIdle leaves a connection alone for three times as long as one may be that has not said who it is. There
// is no other timeout.
func reqIdle(t *testing.T, f framing) {
	b := start(t, func(c *conf.Config) { c.Network.UnauthenticatedTimeout = time.Second })
	idle, stranger := b.connect(t, f, "s-a"), b.dial(t, f)
	stranger.gone()
	idle.quiet(3 * time.Second)
	idle.alive()
}

// reqStopOrder stops a broker while a client is connected: it is not found any more, it still serves, and
// then the connection closes.
func reqStopOrder(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(func(c *conf.Config) { c.DrainTimeout = 3 * time.Second })
	p, c := b.connect(t, f, "p-golden"), b.connect(t, f, "s-a")
	c.consume(p.mustPublish(nil))
	ended := make(chan error, 1)
	go func() { ended <- b.stop() }()
	d.until(b.node("trade"), false)
	d.until(b.node("message"), false)
	p.alive()
	c.consume(p.mustPublish(nil))
	select {
	case err := <-ended:
		t.Fatalf("the broker ended while clients were connected: %v", err)
	default:
	}
	p.gone()
	c.gone()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp4", b.Addr()); err == nil {
		conn.Close()
		t.Error("a stopped broker accepts connections")
	}
}

// freeAddr returns a loopback address that nobody listens on, nor on the one with the next port. It is below
// the ports that the kernel gives to connections, so that none of these takes it meanwhile.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+2*rand.IntN(6_000))
		if free(addr) && free(following(addr)) {
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

// following is the address with the next port.
func following(addr string) string {
	at := netip.MustParseAddrPort(addr)
	return netip.AddrPortFrom(at.Addr(), at.Port()+1).String()
}

func free(addr string) bool {
	l, err := net.Listen("tcp4", addr)
	if err == nil {
		l.Close()
	}
	return err == nil
}

// reqRestartGap starts a broker whose node is still there from an earlier session.
func reqRestartGap(t *testing.T, f framing) {
	d := newDirectory(t)
	addr := freeAddr(t)
	old := zktest.Raw(t, d.addr)
	d.create("/kiteq/server/trade", "")
	path := "/kiteq/server/trade/" + addr
	if _, err := old.Create(path, nil, libzk.FlagEphemeral, libzk.WorldACL(libzk.PermAll)); err != nil {
		t.Fatal(err)
	}
	leftover := d.stat(path)
	removed := make(chan time.Time, 1)
	b := d.launch(func(c *conf.Config) { c.Bind = addr }, controlNone)
	go func() {
		d.until(path, false)
		removed <- time.Now()
	}()
	at := <-removed
	p := b.dialAt(t, f, addr) // handshakes work already
	p.join("p-golden", 0)
	node := d.until(path, true)
	gap := time.Since(at)
	if node.EphemeralOwner == 0 || node.EphemeralOwner == leftover.EphemeralOwner {
		t.Errorf("the node belongs to %#x, the leftover belonged to %#x", node.EphemeralOwner, leftover.EphemeralOwner)
	}
	if gap < time.Second {
		t.Errorf("the node was absent for %v, want at least a second", gap)
	}
	p.mustPublish(nil)
}

// dialAt is dial for a broker that may not listen yet.
func (b *broker) dialAt(t *testing.T, f framing, addr string) *peer {
	t.Helper()
	var conn net.Conn
	eventually(t, func() (problem string) {
		var err error
		if conn, err = net.Dial("tcp4", addr); err != nil {
			return err.Error()
		}
		return ""
	})
	t.Cleanup(func() { conn.Close() })
	return &peer{t: t, conn: conn, framing: f}
}

// reqHandshakeFirst dials in the moment in which a broker can be found, again and again.
func reqHandshakeFirst(t *testing.T, f framing) {
	d := newDirectory(t)
	for range 3 {
		addr := freeAddr(t)
		b := d.launch(func(c *conf.Config) { c.Bind = addr }, controlNone)
		d.until("/kiteq/server/trade/"+addr, true)
		conn, err := net.Dial("tcp4", addr)
		if err != nil {
			t.Fatalf("found, and not there: %v", err)
		}
		t.Cleanup(func() { conn.Close() })
		p := &peer{t: t, conn: conn, framing: f}
		p.join("p-golden", 0)
		p.mustPublish(nil)
		conn.Close()
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// reqUnresponsive has a member that answers heartbeats and no deliveries, as a Go client does after it lost
// ZooKeeper.
func reqUnresponsive(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(func(c *conf.Config) {
		c.Delivery.AckTimeout = 300 * time.Millisecond
		c.InFlight = 90
	})
	p, deaf, good := b.connect(t, framingG, "p-golden"), b.connect(t, f, "s-a"), b.connect(t, f, "s-a")
	settle := func(n int) {
		t.Helper()
		want := map[string]bool{}
		for range n {
			want[p.mustPublish(nil)] = true
		}
		for len(want) > 0 {
			got := good.take()
			delete(want, got.id())
			good.ack(got, true)
		}
	}
	settle(30) // in the end all come to the member that answers
	if n := len(deaf.count(700 * time.Millisecond)); n < 3 || n > 60 {
		t.Fatalf("the deaf member got %d deliveries, want some, and fewer than would fill it", n)
	}
	deaf.alive()
	settle(60)
	if n := len(deaf.count(300 * time.Millisecond)); n > 0 {
		t.Errorf("the deaf member got %d more deliveries while another answers", n)
	}
}
