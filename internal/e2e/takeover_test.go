package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/mysqltest"
	"github.com/kiteq/kiteq/internal/zktest"
)

const (
	// takeoversEnv says how many times TestTakeoverLoop kills two of three brokers, and of how many messages.
	takeoversEnv = "KITEQ_TAKEOVERS"
	messagesEnv  = "KITEQ_TAKEOVER_MESSAGES"
	// clustersEnv says how many clusters do so at the same time.
	clustersEnv = "KITEQ_TAKEOVER_CLUSTERS"
)

// mysqlURL returns the -db of a database of the test's own, but for the name of the broker.
func mysqlURL(t *testing.T) string {
	t.Helper()
	c := mysqltest.Server(t)
	name := mysqltest.Name(t, "e2e")
	user := url.QueryEscape(c.User)
	if c.Passwd != "" {
		user += ":" + url.QueryEscape(c.Passwd)
	}
	return fmt.Sprintf("mysql://%s@%s?db=%s&takeover_after=1s", user, c.Addr, name)
}

// cluster is brokers that share a database.
type cluster struct {
	t       *testing.T
	zk      *zktest.Server
	brokers []*broker
}

func newCluster(t *testing.T, n int, topics string) *cluster {
	t.Helper()
	db := mysqlURL(t)
	c := &cluster{t: t, zk: zktest.Start(t)}
	for i := range n {
		c.brokers = append(c.brokers, newBroker(t, "zk://"+c.zk.Addr()+"?timeout=1s", topics, fmt.Sprintf("-db=%s&broker=b%d", db, i+1)))
	}
	for _, b := range c.brokers { // one after the other: the first makes the tables
		b.Start()
	}
	return c
}

// ordered publishes messages of one key to one broker, each when the one before was answered.
type ordered struct {
	key    string
	client *client.Client
	id     string // of the next
	next   int
}

// publish goes on until the test says stop, and may leave one unanswered, which is the first of the next time.
func (o *ordered) publish(ctx context.Context) {
	for ctx.Err() == nil {
		if o.id == "" {
			o.id = client.NewID()
		}
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := o.client.Publish(attempt, &client.Message{
			ID: o.id, Topic: "orders", Type: "order", Body: fmt.Appendf(nil, "%s %d", o.key, o.next+1),
			Properties: map[string]string{"kiteq-key": o.key},
		})
		cancel()
		if err == nil {
			o.next, o.id = o.next+1, ""
		}
	}
}

// queues checks that each key's messages come in their order.
type queues struct {
	mu   sync.Mutex
	last map[string]int
	bad  []string
}

func (q *queues) take(_ context.Context, d *client.Delivery) error {
	key, number, _ := strings.Cut(string(d.Body), " ")
	n, err := strconv.Atoi(number)
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil || n > q.last[key]+1 {
		q.bad = append(q.bad, fmt.Sprintf("%q came after %d", d.Body, q.last[key]))
	}
	q.last[key] = max(q.last[key], n)
	return nil
}

func (q *queues) of(key string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.last[key]
}

// takeoverPlan is a tenth transactions, which end in every way.
func takeoverPlan(n int) entry {
	e := entry{topic: "trade", kind: "pay"}
	if n%10 == 0 {
		e.fate = []fate{committed, rolledBack, committed, foundRow, foundNone}[n/10%5]
	}
	return e
}

// TestTakeoverLoop kills two of three brokers that share a database, at random moments under load: the third
// delivers everything that any of them has answered, to every group, decides what was undecided, and keeps the
// order of keys. The two come back and have their journals again. All that several times, with other moments.
func TestTakeoverLoop(t *testing.T) {
	t.Parallel()
	for n := range fromEnv(clustersEnv, 1) {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			takeoverLoop(t, fromEnv(takeoversEnv, 2), fromEnv(messagesEnv, 2000))
		})
	}
}

