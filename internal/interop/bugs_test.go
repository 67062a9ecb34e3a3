package interop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/internal/zktest"
	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/registry/zk"
	"github.com/kiteq/kiteq/server"
)

// limit is a message that is delivered at most n times.
func limit(n int) func(message) message {
	return func(m message) message { return m.head(headLimit, n) }
}

// TestBug23_RetryRunsTwice lets deliveries time out and refuses others: at any time at most one of a message
// is under way to the group, and its attempts are counted through to the limit.
func TestBug23_RetryRunsTwice(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f framing) {
		d := newDirectory(t)
		d.fanout("s-a")
		b := d.start(func(c *conf.Config) { c.Delivery.AckTimeout = 400 * time.Millisecond })
		p, one, two := b.connect(t, framingG, "p-golden"), b.connect(t, f, "s-a"), b.connect(t, f, "s-a")
		p.mustPublish(limit(4))
		var at []time.Time
		for len(at) < 4 {
			for _, c := range []*peer{one, two} {
				if fr, err := c.tryRead(5 * time.Millisecond); err == nil {
					at = append(at, time.Now())
					if len(at) == 1 {
						c.ack(delivery{fr, c.parse(fr)}, false)
					}
				}
			}
		}
		for i := 2; i < len(at); i++ { // nobody answered the one before: its time had to pass
			if gap := at[i].Sub(at[i-1]); gap < 350*time.Millisecond {
				t.Errorf("delivery %d came %v after the one before, which was not answered", i+1, gap)
			}
		}
		one.quiet(600 * time.Millisecond)
		two.quiet(600 * time.Millisecond)
	})
}

// TestBug24_SmallLimitNeverStops refuses messages with each small limit.
func TestBug24_SmallLimitNeverStops(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f framing) {
		d := newDirectory(t)
		d.fanout("s-a")
		b := d.start(func(c *conf.Config) { c.Delivery.AckTimeout = 300 * time.Millisecond })
		p, c := b.connect(t, framingG, "p-golden"), b.connect(t, f, "s-a")
		for n := 1; n <= 3; n++ {
			id := p.mustPublish(limit(n))
			for attempt := range n {
				got := c.take()
				if got.id() != id || got.headN(headLimit) != int64(n) {
					t.Fatalf("%v, want message %s", got, id)
				}
				if attempt%2 == 0 {
					c.ack(got, false)
				} // else it times out
			}
			c.quiet(900 * time.Millisecond)
		}
	})
}

// TestBug25_OfflineConsumesTheLimit keeps a message that may be delivered once for a group that is not there,
// and one that comes too fast for its rate.
func TestBug25_OfflineConsumesTheLimit(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f framing) {
		d := newDirectory(t)
		d.bind("s-a", "trade", "binding_fanout", `"watermark":8000`, `"watermark":4`)
		b := d.start(func(c *conf.Config) { c.Delivery.AckTimeout = 100 * time.Millisecond })
		p := b.connect(t, framingG, "p-golden")
		var ids []string
		for range 8 {
			ids = append(ids, p.mustPublish(limit(1)))
		}
		gone := b.connect(t, f, "s-other")
		gone.quiet(time.Second) // ten times what an attempt takes
		c := b.connect(t, f, "s-a")
		begun := time.Now()
		got := map[string]bool{}
		for len(got) < len(ids) {
			d := c.take()
			got[d.id()] = true
			c.ack(d, true)
		}
		if passed := time.Since(begun); passed < time.Second {
			t.Errorf("8 messages in %v with a rate of 4 a second", passed)
		}
		for _, id := range ids {
			if !got[id] {
				t.Errorf("message %s is lost", id)
			}
		}
	})
}

// TestBug26_WarmUpLosesMessages publishes to a group that is not durable while its only member warms up.
func TestBug26_WarmUpLosesMessages(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f framing) {
		d := newDirectory(t)
		d.bind("s-volatile", "trade", "binding_fanout", `"persistent":true`, `"persistent":false`)
		b := d.start(nil)
		b.bound("trade", "s-volatile")
		p, c := b.connect(t, framingG, "p-golden"), b.dial(t, f)
		c.join("s-volatile", 4)
		var ids []string
		for range 20 {
			ids = append(ids, p.mustPublish(nil))
		}
		c.consume(ids...)
	})
}

// TestBug27_ChecksComeAtOnce leaves a transaction open: the question comes late, and with the properties.
func TestBug27_ChecksComeAtOnce(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f framing) {
		b := start(t, func(c *conf.Config) { c.Transaction.First = time.Second })
		p := b.connect(t, f, "p-golden")
		m := p.prepare(nil)
		p.quiet(800 * time.Millisecond)
		check := p.parse(p.check(m))
		property := check.sub(header).sub(headProperties)
		if property.text(1) != "tradeno" || property.text(2) != "T-1001" {
			t.Errorf("the check has lost the properties: %v", check.sub(header))
		}
	})
}

