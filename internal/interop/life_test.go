package interop

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/conf"
)

// both runs a test with a client of each framing.
func both(t *testing.T, run func(t *testing.T, f framing)) {
	t.Helper()
	for _, f := range []framing{framingG, framingL} {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			run(t, f)
		})
	}
}

// TestLife is the whole life of an old client of each framing on one broker: handshake, heartbeat, every
// kind of publish, transactions with each verdict and each answer to a check, deliveries that are taken,
// refused and lost, and a reconnect.
func TestLife(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f framing) {
		d := newDirectory(t)
		d.bind("s-golden", "trade", "binding_direct")
		d.bind("s-regx", "trade", "binding_regx", `"persistent":false`, `"persistent":true`)
		d.fanout("s-fanout")
		b := d.start(func(c *conf.Config) {
			c.Transaction.First, c.Transaction.Longest = time.Second, 2*time.Second
		})
		l := life{t: t, b: b, f: f}
		l.handshake()
		t.Run("golden answers", l.golden)
		t.Run("publish and deliver", l.publish)
		t.Run("verdicts", l.verdicts)
		t.Run("checks", l.checks)
		t.Run("nacks", l.nacks)
		t.Run("reconnect", l.reconnect)
	})
}

type life struct {
	t                  *testing.T
	b                  *broker
	f                  framing
	producer, consumer *peer
}

// raw writes bytes of a vector and wants those of another, to the bit, but for the opaque when one is given.
func (p *peer) raw(send []byte, want string, opaque ...uint32) {
	p.t.Helper()
	p.write(send)
	expected := vector(p.t, want)
	if len(opaque) > 0 {
		fr, _, err := p.framing.cut(expected)
		if err != nil {
			p.t.Fatal(err)
		}
		fr.opaque = opaque[0]
		expected = p.framing.encode(fr)
	}
	if got := p.framing.encode(p.next()); !bytes.Equal(got, expected) {
		p.t.Fatalf("answered\n%x, want %s\n%x", got, want, expected)
	}
}

func (l *life) handshake() {
	l.producer, l.consumer = l.b.connect(l.t, l.f, "p-golden"), l.b.dial(l.t, l.f)
	meta, ok, ping, pong := "01_connmeta_go", "03_connauthack_ok", "06_heartbeat_ping", "07_heartbeat_pong"
	if l.f == framingL {
		meta, ok, ping, pong = "50_java_connmeta", "51_java_connauthack_ok", "52_java_heartbeat_ping", "53_java_heartbeat_pong"
	}
	l.consumer.raw(vector(l.t, meta), ok)
	l.consumer.raw(vector(l.t, ping), pong)
	l.consumer.join("s-golden", 0) // the golden handshake of Java asks for a warm-up of 10 seconds
	if l.f == framingL {
		php := l.b.dial(l.t, l.f)
		php.raw(vector(l.t, "59_php_connmeta"), "51_java_connauthack_ok")
		php.conn.Close()
	}
	warm := l.b.dial(l.t, framingG)
	warm.raw(vector(l.t, "02_connmeta_go_warmup"), "03_connauthack_ok")
	warm.conn.Close()
	eventually(l.t, func() string { // or some deliveries begin there
		if got := l.b.members("s-golden"); !slices.Equal(got, []string{l.consumer.conn.LocalAddr().String()}) {
			return "the connections that only shook hands are still members"
		}
		return ""
	})
}

// golden sends what the broker refuses, or does not keep.
func (l *life) golden(t *testing.T) {
	p := l.with(t, l.producer)
	if l.f == framingG {
		p.raw(vector(t, "19_bytes_bad_id"), "23_storeack_bad_id")
	}
	fly, min := vectorMessage(t, "18_bytes_fly"), vectorMessage(t, "11_bytes_min")
	for _, test := range []struct {
		message message
		want    string
	}{
		{min.head(headTopic, "aaa"), "22_storeack_bad_topic"},
		{min.head(headID, "0123456789abcdef0123456789abcde"), "23_storeack_bad_id"},
		{min.head(headID, "0123456789abcdef0123456789abcdeg"), "23_storeack_bad_id"},
		{min.head(headExpires, 1_700_000_000), "24_storeack_expired"},
		{fly.head(headType, "nobody-wants-this"), "26_storeack_fly_ok"},
		{fly.head(headCommit, false), "27_storeack_fly_uncommitted"},
	} {
		want := vectorMessage(t, test.want)
		if ok, feedback := p.publish(cmdBytes, test.message); ok != (want.number(2) == 1) || feedback != want.text(3) {
			t.Errorf("answered %v %q, want %v", ok, feedback, want)
		}
	}
}

// with is the peer in a subtest.
func (l *life) with(t *testing.T, p *peer) *peer {
	l.t.Helper()
	p.t = t
	return p
}

