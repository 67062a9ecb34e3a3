package interop

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/conf"
)

// reqTopics publishes to topics that sort before, between and behind those that are served.
func reqTopics(t *testing.T, f framing) {
	b := start(t, nil) // message, trade
	p := b.connect(t, f, "p-golden")
	for _, test := range []struct {
		topic string
		want  bool
	}{
		{"message", true}, {"trade", true},
		{"aaa-unknown", false}, {"nnn-unknown", false}, {"zzz-unknown", false}, {"trad", false}, {"trade2", false}, {"Trade", false}, {"", false},
	} {
		ok, feedback := p.publish(cmdString, newMessage(t, f, cmdString).head(headTopic, test.topic))
		if ok != test.want || !ok && feedback != "UnSupport Topic Message!" {
			t.Errorf("topic %q: %v %q", test.topic, ok, feedback)
		}
	}
}

// goldenPlain is what the original had compressed in the golden frames 15 and 16.
var goldenPlain = strings.Repeat("kiteq-snappy-", 8) //nolint:gochecknoglobals // a constant

// reqSnappy publishes compressed bodies as Go does. Java, C++ and PHP know nothing of it.
func reqSnappy(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(nil)
	p, c := b.connect(t, framingG, "p-golden"), b.connect(t, f, "s-a")
	for cmd, name := range map[byte]string{cmdBytes: "15_bytes_snappy", cmdString: "16_string_snappy"} {
		m := vectorMessage(t, name).head(headID, newID())
		if ok, feedback := p.publish(cmd, m); !ok {
			t.Fatal(feedback)
		}
		got := c.take()
		c.ack(got, true)
		want, flag := m.text(body), int64(1)
		if f == framingL {
			want, flag = goldenPlain, 0
		}
		if got.cmd != cmd || got.text(body) != want || got.headN(headSnappy) != flag {
			t.Errorf("%s came as %v", name, got)
		}
	}
}

// reqBadSnappy publishes bodies that say they are compressed and are not. They come as they are; the client
// refuses them with a feedback, and they come again.
func reqBadSnappy(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(nil)
	p, c := b.connect(t, framingG, "p-golden"), b.connect(t, f, "s-a")
	for cmd, bodies := range map[byte][]string{
		cmdBytes:  {"no snappy", "\xff\xff\xff\xff\x7f", ""},
		cmdString: {"no base64 ###", base64.StdEncoding.EncodeToString([]byte("no snappy")), ""},
	} {
		for _, text := range bodies {
			m := newMessage(t, framingG, cmd).head(headSnappy, true).with(body, text)
			if ok, feedback := p.publish(cmd, m); !ok {
				t.Fatal(feedback)
			}
			for _, take := range []bool{false, true} {
				got := c.take()
				if got.id() != m.id() || got.text(body) != text {
					t.Errorf("%q came as %v", text, got)
				}
				c.send(cmdDeliverAck, got.opaque, c.ackMessage(got, take).with(6, "cannot be decompressed"))
			}
		}
	}
}

// reqDeliveryFirst is answered true, once for each publish, whether the groups took it or not.
func reqDeliveryFirst(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(func(c *conf.Config) { c.DeliveryFirst = true })
	p := b.connect(t, f, "p-golden")
	offline := p.mustPublish(nil) // nobody is there: stored
	c := b.connect(t, f, "s-a")
	c.consume(offline)
	m := newMessage(t, f, cmdBytes)
	for n := range 3 { // delivered by then: the same id again is answered, too
		if ok, feedback := p.publish(cmdBytes, m); !ok {
			t.Errorf("publish %d is answered %s", n, feedback)
		}
		if n == 0 {
			c.consume(m.id())
		}
	}
	refused := p.mustPublish(nil)
	got := c.take()
	c.ack(got, false)
	c.consume(refused)
	open := p.prepare(nil)
	c.quiet(200 * time.Millisecond)
	p.verdict(open, 1)
	c.consume(open.id())
}

