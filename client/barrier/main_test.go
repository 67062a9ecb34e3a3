package barrier_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/barrier"
	"github.com/kiteq/kiteq/client/clienttest"
	"github.com/kiteq/kiteq/client/internal/dbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shop is a producer with its broker and its database, and a second process that only answers checks.
type shop struct {
	t       *testing.T
	d       *dbtest.Database
	broker  *clienttest.Broker
	client  *client.Client
	barrier *barrier.Barrier // of the producer, through the breaker
	other   *barrier.Barrier // of the second process
	breaker *dbtest.Breaker
	table   string // the barrier's
	orders  string // the user's table
}

func open(t *testing.T, d *dbtest.Database) *shop {
	t.Helper()
	s := &shop{t: t, d: d, table: d.Table(t), orders: d.Table(t)}
	d.Exec(t, "CREATE TABLE "+s.orders+" (id CHAR(32) PRIMARY KEY)")
	var db *sql.DB
	db, s.breaker = d.Fragile(t)
	s.barrier = s.on(db)
	s.other = s.on(d.Open(t))
	if err := s.other.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.broker, err = clienttest.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.broker.Close)
	s.client = s.dial(s.barrier.Check)
	return s
}

// on returns a barrier with a pool of connections.
func (s *shop) on(db *sql.DB) *barrier.Barrier {
	s.t.Helper()
	b, err := barrier.New(db, s.d.Dialect, barrier.Options{Table: s.table})
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *shop) dial(check client.CheckFunc) *client.Client {
	s.t.Helper()
	c, err := client.Dial(s.t.Context(), client.Options{
		Brokers: []string{s.broker.Addr()}, Group: "p-orders", Topics: []string{"trade"}, CheckListener: check,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			s.t.Errorf("close: %v", err)
		}
	})
	return c
}

// order publishes an order with its row; then is the rest of the transaction.
func (s *shop) order(ctx context.Context, id string, then func(tx *sql.Tx) error) error {
	return s.orderBy(ctx, s.barrier, s.client, id, then)
}

func (s *shop) orderBy(ctx context.Context, b *barrier.Barrier, c *client.Client, id string, then func(tx *sql.Tx) error) error {
	m := &client.Message{ID: id, Topic: "trade", Type: "order", Body: []byte(id)}
	return b.InTx(ctx, c, m, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s (id) VALUES ('%s')", s.orders, id)); err != nil {
			return err
		}
		return then(tx)
	})
}

func (s *shop) check(id string) client.Verdict {
	return s.other.Check(s.t.Context(), client.Check{ID: id, Topic: "trade"})
}

// rows returns how many orders of the id there are.
func (s *shop) rows(id string) int {
	s.t.Helper()
	return s.d.Count(s.t, fmt.Sprintf("SELECT COUNT(*) FROM %s WHERE id = '%s'", s.orders, id))
}

// verdicts returns what the clients have sent to the broker until now, by message id.
func (s *shop) verdicts(clients ...*client.Client) map[string][]client.Verdict {
	s.t.Helper()
	markers := map[string]bool{}
	for _, c := range clients {
		marker := client.NewID()
		markers[marker] = true
		if err := c.Decide(s.t.Context(), "trade", marker, client.Rollback, "marker"); err != nil {
			s.t.Fatal(err)
		}
	}
	all := map[string][]client.Verdict{}
	for len(markers) > 0 {
		v, err := s.broker.Verdicts.Next(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		if markers[v.ID] {
			delete(markers, v.ID)
		} else {
			all[v.ID] = append(all[v.ID], client.Verdict(v.Status))
		}
	}
	return all
}

// ask starts checks by the second process and returns how to get their answers.
func (s *shop) ask(id string, n int) (answers func() []client.Verdict) {
	var checks sync.WaitGroup
	got := make([]client.Verdict, n)
	for i := range got {
		checks.Go(func() { got[i] = s.check(id) })
	}
	return func() []client.Verdict {
		checks.Wait()
		return got
	}
}
