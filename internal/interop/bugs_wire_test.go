package interop

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/conf"
)

// The tests of this and the next file are named by the entries of the contract's list of the original's
// bugs, §11, as far as they concern a broker. Each does what went wrong there.

// TestBug01_JavaGetsNoAnswer shakes hands as Java does.
func TestBug01_JavaGetsNoAnswer(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	b.dial(t, framingL).raw(vector(t, "50_java_connmeta"), "51_java_connauthack_ok")
}

// TestBug02_OpaqueZeroIsReplaced asks with opaque 0.
func TestBug02_OpaqueZeroIsReplaced(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f framing) {
		b := start(t, nil)
		p := b.connect(t, f, "p-golden")
		p.send(cmdBytes, 0, newMessage(t, f, cmdBytes))
		if fr := p.next(); fr.opaque != 0 || fr.cmd != cmdStoreAck {
			t.Errorf("publish with opaque 0 is answered %#x with %d", fr.cmd, fr.opaque)
		}
	})
}

// TestBug03_RepliesTakenForRequests sends heartbeats, with the opaque of a delivery that is under way, on
// every connection: the original then missed the DeliverAck and delivered again.
func TestBug03_RepliesTakenForRequests(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f framing) {
		d := newDirectory(t)
		d.fanout("s-a")
		b := d.start(func(c *conf.Config) { c.Delivery.AckTimeout = 500 * time.Millisecond })
		p, c, other := b.connect(t, f, "p-golden"), b.connect(t, f, "s-a"), b.connect(t, f.other(), "s-other")
		id := p.mustPublish(nil)
		got := c.take()
		for _, q := range []*peer{c, other, p} {
			q.send(cmdHeartbeat, got.opaque, message{}.with(1, 1))
			if fr := q.answer(got.opaque); fr.cmd != cmdHeartbeat {
				t.Fatalf("%#x", fr.cmd)
			}
		}
		other.send(cmdDeliverAck, got.opaque, other.ackMessage(got, false)) // a stranger's word counts for nothing
		c.ack(got, true)
		c.quiet(1200 * time.Millisecond)
		if got.id() != id {
			t.Errorf("%v", got)
		}
	})
}

// TestBug04_OversizedFrameHalfKillsTheConnection sends one: the connection is closed, and not left open
// without a reader.
func TestBug04_OversizedFrameHalfKillsTheConnection(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	p := b.connect(t, framingG, "p-golden")
	p.write(append(vector(t, "90_header_too_large"), make([]byte, 1000)...))
	p.gone()
	p = b.connect(t, framingG, "p-golden") // a negative length put the original out of step
	p.write(append([]byte{0, 0, 0, 3, cmdBytes, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, vector(t, "06_heartbeat_ping")...))
	if said := p.gone(); len(said) > 0 {
		t.Errorf("a stream out of step was answered: %v", said)
	}
}

// TestBug08_ReaderBlockedByDeliveries has groups that take all and answer nothing while the broker must go
// on reading, also what consumers answer at last.
func TestBug08_ReaderBlockedByDeliveries(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	groups := []string{"s-a", "s-b", "s-c", "s-d"}
	for _, group := range groups {
		d.fanout(group)
	}
	b := d.start(func(c *conf.Config) { c.InFlight = 90 })
	b.bound("trade", groups...)
	p := b.connect(t, framingG, "p-golden")
	var deaf []*peer
	for n := range 12 {
		deaf = append(deaf, b.connect(t, framingG, groups[n%4]))
	}
	for range 1100 { // the original's pool held 1000
		p.mustPublish(nil)
	}
	for _, c := range deaf {
		c.alive()
	}
	answered := 0
	for _, c := range deaf[:4] {
		for _, fr := range slices.Clone(c.waiting) {
			if got := (delivery{fr, c.parse(fr)}); got.isMessage() {
				c.ack(got, true)
				answered++
			}
		}
		c.waiting = nil
		if got := c.take(); got.id() == "" { // each answer makes room for another
			t.Errorf("%v", got)
		}
	}
	if answered == 0 {
		t.Error("nothing was delivered")
	}
}

// TestBug09_UnauthorizedIsLost speaks before ConnMeta, often: the words come before the end each time.
func TestBug09_UnauthorizedIsLost(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f framing) {
		b := start(t, nil)
		for n := range 30 {
			p := b.dial(t, f)
			p.send(cmdBytes, p.opaque(), newMessage(t, f, cmdBytes))
			if said := p.gone(); len(said) != 1 || said[0].cmd != cmdConnAuth || p.parse(said[0]).text(2) != "Unauthorized,Connection broken!" {
				t.Fatalf("trial %d: %v", n, said)
			}
		}
	})
}