// reqUnknownVerdict decides about what the broker has never seen.
func reqUnknownVerdict(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(nil)
	p, c := b.connect(t, f, "p-golden"), b.connect(t, f, "s-a")
	nobody := vectorMessage(t, "17_bytes_tx_uncommitted")
	for status := range 3 {
		p.verdict(nobody.head(headID, newID()), status)
		p.verdict(nobody.head(headID, "no id"), status)
		p.verdict(nobody.head(headTopic, "none"), status)
	}
	p.send(cmdTxAck, 9, vectorMessage(t, "44_txack_client_commit").with(2, 77))
	p.alive()
	p.quiet(100 * time.Millisecond) // never an answer
	// A verdict that comes before its message decides nothing about it.
	m := nobody.head(headID, newID())
	p.verdict(m, 1)
	p.publish(cmdBytes, m)
	c.quiet(200 * time.Millisecond)
	p.verdict(m, 1)
	c.consume(m.id())
}

// reqVerdictElsewhere sends the verdict to a broker that does not have the message, as Java does.
func reqVerdictElsewhere(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	has := d.start(func(c *conf.Config) { c.Transaction.First = time.Second })
	other := d.start(nil)
	p, q := has.connect(t, f, "p-golden"), other.connect(t, f, "p-golden")
	c := has.connect(t, f, "s-a")
	m := p.prepare(nil)
	q.verdict(m, 1)
	q.alive()
	c.quiet(200 * time.Millisecond)
	p.reply(p.check(m), 1, "")
	c.consume(m.id())
}

func reqCommitTrue(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(func(c *conf.Config) { c.Transaction.First = 500 * time.Millisecond })
	p, c := b.connect(t, f, "p-golden"), b.connect(t, f, "s-a")
	for range 2 {
		byVerdict, byCheck := p.prepare(nil), p.prepare(nil)
		p.verdict(byVerdict, 1)
		p.reply(p.check(byCheck), 1, "")
		for range 2 {
			got := c.take()
			if got.headN(headCommit) != 1 {
				t.Errorf("delivered with commit=false: %v", got)
			}
			c.ack(got, true)
		}
	}
}

// reqFirstCheck waits before it asks, so that a listener which commits everything does not commit what is
// still under way.
func reqFirstCheck(t *testing.T, f framing) {
	const first = 1500 * time.Millisecond
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(func(c *conf.Config) { c.Transaction.First = first })
	p, c := b.connect(t, f, "p-golden"), b.connect(t, f, "s-a")
	begun := time.Now()
	decided, open := p.prepare(nil), p.prepare(nil)
	b.connect(t, f, "p-golden").conn.Close() // a new member is no reason to ask sooner
	p.verdict(decided, 2)
	check := p.check(open)
	if passed := time.Since(begun); passed < first-50*time.Millisecond {
		t.Errorf("asked after %v, want %v", passed, first)
	}
	p.reply(check, 1, "") // what the default listeners say
	c.consume(open.id())
	p.quiet(500 * time.Millisecond) // not about what was decided
}

// reqChecks answers "unknown" as long as the message lives.
func reqChecks(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(func(c *conf.Config) {
		c.Transaction.First, c.Transaction.Longest = 300*time.Millisecond, 2*time.Second
	})
	p, c := b.connect(t, f, "p-golden"), b.connect(t, f, "s-a")
	m := p.prepare(func(m message) message { return m.head(headExpires, time.Now().Unix()+12) })
	var at []time.Time
	for range 4 {
		p.reply(p.check(m), 0, "later")
		at = append(at, time.Now())
	}
	// At the pace of the first check it would be 900 ms.
	if passed := at[3].Sub(at[0]); passed < 1500*time.Millisecond {
		t.Errorf("no back-off: three checks in %v after the first", passed)
	}
	left := time.Until(time.Unix(m.sub(header).number(headExpires)+1, 0))
	c.quiet(max(left, time.Millisecond))
	for { // what was asked before the end
		if fr, err := p.tryRead(10 * time.Millisecond); err != nil || fr.cmd != cmdTxAck {
			break
		}
	}
	p.quiet(3 * time.Second) // over the longest pause
	p.verdict(m, 1)          // too late
	c.quiet(300 * time.Millisecond)
}

