package e2e

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3" // driver "sqlite3"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/barrier"
	effect "github.com/kiteq/kiteq/client/inbox"
	"github.com/kiteq/kiteq/internal/zktest"
)

// till is a process that sells: a client and its connections to the shop's database.
type till struct {
	db      *sql.DB
	barrier *barrier.Barrier
	client  *client.Client
}

func openTill(t *testing.T, zk, source string) *till {
	t.Helper()
	db, err := sql.Open("sqlite3", source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.PingContext(t.Context()); err != nil {
		if os.Getenv(zktest.RequireEnv) == "1" {
			t.Fatal(err)
		}
		t.Skip("no SQLite: ", err)
	}
	b, err := barrier.New(db, barrier.SQLite, barrier.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := dial(t, client.Options{ZKHost: zk, Group: "p-till", Topics: []string{"trade"}, CheckListener: b.Check})
	return &till{db, b, c}
}

// sell sells in a transaction; then ends it.
func (s *till) sell(ctx context.Context, id string, then func(tx *sql.Tx) error) error {
	m := &client.Message{ID: id, Topic: "trade", Type: publishType, Body: []byte(id)}
	return s.barrier.InTx(ctx, s.client, m, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO sales (id) VALUES (?)", id); err != nil {
			return err
		}
		return then(tx)
	})
}

// TestBarrier sells at three tills, two of which lose the database at the worst moment and so leave their
// message undecided: the broker asks the third. Every sale that is in the database takes effect once at the
// consumer, and no other does.
func TestBarrier(t *testing.T) {
	t.Parallel()
	registry := freeAddr(t)
	b := newBroker(t, embeddedURL(registry, t.TempDir()), "trade")
	b.Start()
	source := "file:" + filepath.Join(t.TempDir(), "shop") + "?_journal_mode=WAL&_busy_timeout=2000"
	steady := openTill(t, registry, source)
	for _, statement := range []string{"CREATE TABLE sales (id TEXT PRIMARY KEY)", "CREATE TABLE members (id TEXT)"} {
		if _, err := steady.db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	in, err := effect.New(steady.db, effect.SQLite, effect.Options{})
	if err == nil {
		err = in.Create(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	var repeats atomic.Int64
	consumer := dial(t, client.Options{ZKHost: registry, Group: "s-members"})
	_, err = consumer.Subscribe(patient(t), []client.Binding{client.Fanout("trade")}, func(ctx context.Context, d *client.Delivery) error {
		fresh, err := in.Do(ctx, "s-members", d, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO members (id) VALUES (?)", d.ID)
			return err
		})
		switch {
		case err != nil:
			return err
		case fresh:
			return errors.New("the answer is lost") // it comes again
		}
		repeats.Add(1)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	gone := errors.New("the till is gone")
	broken := [2]*till{openTill(t, registry, source), openTill(t, registry, source)}
	ids := []string{client.NewID(), client.NewID(), client.NewID(), client.NewID()}
	errs := []error{
		broken[0].sell(patient(t), ids[0], func(tx *sql.Tx) error { return errors.Join(tx.Commit(), broken[0].db.Close(), gone) }),
		broken[1].sell(patient(t), ids[1], func(*sql.Tx) error { return errors.Join(broken[1].db.Close(), gone) }),
		steady.sell(patient(t), ids[2], func(*sql.Tx) error { return gone }),
		steady.sell(patient(t), ids[3], func(*sql.Tx) error { return nil }),
	}
	for i, err := range errs {
		if undecided := errors.Is(err, client.Indeterminate); undecided != (i < 2) || errors.Is(err, gone) != (i < 3) {
			t.Errorf("sale %d: %v", i, err)
		}
	}
	for _, c := range broken {
		if err := c.client.Close(patient(t)); err != nil {
			t.Error(err)
		}
	}
	eventually(t, 30*time.Second, func() string {
		switch {
		case steady.ids(t, "SELECT id FROM members")[ids[3]] == 0:
			return "the sale has not taken effect"
		case steady.ids(t, "SELECT id FROM members")[ids[0]] == 0:
			return "the sale of the till that is gone has not taken effect: the third till was not asked"
		case steady.ids(t, "SELECT id FROM kiteq_barrier WHERE outcome = 'rolled_back'")[ids[1]] == 0:
			return "the sale that was not made is not rolled back: the third till was not asked"
		case repeats.Load() < 2:
			return "the messages did not come again"
		}
		return ""
	})
	sales := steady.ids(t, "SELECT id FROM sales")
	members := steady.ids(t, "SELECT id FROM members")
	for i, want := range []int{1, 0, 0, 1} {
		if sales[ids[i]] != want || members[ids[i]] != want {
			t.Errorf("sale %d: %d rows and %d effects, want %d", i, sales[ids[i]], members[ids[i]], want)
		}
	}
}

// ids counts the ids that the query selects.
func (s *till) ids(t *testing.T, query string) map[string]int {
	t.Helper()
	rows, err := s.db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[string]int{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		all[id]++
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
