package interop

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/internal/zktest"
)

// reqTopicNodes looks at the nodes that Java must find when it starts.
func reqTopicNodes(t *testing.T, _ framing) {
	b := start(t, nil)
	for _, topic := range []string{"message", "trade"} {
		node := b.d.stat(b.node(topic))
		if node == nil || node.EphemeralOwner == 0 {
			t.Fatalf("the broker's node of %s: %+v", topic, node)
		}
		for _, path := range []string{"/kiteq", "/kiteq/server/" + topic, "/kiteq/sub/" + topic, "/kiteq/pub/" + topic} {
			stat := b.d.stat(path)
			if stat == nil || stat.EphemeralOwner != 0 {
				t.Fatalf("%s: %+v, want a persistent node", path, stat)
			}
			if stat.Czxid >= node.Czxid {
				t.Errorf("%s was made after the broker's node", path)
			}
		}
	}
	for path, persistent := range map[string]bool{"/kiteq/alive_servers/": false, "/kiteq/all_servers/": true} {
		if stat := b.d.stat(path + b.Addr()); stat == nil || (stat.EphemeralOwner == 0) != persistent {
			t.Errorf("%s: %+v", path+b.Addr(), stat)
		}
	}
}

// reqBindingsFirst publishes in the moment in which the broker can be found. A group that is not durable
// gets only what comes after its binding was read.
func reqBindingsFirst(t *testing.T, f framing) {
	d := newDirectory(t)
	d.bind("s-volatile", "trade", "binding_fanout", `"persistent":true`, `"persistent":false`)
	addr := freeAddr(t)
	b := d.launch(func(c *conf.Config) { c.Bind = addr }, controlNone)
	c := b.dialAt(t, f, addr) // before the broker can be found
	c.join("s-volatile", 0)
	d.until("/kiteq/server/trade/"+addr, true)
	p := b.dialAt(t, f, addr)
	p.join("p-golden", 0)
	c.consume(p.mustPublish(nil))
}

// reqNumeric binds to everything, to a name and to any port: what clients find can be dialled.
func reqNumeric(t *testing.T, _ framing) {
	for _, bind := range []string{"127.0.0.1:0", "localhost:0", ":0", "0.0.0.0:0"} {
		b := start(t, func(c *conf.Config) { c.Bind, c.AdminPort = bind, -1 })
		nodes, _, err := b.d.conn.Children("/kiteq/server/trade")
		if err != nil || len(nodes) != 1 {
			t.Fatalf("%s: nodes %q, %v", bind, nodes, err)
		}
		at, err := netip.ParseAddrPort(nodes[0])
		if err != nil || !at.Addr().Is4() || at.Addr().IsUnspecified() || at.Port() == 0 {
			t.Errorf("%s is published as %q, want a numeric ip:port", bind, nodes[0])
			continue
		}
		b.connect(t, framingG, "p-golden").mustPublish(nil) // b.Addr is what is published
	}
}

// reqSpacing announces more topics than a Go client's queue of events holds.
func reqSpacing(t *testing.T, _ framing) {
	b := start(t, func(c *conf.Config) {
		c.Topics = strings.Split("a b c d e f g h i j trade", " ")
	})
	var made []int64
	for _, topic := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "trade"} {
		made = append(made, b.d.stat(b.node(topic)).Ctime)
	}
	slices.Sort(made)
	for i := range made[1:] {
		if gap := made[i+1] - made[i]; gap < 10 {
			t.Errorf("a node was made %d ms after the one before", gap)
		}
	}
}

// linked starts a broker whose link to the registry can be cut.
func linked(t *testing.T, sessionTimeout time.Duration) (*broker, *zktest.Proxy) {
	t.Helper()
	d := newDirectory(t)
	link := zktest.NewProxy(t, d.addr)
	d.fanout("s-a")
	b := d.start(func(c *conf.Config) { c.ZKHost = fmt.Sprintf("zk://%s?timeout=%v", link.Addr(), sessionTimeout) })
	t.Cleanup(link.Heal) // or the broker's stop waits for its withdrawal
	return b, link
}

// reqDisconnect cuts the broker's link for a moment, and for longer than its session lasts. Clients are
// served all the time; bindings that came meanwhile are read, and those that went are gone.
func reqDisconnect(t *testing.T, f framing) {
	b, link := linked(t, 2*time.Second)
	d := b.d
	d.fanout("s-gone")
	b.bound("trade", "s-a", "s-gone")
	p, c := b.connect(t, f, "p-golden"), b.connect(t, f, "s-a")
	first := d.stat(b.node("trade"))

	link.Cut()
	c.consume(p.mustPublish(nil))
	link.Heal()
	d.fanout("s-new") // read in spite of the cut
	b.bound("trade", "s-a", "s-gone", "s-new")
	if node := d.stat(b.node("trade")); node == nil || node.Czxid != first.Czxid {
		t.Errorf("a disconnect changed the node: %+v, was %+v", node, first)
	}

	link.Cut()
	d.until(b.node("trade"), false)
	d.until(b.node("message"), false)
	c.consume(p.mustPublish(nil))
	d.delete(bindNode("s-gone", "trade"))
	d.fanout("s-late")
	link.Heal()
	node := d.until(b.node("trade"), true)
	d.until(b.node("message"), true)
	if node.EphemeralOwner == first.EphemeralOwner {
		t.Errorf("the session that ended is there again")
	}
	b.bound("trade", "s-a", "s-late", "s-new")
	c.consume(p.mustPublish(nil)) // on the connections from before
	d.fanout("s-last")            // and the watches are armed
	b.bound("trade", "s-a", "s-last", "s-late", "s-new")
}

// reqNodeExists starts brokers on topics that are there, at the same time.
func reqNodeExists(t *testing.T, _ framing) {
	d := newDirectory(t)
	d.create("/kiteq/sub/trade", "")
	d.create("/kiteq/all_servers", "")
	var brokers []*broker
	for range 4 {
		brokers = append(brokers, d.launch(nil, controlNone))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, b := range brokers {
		select {
		case <-b.Started():
		case <-ctx.Done():
			t.Fatal("a broker does not start")
		}
		d.until(b.node("trade"), true)
	}
}

// reqDropOneGroup makes and deletes a group's binding again and again while another's messages flow.
func reqDropOneGroup(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(nil)
	p, c := b.connect(t, f, "p-golden"), b.connect(t, f, "s-a")
	for n := range 20 {
		d.fanout("s-b")
		c.consume(p.mustPublish(nil))
		if n%5 == 0 {
			b.bound("trade", "s-a", "s-b")
		}
		d.delete(bindNode("s-b", "trade"))
		c.consume(p.mustPublish(nil))
	}
	b.bound("trade", "s-a")
	gone := b.connect(t, f, "s-b")
	c.consume(p.mustPublish(nil))
	gone.quiet(300 * time.Millisecond)
	// An empty list is no binding, either (§8.2).
	d.create(bindNode("s-a", "trade"), "[]")
	b.bound("trade")
	p.mustPublish(nil)
	c.quiet(300 * time.Millisecond)
}