// reqOutstanding takes as many deliveries as a connection may have, and one more for each answer.
func reqOutstanding(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(func(c *conf.Config) { c.InFlight = 5 })
	p, c := b.connect(t, framingG, "p-golden"), b.connect(t, f, "s-a")
	var ids []string
	for range 20 {
		ids = append(ids, p.mustPublish(nil))
	}
	got := c.count(500 * time.Millisecond)
	for n := range ids {
		if want := min(5, len(ids)-n); len(got) != want {
			t.Fatalf("%d deliveries are unanswered after %d answers, want %d", len(got), n, want)
		}
		if i := slices.Index(ids, got[0].id()); i < 0 {
			t.Fatalf("%v", got[0])
		}
		c.ack(got[0], true)
		got = got[1:]
		if n+5 < len(ids) {
			got = append(got, c.take())
		}
	}
	c.quiet(200 * time.Millisecond)
}

// reqStoreAckSoon publishes while five groups take everything and answer nothing.
func reqStoreAckSoon(t *testing.T, f framing) {
	d := newDirectory(t)
	groups := []string{"s-a", "s-b", "s-c", "s-d", "s-e"}
	for _, group := range groups {
		d.fanout(group)
	}
	b := d.start(func(c *conf.Config) { c.Delivery.AckTimeout = 200 * time.Millisecond })
	b.bound("trade", groups...)
	for _, group := range groups {
		b.connect(t, f, group)
	}
	p := b.connect(t, f, "p-golden")
	var slowest time.Duration
	for range 300 {
		before := time.Now()
		p.mustPublish(nil)
		slowest = max(slowest, time.Since(before))
	}
	t.Logf("slowest StoreAck: %v", slowest)
	if slowest > time.Second {
		t.Errorf("a StoreAck took %v; C++ and PHP wait for 1 s", slowest)
	}
}

// reqTxAckAnyOpaque decides with numbers that mean something else, or nothing.
func reqTxAckAnyOpaque(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(nil)
	p, c := b.connect(t, f, "p-golden"), b.connect(t, f, "s-a")
	for _, opaque := range []uint32{0, 1, p.last, 0x7fffffff, 0x80000001, 0xc0000001, 0xffffffff} {
		m := p.prepare(nil)
		p.send(cmdTxAck, opaque, vectorMessage(t, "44_txack_client_commit").with(header, m.sub(header)))
		c.consume(m.id())
	}
	// On another connection, even of another group.
	m := p.prepare(nil)
	b.connect(t, f, "p-other").verdict(m, 1)
	c.consume(m.id())
	p.quiet(100 * time.Millisecond)
}

// reqHTTP looks at what the operators' tools read.
func reqHTTP(t *testing.T, _ framing) {
	d := newDirectory(t)
	d.bind("s-a", "trade", "binding_direct")
	d.fanout("s-b")
	addr := freeAddr(t)
	b := d.start(func(c *conf.Config) { c.Bind = addr })
	if want := following(addr); b.AdminAddr() != want {
		t.Errorf("HTTP on %s, want %s", b.AdminAddr(), want)
	}
	b.bound("trade", "s-a", "s-b")
	var answer binds
	b.get("/binds", &answer)
	for group, limit := range map[string]int{"s-a": 1000, "s-b": 8000} { // as the golden bindings say
		if l := answer.Limiters["trade"][group]; len(l) != 2 || l[1] > limit || l[1] < min(limit, 6000) {
			t.Errorf("limiter of %s: %v", group, l)
		}
	}
	var stat struct {
		Kiteq   map[string]any
		Network map[string]any
	}
	text := b.get("/stat", &stat)
	for _, key := range []string{"goroutine", "deliver_go", "deliver_count", "recieve_count", "message_count", "topics_deliver", "topics_recieve", "groups", "accept_limiter"} {
		if _, ok := stat.Kiteq[key]; !ok {
			t.Errorf("/stat has no %s: %s", key, text)
		}
	}
	for _, key := range []string{"read_count", "read_bytes", "write_count", "write_bytes", "dispool_size", "dispool_cap", "dispatcher_go", "connections"} {
		if _, ok := stat.Network[key]; !ok {
			t.Errorf("/stat has no %s: %s", key, text)
		}
	}
	if limiter, ok := stat.Kiteq["accept_limiter"].([]any); !ok || len(limiter) != 2 || limiter[1].(float64) <= 0 {
		t.Errorf("kiteq-ops divides by accept_limiter[1]: %s", text)
	}
	var reloaded struct {
		Status int
		Topics []string
	}
	if text := b.get("/reload", &reloaded); reloaded.Status != 200 {
		t.Errorf("/reload: %s", text)
	}
}
