package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/zktest"
)

// TestLifeZooKeeper plays the broker's whole life over a real ZooKeeper: two brokers, three groups, a
// tenth of the messages transactional, one broker killed and started again on the way.
func TestLifeZooKeeper(t *testing.T) {
	t.Parallel()
	zk := zktest.Start(t).Addr()
	life(t, zk, newBroker(t, "zk://"+zk, "trade"), newBroker(t, zk, "trade"))
}

// TestLifeEmbedded is the same with the registry inside the first broker, and that one killed.
func TestLifeEmbedded(t *testing.T) {
	t.Parallel()
	zk := freeAddr(t)
	carrier := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "trade")
	life(t, zk, newBroker(t, zk, "trade"), carrier)
}

const (
	messages    = 10_000
	txEvery     = 10 // every tenth message is transactional
	publishers  = 32
	publishType = "pay-succ"
)

// database is the producers' own: which transactions took effect.
type database struct {
	mu   sync.Mutex
	rows map[string]bool
}

func (d *database) set(id string, committed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows[id] = committed
}

// check is the producers' listener: it looks whether the row is there.
func (d *database) check(_ context.Context, c client.Check) client.Verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	committed, known := d.rows[c.ID]
	switch {
	case !known:
		return client.Unknown
	case committed:
		return client.Commit
	}
	return client.Rollback
}

// inbox is what one group has received: ids and how often.
type inbox struct {
	mu   sync.Mutex
	seen map[string]int
	kind map[string]string
}

func (i *inbox) take(_ context.Context, d *client.Delivery) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.seen[d.ID]++
	i.kind[d.ID] = d.Type
	return nil
}

func (i *inbox) size() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.seen)
}

// lacks returns how many of want the group has not, and which it has that it must not have.
func (i *inbox) lacks(want map[string]bool) (missing int, alien []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for id := range want {
		if i.seen[id] == 0 {
			missing++
		}
	}
	for id := range i.seen {
		if !want[id] {
			alien = append(alien, id)
		}
	}
	slices.Sort(alien)
	return missing, alien
}

var messageTypes = []string{publishType, "pay-fail", "refund-1"}

// life starts steady and victim, publishes through both and kills the victim on the way.
func life(t *testing.T, zk string, steady, victim *broker) {
	victim.Start() // in the embedded case it carries the registry
	steady.Start()

	groups := map[string]*inbox{}
	bindings := map[string]client.Binding{
		"s-direct": client.Direct("trade", publishType),
		"s-regx":   client.Regx("trade", `^pay-\w+$`),
		"s-fanout": client.Fanout("trade"),
	}
	for group, binding := range bindings {
		groups[group] = &inbox{seen: map[string]int{}, kind: map[string]string{}}
		for range 2 {
			c := dial(t, client.Options{ZKHost: zk, Group: group})
			if _, err := c.Subscribe(patient(t), []client.Binding{binding}, groups[group].take); err != nil {
				t.Fatal(err)
			}
		}
	}
	db := &database{rows: map[string]bool{}}
	producer := dial(t, client.Options{ZKHost: zk, Group: "p-life", Topics: []string{"trade"}, CheckListener: db.check})

	want := publishAll(t, producer, db, func(sent int) {
		switch sent {
		case messages * 4 / 10:
			victim.Kill()
		case messages * 6 / 10:
			victim.Start()
		}
	})
	expected := map[string]map[string]bool{"s-direct": {}, "s-regx": {}, "s-fanout": {}}
	for id, kind := range want {
		expected["s-fanout"][id] = true
		if kind == publishType {
			expected["s-direct"][id] = true
		}
		if kind != "refund-1" {
			expected["s-regx"][id] = true
		}
	}
	eventually(t, 90*time.Second, func() string {
		for group, in := range groups {
			if missing, _ := in.lacks(expected[group]); missing > 0 {
				return fmt.Sprintf("group %s lacks %d of %d messages", group, missing, len(expected[group]))
			}
		}
		return ""
	})
	for group, in := range groups {
		if _, alien := in.lacks(expected[group]); len(alien) > 0 {
			t.Errorf("group %s has %d messages that it must not have, such as %s", group, len(alien), alien[0])
		}
		repeats := 0
		for _, n := range in.seen {
			repeats += n - 1
		}
		t.Logf("group %s: %d messages, %d repeats", group, len(in.seen), repeats)
	}
}

// publishAll publishes every message and returns the types of those that must arrive. at is called, by
// one goroutine, with the number of messages sent.
func publishAll(t *testing.T, c *client.Client, db *database, at func(sent int)) map[string]string {
	t.Helper()
	var mu sync.Mutex
	want := map[string]string{}
	work := make(chan int)
	var wait sync.WaitGroup
	for range publishers {
		wait.Go(func() {
			for n := range work {
				m := &client.Message{ID: client.NewID(), Topic: "trade", Type: messageTypes[n%len(messageTypes)], Body: fmt.Appendf(nil, "message %d", n)}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				arrives, err := publish(ctx, c, db, m, n)
				cancel()
				if err != nil {
					t.Errorf("message %d: %v", n, err)
				}
				if arrives {
					mu.Lock()
					want[m.ID] = m.Type
					mu.Unlock()
				}
			}
		})
	}
	for n := range messages {
		at(n)
		work <- n
	}
	close(work)
	wait.Wait()
	return want
}

// publish sends one message; every tenth is transactional: 80 % commit, 10 % roll back, 10 % are left
// open, and of these half took effect.
func publish(ctx context.Context, c *client.Client, db *database, m *client.Message, n int) (arrives bool, err error) {
	if n%txEvery != 0 {
		return true, c.Publish(ctx, m)
	}
	if share := n / txEvery % 10; share == 9 {
		committed := rand.IntN(2) == 0
		tx, err := c.Prepare(ctx, m)
		if err != nil {
			return false, err
		}
		db.set(m.ID, committed)
		tx.Leave()
		return committed, nil
	} else if share == 8 {
		err := c.PublishTx(ctx, m, func(context.Context) error {
			db.set(m.ID, false)
			return errDeclined
		})
		return false, ignore(err, errDeclined)
	}
	err = c.PublishTx(ctx, m, func(context.Context) error {
		db.set(m.ID, true)
		return nil
	})
	return true, ignore(err, client.Indeterminate) // the check decides, and finds the row
}

func dial(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Errorf("close the client of group %s: %v", o.Group, err)
		}
	})
	return c
}