// publish sends every golden message. Who is bound gets it as it was, but for what a broker decides.
func (l *life) publish(t *testing.T) {
	p, c := l.with(t, l.producer), l.with(t, l.consumer)
	names := []string{"10_bytes_full", "11_bytes_min", "12_bytes_empty_body", "13_string_full", "14_string_min"}
	if l.f == framingG {
		names = append(names, "15_bytes_snappy", "16_string_snappy")
	} else {
		names = append(names, "54_java_string_message")
	}
	regx, fanout := l.b.connect(t, l.f, "s-regx"), l.b.connect(t, l.f, "s-fanout")
	for _, name := range names {
		cmd := byte(cmdBytes)
		if fr, _, _ := l.f.cut(vector(t, name)); l.f == framingG && fr.cmd == cmdString || name[3:9] == "string" || name[:2] == "54" {
			cmd = cmdString
		}
		m := vectorMessage(t, name).head(headID, newID())
		if m.sub(header).number(headExpires) < time.Now().Unix() {
			m = m.head(headExpires, -1)
		}
		before := time.Now().Unix()
		ok, feedback := p.publish(cmd, m)
		if !ok {
			t.Fatalf("%s is answered %q", name, feedback)
		}
		fan := fanout.take()
		got := c.take()
		if got.cmd != cmd || got.text(body) != m.text(body) || fan.id() != m.id() || got.id() != m.id() {
			t.Fatalf("%s came as %v and %v", name, got, fan)
		}
		created, expires := got.headN(headCreated), got.headN(headExpires)
		if want := m.sub(header).number(headCreated); want > 0 && created != want || want == 0 && (created < before || created > before+60) {
			t.Errorf("%s has createTime %d, sent %d at %d", name, created, want, before)
		}
		const week = 7 * 24 * 3600 // §5.2
		if want := min(before+week, uint64ToInt(m.sub(header).number(headExpires))); expires < before || want > 0 && expires != want && expires > before+week+60 {
			t.Errorf("%s has expiredTime %d, sent %d", name, expires, want)
		}
		// All else is byte for byte what was sent.
		same := func(m message) string {
			return hex.EncodeToString(m.with(header, m.sub(header).with(headCreated, nil).with(headExpires, nil)).encode())
		}
		if same(got.message) != same(m) {
			t.Errorf("%s changed:\n%v\n%v", name, m, got.message)
		}
		c.ack(got, true)
		fanout.ack(fan, true)
	}
	// pay-\d+ does not match pay-succ; a number does, and nobody else than it and fanout gets it.
	id := p.mustPublish(func(m message) message { return m.head(headType, "pay-42-again") })
	regx.consume(id)
	fanout.consume(id)
	c.quiet(300 * time.Millisecond)
	regx.conn.Close()
	fanout.conn.Close()
}

func uint64ToInt(n int64) int64 {
	if n <= 0 {
		return 1 << 62
	}
	return n
}

// verdicts ends transactions at once: what is committed comes, what is rolled back or unknown does not.
func (l *life) verdicts(t *testing.T) {
	p, c := l.with(t, l.producer), l.with(t, l.consumer)
	committed, rolledBack, unknown := p.prepare(nil), p.prepare(nil), p.prepare(nil)
	p.verdict(rolledBack, 2)
	p.verdict(unknown, 0)
	p.verdict(committed, 1)
	c.consume(committed.id())
	p.verdict(rolledBack, 1) // too late
	p.reply(p.check(unknown), 2, "")
	c.quiet(300 * time.Millisecond)
	p.alive()
}

// checks leaves transactions open: the broker asks, and asks again when the answer is unknown or none.
func (l *life) checks(t *testing.T) {
	p, c := l.with(t, l.producer), l.with(t, l.consumer)
	m := p.prepare(nil)
	check := p.check(m)
	if p.parse(check).sub(header).number(headCommit) != 0 {
		t.Errorf("the check says commit: %v", p.parse(check))
	}
	p.reply(check, 0, "later") // unknown
	p.check(m)                 // none: this one is not answered
	again := p.check(m)
	c.quiet(100 * time.Millisecond)
	p.reply(again, 1, "")
	c.consume(m.id())

	m = p.prepare(nil)
	p.reply(p.check(m), 2, "no such trade")
	p.quiet(2500 * time.Millisecond) // it is not asked about again
	c.quiet(100 * time.Millisecond)
}

// nacks refuses a delivery twice, as a listener that throws and as one that says no, and then takes it.
func (l *life) nacks(t *testing.T) {
	p, c := l.with(t, l.producer), l.with(t, l.consumer)
	id := p.mustPublish(nil)
	first := c.take()
	c.ack(first, false)
	second := c.take()
	c.send(cmdDeliverAck, second.opaque, c.ackMessage(second, false).with(6, "boom"))
	third := c.take()
	if first.id() != id || second.id() != id || third.id() != id || third.opaque == second.opaque {
		t.Errorf("deliveries %v, %v, %v of message %s", first, second, third, id)
	}
	c.ack(third, true)
	c.quiet(300 * time.Millisecond)
}

// reconnect loses the connection with a delivery unanswered. As with Go, what was in the client's queue
// comes before its ConnMeta (§1.5).
func (l *life) reconnect(t *testing.T) {
	p, c := l.with(t, l.producer), l.with(t, l.consumer)
	id := p.mustPublish(nil)
	if got := c.take(); got.id() != id {
		t.Fatalf("%v, want message %s", got, id)
	}
	c.conn.Close()
	waiting := p.mustPublish(nil)
	again := l.b.dial(t, l.f)
	again.alive()
	again.join("s-golden", 0)
	again.consume(id, waiting)
	again.alive()
}
