package barrier_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/barrier"
	"github.com/kiteq/kiteq/client/clienttest"
	"github.com/kiteq/kiteq/client/inbox"
	"github.com/kiteq/kiteq/client/internal/dbtest"
)

// TestLife follows messages from one database into another: one that commits, one that is declined, and two
// whose producer loses its database in COMMIT. Every delivery comes twice. Each order that is there takes
// effect once, and nothing else does.
func TestLife(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		s := open(t, d)
		members := d.Table(t)
		d.Exec(t, "CREATE TABLE "+members+" (id CHAR(32))")
		registry := clienttest.NewRegistry()
		registry.SetBrokers("trade", s.broker.Addr())
		s.broker.Relay(registry)
		handled := s.consume(registry, members)
		plays := []struct {
			play func(*shop, string) ([]client.Verdict, error)
			want error
			row  bool
		}{
			{func(s *shop, id string) ([]client.Verdict, error) { return nil, s.order(t.Context(), id, decline) }, errDeclined, false},
			{lost(dbtest.Before, true), client.Indeterminate, false},
			{lost(dbtest.After, true), client.Indeterminate, true},
			{func(s *shop, id string) ([]client.Verdict, error) { return nil, s.order(t.Context(), id, done) }, nil, true},
		}
		for i, p := range plays {
			id := client.NewID()
			if _, err := p.play(s, id); !errors.Is(err, p.want) {
				t.Fatalf("play %d: %v, want %v", i, err, p.want)
			}
			published, err := s.broker.Published.Next(t.Context())
			if err != nil || published.ID != id {
				t.Fatalf("published %s, %v, want %s", published.ID, err, id)
			}
			if p.want == client.Indeterminate {
				if _, err := s.broker.Check("p-orders", published); err != nil {
					t.Fatal(err)
				}
			}
			if p.row {
				if got, again := <-handled, <-handled; got != id || again != id {
					t.Errorf("play %d: delivered %s and %s, want %s twice", i, got, again, id)
				}
			}
			if rows := s.rows(id); rows == 1 != p.row {
				t.Errorf("play %d: %d orders", i, rows)
			}
			if n := d.Count(t, fmt.Sprintf("SELECT COUNT(*) FROM %s WHERE id = '%s'", members, id)); n == 1 != p.row || n > 1 {
				t.Errorf("play %d: took effect %d times, the order is there: %t", i, n, p.row)
			}
		}
		if len(handled) != 0 {
			t.Errorf("%d more deliveries", len(handled))
		}
	})
}

// consume subscribes a consumer with an inbox that refuses each delivery once after it took effect, as if
// its answer were lost, and returns the ids of what it handled.
func (s *shop) consume(registry *clienttest.Registry, members string) (handled chan string) {
	s.t.Helper()
	in, err := inbox.New(s.d.Open(s.t), s.d.Dialect, inbox.Options{Table: s.d.Table(s.t)})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := in.Create(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	c, err := client.Dial(s.t.Context(), client.Options{Registry: registry, Group: "s-members"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close(context.WithoutCancel(s.t.Context())) })
	handled = make(chan string, 100)
	_, err = c.Subscribe(s.t.Context(), []client.Binding{client.Fanout("trade")}, func(ctx context.Context, d *client.Delivery) error {
		fresh, err := in.Do(ctx, "s-members", d, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s (id) VALUES ('%s')", members, d.ID))
			return err
		})
		if err != nil {
			s.t.Errorf("message %s: %v", d.ID, err)
		}
		handled <- d.ID
		if fresh {
			return errors.New("the answer is lost")
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.Ready(s.t.Context(), "trade"); err != nil {
		s.t.Fatal(err)
	}
	return handled
}

func TestTrim(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		s := open(t, d)
		const many = 120 // more than a chunk
		for range many {
			s.check(client.NewID())
		}
		d.Exec(t, fmt.Sprintf("UPDATE %s SET created_ms = %d", s.table, time.Now().Add(-barrier.MinKeep-time.Hour).UnixMilli()))
		id := client.NewID()
		if err := s.order(t.Context(), id, done); err != nil {
			t.Fatal(err)
		}
		if n, err := s.other.Trim(t.Context(), barrier.MinKeep); n != many || err != nil {
			t.Errorf("trimmed %d, %v, want %d", n, err, many)
		}
		if _, err := s.other.Trim(t.Context(), client.MaxLifetime); !errors.Is(err, client.Invalid) {
			t.Errorf("trim of what brokers may ask for: %v, want Invalid", err)
		}
		s.mustAgree(t, id, client.Commit, nil)
	})
}

// TestNoTable uses a database without the table, or with a row that nobody here writes.
func TestNoTable(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		s := open(t, d)
		id := client.NewID()
		d.Exec(t, fmt.Sprintf("INSERT INTO %s (id, outcome, created_ms) VALUES ('%s', 'perhaps', 1)", s.table, id))
		if v := s.check(id); v != client.Unknown {
			t.Errorf("answered %s to a row that says perhaps", v)
		}
		if err := s.other.Create(t.Context()); err != nil {
			t.Errorf("create again: %v", err)
		}
		d.Exec(t, "DROP TABLE "+s.table)
		if v := s.check(client.NewID()); v != client.Unknown {
			t.Errorf("answered %s without a table", v)
		}
	})
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	for _, o := range []barrier.Options{
		{Table: "kiteq barrier"}, {Table: strings.Repeat("t", 49)}, {Timeout: time.Hour}, {Tx: &sql.TxOptions{ReadOnly: true}},
	} {
		if _, err := barrier.New(nil, barrier.MySQL, o); !errors.Is(err, client.Invalid) {
			t.Errorf("%+v: %v, want Invalid", o, err)
		}
	}
	b, err := barrier.New(nil, barrier.MySQL, barrier.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if v := b.Check(t.Context(), client.Check{ID: "17"}); v != client.Unknown {
		t.Errorf("answered %s to an id that is none", v)
	}
	broker, err := clienttest.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	c, err := client.Dial(t.Context(), client.Options{Brokers: []string{broker.Addr()}, Group: "g", Topics: []string{"trade"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	err = b.InTx(t.Context(), c, &client.Message{Topic: "trade", Type: "order"}, done)
	if !errors.Is(err, client.Invalid) || !strings.Contains(err.Error(), "Options.CheckListener") || broker.Published.Len() != 0 {
		t.Errorf("without a check listener: %v, want Invalid, and nothing sent", err)
	}
}

// TestDocumented compares the page with the statements of Create.
func TestDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../doc/client.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []barrier.Dialect{barrier.MySQL, barrier.PostgreSQL, barrier.SQLite} {
		b, err := barrier.New(nil, d, barrier.Options{})
		in, err2 := inbox.New(nil, d, inbox.Options{})
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		for _, statement := range append(b.DDL(), in.DDL()...) {
			if !strings.Contains(string(page), statement+";") {
				t.Errorf("%s: doc/client.md has not\n%s;", d, statement)
			}
		}
	}
}