// TestBug28_RetriesAreSkipped refuses many messages three times each: all come a fourth time.
func TestBug28_RetriesAreSkipped(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, f framing) {
		d := newDirectory(t)
		d.fanout("s-a")
		b := d.start(func(c *conf.Config) { c.Delivery.Window = 64 })
		p, c := b.connect(t, framingG, "p-golden"), b.connect(t, f, "s-a")
		tried := map[string]int{}
		for range 250 { // the original read batches of 200
			tried[p.mustPublish(nil)] = 0
		}
		for done := 0; done < len(tried); {
			got := c.take()
			tried[got.id()]++
			n := tried[got.id()]
			c.ack(got, n == 4)
			if n == 4 {
				done++
			}
		}
		c.quiet(300 * time.Millisecond)
		for id, n := range tried {
			if n != 4 {
				t.Errorf("message %s came %d times", id, n)
			}
		}
	})
}

// TestBug29_CommittedIsDeliveredUncommitted looks at the header after a commit.
func TestBug29_CommittedIsDeliveredUncommitted(t *testing.T) {
	t.Parallel()
	both(t, reqCommitTrue)
}

// TestBug31_DisconnectTakenForExpiry cuts the link to the registry again and again: no node is touched.
func TestBug31_DisconnectTakenForExpiry(t *testing.T) {
	t.Parallel()
	b, link := linked(t, 10*time.Second)
	paths := []string{b.node("trade"), b.node("message"), "/kiteq/alive_servers/" + b.Addr()}
	var before []int64
	for _, path := range paths {
		before = append(before, b.d.stat(path).Czxid)
	}
	for n := range 3 {
		link.Cut()
		link.Heal()
		group := fmt.Sprintf("s-%d", n)
		b.d.fanout(group)
		eventually(t, func() string { // it is connected again, and follows the bindings
			var answer binds
			if text := b.get("/binds", &answer); !slices.Contains(answer.Groups["trade"], group) {
				return text
			}
			return ""
		})
	}
	for i, path := range paths {
		if stat := b.d.stat(path); stat == nil || stat.Czxid != before[i] || stat.Version != 0 {
			t.Errorf("%s: %+v, was made by transaction %d", path, stat, before[i])
		}
	}
}

// TestBug32_OneBindNodeEmptiesTheTopic deletes and makes another group's node.
func TestBug32_OneBindNodeEmptiesTheTopic(t *testing.T) {
	t.Parallel()
	both(t, reqDropOneGroup)
}

// TestBug33_BindingsRace changes bindings, asks for them and publishes all at once. The race detector looks on.
func TestBug33_BindingsRace(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(nil)
	stop := b.load(t)
	c := b.connect(t, framingG, "s-a")
	p := b.connect(t, framingL, "p-golden")
	var wait sync.WaitGroup
	wait.Go(func() {
		for range 50 {
			d.fanout("s-b")
			d.delete(bindNode("s-b", "trade"))
		}
	})
	wait.Go(func() {
		for range 50 {
			b.get("/binds", &binds{})
			b.get("/stat", &struct{}{})
		}
	})
	wait.Wait()
	stop()
	id := p.mustPublish(nil)
	for { // behind all that load published
		got := c.take()
		c.ack(got, true)
		if got.id() == id {
			break
		}
	}
}

// TestBug34_EventsAreDropped makes many bind nodes at once, more than any queue of 6 holds, and has a session
// of the length that the URL says.
func TestBug34_EventsAreDropped(t *testing.T) {
	t.Parallel()
	b, link := linked(t, time.Second)
	groups := []string{"s-a"}
	for n := range 40 {
		groups = append(groups, fmt.Sprintf("s-b%02d", n))
	}
	for _, group := range groups[1:] {
		b.d.fanout(group)
	}
	b.bound("trade", groups...)
	for _, group := range groups[1:] {
		b.d.delete(bindNode(group, "trade"))
	}
	b.bound("trade", "s-a")
	begun := time.Now()
	link.Cut()
	b.d.until(b.node("trade"), false)
	if passed := time.Since(begun); passed > 10*time.Second {
		t.Errorf("the session of timeout=1s ended after %v", passed)
	}
}