// TestBug10_RepeatedConnMetaCountsTwice introduces a connection five times.
func TestBug10_RepeatedConnMetaCountsTwice(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f framing) {
		d := newDirectory(t)
		d.fanout("s-a")
		b := d.start(nil)
		p, c := b.connect(t, framingG, "p-golden"), b.dial(t, f)
		for range 5 {
			c.join("s-a", 0)
		}
		eventually(t, func() string {
			if got := b.members("s-a"); len(got) != 1 {
				return fmt.Sprintf("members %q", got)
			}
			return ""
		})
		c.consume(p.mustPublish(nil))
		c.quiet(300 * time.Millisecond)
		c.join("s-b", 0)
		eventually(t, func() string {
			if got := b.members("s-a"); len(got) != 0 {
				return fmt.Sprintf("it is still in its old group: %q", got)
			}
			return ""
		})
		waits := p.mustPublish(nil)
		c.quiet(300 * time.Millisecond)
		c.join("s-a", 0)
		c.consume(waits)
	})
}

// TestBug16_UnknownTopicIsTaken publishes to topics that sort before the last one served.
func TestBug16_UnknownTopicIsTaken(t *testing.T) {
	t.Parallel()
	both(t, reqTopics)
}

// TestBug17_DeliveryFirstAnswersFalse publishes with delivery first, and the same id again at once.
func TestBug17_DeliveryFirstAnswersFalse(t *testing.T) {
	t.Parallel()
	both(t, reqDeliveryFirst)
}

// TestBug18_UnboundMessageIsDeleted binds a moment after the publish, and without a rate.
func TestBug18_UnboundMessageIsDeleted(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f framing) {
		d := newDirectory(t)
		b := d.start(nil)
		p, c := b.connect(t, f, "p-golden"), b.connect(t, f, "s-a")
		early := p.mustPublish(nil)
		d.bind("s-a", "trade", "binding_fanout", `"watermark":8000`, `"watermark":0`)
		c.consume(early, p.mustPublish(nil))
	})
}

// TestBug19_StoreAckWaitsForDelivery publishes while nobody answers deliveries.
func TestBug19_StoreAckWaitsForDelivery(t *testing.T) {
	t.Parallel()
	both(t, reqStoreAckSoon)
}

// TestBug20_StoresLoseOrRepeat: a repeated id is kept once, a full store says so instead of evicting, and a
// commit of an unknown id harms nobody. That a true answer means on disk is held by internal/e2e.TestKillLoop.
func TestBug20_StoresLoseOrRepeat(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(func(c *conf.Config) { c.Store = "memory://.?maxcap=100" })
	p := b.connect(t, framingG, "p-golden")
	m := newMessage(t, framingG, cmdBytes)
	var stored []string
	for range 3 {
		if ok, feedback := p.publish(cmdBytes, m); !ok {
			t.Errorf("the same id again is answered %s", feedback)
		}
	}
	stored = append(stored, m.id())
	p.verdict(newMessage(t, framingG, cmdBytes), 1)
	refused := 0
	for range 150 {
		m := newMessage(t, framingG, cmdBytes)
		ok, _ := p.publish(cmdBytes, m)
		if ok {
			stored = append(stored, m.id())
		} else {
			refused++
		}
	}
	if refused == 0 || len(stored) > 101 {
		t.Errorf("a store for 100 took %d and refused %d", len(stored), refused)
	}
	c := b.connect(t, framingG, "s-a")
	c.consume(stored...) // the oldest, too
	c.quiet(300 * time.Millisecond)
}

// TestBug22_CompressedTwice delivers what a Go client compressed twice as it is, and to a client that knows
// nothing of it as far as it can: once for the one flag.
func TestBug22_CompressedTwice(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f framing) {
		d := newDirectory(t)
		d.fanout("s-a")
		b := d.start(nil)
		p, c := b.connect(t, framingG, "p-golden"), b.connect(t, f, "s-a")
		m := vectorMessage(t, "15_bytes_snappy").head(headID, newID())
		once := m.text(body)
		// A snappy block of one literal: its length, then (n-1)<<2, then the bytes.
		twice := string([]byte{byte(len(once)), byte(len(once)-1) << 2}) + once
		m = m.with(body, twice)
		if ok, feedback := p.publish(cmdBytes, m); !ok {
			t.Fatal(feedback)
		}
		want := twice
		if f == framingL {
			want = once
		}
		if got := c.take(); got.text(body) != want {
			t.Errorf("%q came as %q, want %q", twice, got.text(body), want)
		}
	})
	t.Run("bad base64", func(t *testing.T) { both(t, reqBadSnappy) })
}