func takeoverLoop(t *testing.T, rounds, messages int) {
	seed := rand.Uint64()
	t.Logf("%d rounds of %d messages, seed %d", rounds, messages, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := newCluster(t, 3, "trade,orders")
	l, q := newLedger(), &queues{last: map[string]int{}}
	l.plan = takeoverPlan
	all := []client.Binding{client.Fanout("trade")}
	orders := client.Fanout("orders")
	orders.Order = client.OrderByKey
	for i := range all {
		all[i].Watermark = 1_000_000
	}
	for range 2 {
		c.subscribe("s-all", all, l.handler("s-all", false))
		c.subscribe("s-books", all, l.handler("s-books", false))
		c.subscribe("s-orders", []client.Binding{orders}, q.take)
	}
	producer := dial(t, client.Options{ZKHost: c.zk.Addr(), Group: "p-all", Topics: []string{"trade"}, CheckListener: l.db.check})
	var keys []*ordered
	for i, b := range c.brokers {
		for k := range 4 {
			pinned := dial(t, client.Options{Brokers: []string{b.addr}, Group: "p-orders", Topics: []string{"orders"}})
			keys = append(keys, &ordered{key: fmt.Sprintf("key-%d-%d", i, k), client: pinned})
		}
	}
	for round := range rounds {
		began := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		for _, o := range keys {
			wait.Go(func() { o.publish(ctx) })
		}
		var load sync.WaitGroup
		var sent atomic.Int64
		for range 128 {
			load.Go(func() {
				for n := int(sent.Add(1)); n <= messages && ctx.Err() == nil; n = int(sent.Add(1)) {
					attempt, cancel := context.WithTimeout(ctx, time.Minute)
					if err := l.publish(attempt, producer, n); err != nil {
						t.Error(err)
					}
					cancel()
				}
			})
		}
		order := random.Perm(len(c.brokers))
		for _, i := range order[:2] {
			after := int64(random.IntN(messages / 2)) // of the messages; the second kill comes later than that
			eventually(t, 2*time.Minute, func() string {
				if n := sent.Load(); n < after {
					return fmt.Sprintf("%d messages, waiting for %d", n, after)
				}
				return ""
			})
			c.brokers[i].Kill()
		}
		load.Wait()
		published := time.Since(began)
		stop()
		wait.Wait()
		due := l.due(all)
		for _, group := range []string{"s-all", "s-books"} {
			eventually(t, 90*time.Second, func() string {
				if n, oldest := l.missing(group, due); n > 0 {
					return fmt.Sprintf("round %d: group %s lacks %d of %d messages, such as %s: %+v", round, group, n, len(due), oldest, l.entry(oldest))
				}
				return ""
			})
			l.verify(t, group, due)
		}
		for _, o := range keys {
			eventually(t, 30*time.Second, func() string {
				if got := q.of(o.key); got < o.next {
					return fmt.Sprintf("round %d: %s has come to %d of %d", round, o.key, got, o.next)
				}
				return ""
			})
		}
		q.mu.Lock()
		for _, bad := range q.bad {
			t.Errorf("round %d: out of order: %s", round, bad)
		}
		q.bad = nil
		q.mu.Unlock()
		t.Logf("round %d: published in %v, all delivered after %v", round, published, time.Since(began))
		for _, i := range order[:2] {
			c.brokers[i].Start()
		}
		if t.Failed() {
			return
		}
	}
}

func fromEnv(name string, fallback int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return fallback
}

func (c *cluster) subscribe(group string, bindings []client.Binding, h client.Handler) {
	c.t.Helper()
	member := dial(c.t, client.Options{ZKHost: c.zk.Addr(), Group: group})
	if _, err := member.Subscribe(patient(c.t), bindings, h); err != nil {
		c.t.Fatal(err)
	}
}

// TestStoppedBrokerWritesNothing: a broker that stood still while its journal was taken over wakes to requests
// that it had received before; it writes none of them, and answers so. Then it has its journal again.
func TestStoppedBrokerWritesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, "trade")
	stopped, heir := c.brokers[0], c.brokers[1]
	got := newReceived()
	c.subscribe("s-all", []client.Binding{client.Fanout("trade")}, got.take)
	pinned := dial(t, client.Options{Brokers: []string{stopped.addr}, Group: "p-pinned", Topics: []string{"trade"}})
	publish := func(text string, patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return pinned.Publish(ctx, &client.Message{Topic: "trade", Type: "pay", Body: []byte(text)})
	}
	if err := publish("before", time.Minute); err != nil {
		t.Fatal(err)
	}
	got.wait(t, "before")
	if err := stopped.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	late := make(chan error, 1)
	go func() { late <- publish("late", 20*time.Second) }()
	eventually(t, 30*time.Second, func() string {
		if !strings.Contains(heir.log.String(), "journal taken over") {
			return "nobody takes over"
		}
		return ""
	})
	if err := stopped.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"journal write failed", "another broker has taken this journal over", "this broker was away for too long: it starts again"} {
		eventually(t, 30*time.Second, func() string {
			if !strings.Contains(stopped.log.String(), line) {
				return "the log does not say " + line
			}
			return ""
		})
	}
	again := <-late == nil // the client may have tried it again
	eventually(t, 30*time.Second, func() string {
		if err := publish("after", time.Second); err != nil {
			return err.Error()
		}
		return ""
	})
	if again {
		got.wait(t, "late")
	}
	got.wait(t, "after")
}