// TestBug35_ProducersStayForEver: the broker makes no producer's node, and one that a client makes goes with
// its session.
func TestBug35_ProducersStayForEver(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	b.connect(t, framingG, "p-golden").mustPublish(nil)
	if groups, _, err := b.d.conn.Children("/kiteq/pub/trade"); err != nil || len(groups) > 0 {
		t.Errorf("the broker made %q, %v", groups, err)
	}
	path := registry.ProducerNode("trade", "p-golden", "host")
	t.Run("client", func(t *testing.T) {
		r := zktest.OpenRegistry(t, zk.Options{Hosts: []string{b.d.addr}})
		if err := r.AddProducer(t.Context(), "trade", "p-golden", "host"); err != nil {
			t.Fatal(err)
		}
		if stat := b.d.stat(path); stat == nil || stat.EphemeralOwner == 0 {
			t.Errorf("%s: %+v, want an ephemeral node", path, stat)
		}
	})
	b.d.until(path, false)
}

// TestBug36_RegistryFile has topics that are not sorted, groups that come and go, and then a file that cannot
// be read.
func TestBug36_RegistryFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "registry.yaml")
	addr := freeAddr(t)
	write := func(groups string) {
		t.Helper()
		text := fmt.Sprintf(`brokers:
  - address: "%s"
    topics: [ "message","relation","user-profile","trade" ]
bindings:
  - groupIds: [ %s ]
    topic: "trade"
    messageType: "pay-succ"
    bindType: "direct"
    watermark: 1000
    persistent: true
`, addr, groups)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`"s-a"`)
	d := newDirectory(t) // not used: the file is the registry
	b := d.start(func(c *conf.Config) {
		c.Bind, c.ZKHost = addr, "file://"+path
		c.Topics = []string{"message", "relation", "user-profile", "trade"}
	})
	p := b.connect(t, framingG, "p-golden")
	for _, topic := range []string{"message", "relation", "user-profile", "trade"} {
		p.mustPublish(func(m message) message { return m.head(headTopic, topic) })
	}
	b.bound("trade", "s-a")
	if err := os.WriteFile(path, []byte("brokers: [ this is : no yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.reload()
	p.alive() // the original ended with a panic
	b.bound("trade", "s-a")
}

// reload asks for it as operators do.
func (b *broker) reload() (status int, topics []string, text string) {
	b.t.Helper()
	var answer struct {
		Status int
		Topics []string
	}
	text = b.get("/reload", &answer)
	return answer.Status, answer.Topics, text
}

// TestBug38_FoundBeforeBindingsAreRead publishes in the moment in which the broker can be found.
func TestBug38_FoundBeforeBindingsAreRead(t *testing.T) {
	t.Parallel()
	both(t, reqBindingsFirst)
}

// TestBug39_BindNameAndReload: what is bound to is not what is published, a change of topics counts though
// their number stays, a failure is told, and reading a counter does not reset it.
func TestBug39_BindNameAndReload(t *testing.T) {
	t.Parallel()
	t.Run("published name", func(t *testing.T) { reqNumeric(t, framingG) })
	t.Run("reload", func(t *testing.T) {
		d := newDirectory(t)
		d.fanout("s-a")
		d.bind("s-a", "fee", "binding_fanout")
		var mu sync.Mutex
		topics, problem := []string{"message", "fee"}, error(nil)
		b := d.launch(nil, server.Control{Reload: func() (conf.Config, error) {
			mu.Lock()
			defer mu.Unlock()
			c := testConfig(d)
			c.Topics = topics
			return c, problem
		}})
		<-b.Started()
		p, c := b.connect(t, framingG, "p-golden"), b.connect(t, framingL, "s-a")
		if _, got, text := b.reload(); !slices.Equal(got, topics) {
			t.Errorf("as many topics as before, but others: %s", text)
		}
		d.until(b.node("fee"), true)
		d.until(b.node("trade"), false)
		c.consume(p.mustPublish(func(m message) message { return m.head(headTopic, "fee") }))
		mu.Lock()
		problem = errors.New("the file is gone")
		mu.Unlock()
		if _, got, text := b.reload(); got != nil || !strings.Contains(text, "the file is gone") {
			t.Errorf("a failure is answered %s", text)
		}
		p.mustPublish(func(m message) message { return m.head(headTopic, "fee") })
	})
	t.Run("counters", func(t *testing.T) {
		d := newDirectory(t)
		d.fanout("s-a")
		b := d.start(nil)
		p, c := b.connect(t, framingG, "p-golden"), b.connect(t, framingG, "s-a")
		eventually(t, func() string {
			c.consume(p.mustPublish(nil))
			var first, second binds
			text := b.get("/binds", &first)
			b.get("/binds", &second)
			one, two := first.Limiters["trade"]["s-a"], second.Limiters["trade"]["s-a"]
			if len(one) != 2 || one[0] == 0 || !slices.Equal(one, two) {
				return text
			}
			return ""
		})
	})
}
