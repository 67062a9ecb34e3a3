package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/inbox"
	"github.com/kiteq/kiteq/client/internal/dbtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errFull = errors.New("the account is full")

// account is a consumer's table: one row for each effect of a message.
type account struct {
	t       *testing.T
	d       *dbtest.Database
	in      *inbox.Inbox
	breaker *dbtest.Breaker
	table   string // the inbox's
	effects string // the user's table
}

func open(t *testing.T, d *dbtest.Database) *account {
	t.Helper()
	a := &account{t: t, d: d, table: d.Table(t), effects: d.Table(t)}
	d.Exec(t, "CREATE TABLE "+a.effects+" (who VARCHAR(100), id CHAR(32))")
	db, breaker := d.Fragile(t)
	a.breaker = breaker
	var err error
	if a.in, err = inbox.New(db, d.Dialect, inbox.Options{Table: a.table}); err != nil {
		t.Fatal(err)
	}
	if err := a.in.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}

// book takes the delivery of the id; then is the rest of the transaction.
func (a *account) book(ctx context.Context, group, id string, then func() error) (bool, error) {
	return a.in.Do(ctx, group, &client.Delivery{ID: id}, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s (who, id) VALUES ('%s', '%s')", a.effects, group, strings.ToLower(id))); err != nil {
			return err
		}
		return then()
	})
}

func (a *account) mustHave(id string, n int) {
	a.t.Helper()
	if got := a.d.Count(a.t, fmt.Sprintf("SELECT COUNT(*) FROM %s WHERE id = '%s'", a.effects, strings.ToLower(id))); got != n {
		a.t.Errorf("message %s took effect %d times, want %d", id, got, n)
	}
}

func fine() error { return nil }

func TestOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		a := open(t, d)
		id := client.NewID()
		for i, step := range []struct {
			group, id string
			end       error
			done      bool
		}{
			{"s-one", id, errFull, false},
			{"s-one", id, nil, true},
			{"s-one", id, nil, false},
			{"s-one", strings.ToUpper(id), nil, false},
			{"S-ONE", id, nil, true},  // another group
			{"s-one ", id, nil, true}, // another one
		} {
			done, err := a.book(t.Context(), step.group, step.id, func() error { return step.end })
			if done != step.done || !errors.Is(err, step.end) {
				t.Errorf("step %d: done %t, %v; want %t, %v", i, done, err, step.done, step.end)
			}
		}
		a.mustHave(id, 3)
	})
}

// TestTogether delivers one message to several members at once, while the first one still works.
func TestTogether(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		for _, end := range []error{nil, errFull} {
			a := open(t, d)
			id := client.NewID()
			var others sync.WaitGroup
			done := make([]bool, 3)
			_, err := a.book(t.Context(), "s-one", id, func() error {
				for i := range done {
					others.Go(func() {
						var err error
						for range 5 { // as the broker does when one is ended as a dead-lock
							if done[i], err = a.book(t.Context(), "s-one", id, fine); err == nil {
								return
							}
						}
						t.Errorf("member %d: %v", i, err)
					})
				}
				d.AwaitWaiting(t, a.table, len(done))
				return end
			})
			if !errors.Is(err, end) {
				t.Errorf("the first one: %v, want %v", err, end)
			}
			others.Wait()
			did := 0
			for _, one := range done {
				if one {
					did++
				}
			}
			if want := map[bool]int{true: 0, false: 1}[end == nil]; did != want {
				t.Errorf("the first one gave %v: %d others did it, want %d", end, did, want)
			}
			a.mustHave(id, 1)
		}
	})
}

// TestLostCommit repeats, as the broker does, after the connection broke in COMMIT.
func TestLostCommit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		a := open(t, d)
		for _, loss := range []dbtest.Loss{dbtest.Before, dbtest.After} {
			id := client.NewID()
			done, err := a.book(t.Context(), "s-one", id, func() error { a.breaker.Lose(loss, false); return nil })
			if done || err == nil {
				t.Errorf("loss %d: done %t, %v; want an error", loss, done, err)
			}
			if done, err := a.book(t.Context(), "s-one", id, fine); err != nil || done != (loss == dbtest.Before) {
				t.Errorf("loss %d, again: done %t, %v", loss, done, err)
			}
			a.mustHave(id, 1)
		}
	})
}

func TestPanicAndContext(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		a := open(t, d)
		id := client.NewID()
		func() {
			defer func() {
				if recover() != "boom" {
					t.Error("the panic did not get out")
				}
			}()
			_, _ = a.book(t.Context(), "s-one", id, func() error { panic("boom") })
		}()
		ctx, cancel := context.WithCancel(t.Context())
		if done, err := a.book(ctx, "s-one", id, func() error { cancel(); return nil }); done || err == nil {
			t.Errorf("context ended: done %t, %v", done, err)
		}
		if done, err := a.book(t.Context(), "s-one", id, fine); !done || err != nil {
			t.Errorf("then: done %t, %v", done, err)
		}
		a.mustHave(id, 1)
	})
}

func TestTrim(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		a := open(t, d)
		const many = 230 // more than two chunks
		for range many {
			if done, err := a.book(t.Context(), "s-one", client.NewID(), fine); !done || err != nil {
				t.Fatalf("done %t, %v", done, err)
			}
		}
		d.Exec(t, fmt.Sprintf("UPDATE %s SET created_ms = %d", a.table, time.Now().Add(-time.Hour).UnixMilli()))
		id := client.NewID()
		if _, err := a.book(t.Context(), "s-one", id, fine); err != nil {
			t.Fatal(err)
		}
		if n, err := a.in.Trim(t.Context(), 30*time.Minute); n != many || err != nil {
			t.Errorf("trimmed %d, %v, want %d", n, err, many)
		}
		if done, err := a.book(t.Context(), "s-one", id, fine); done || err != nil {
			t.Errorf("after the trim: done %t, %v, want the young row to be there", done, err)
		}
	})
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	in, err := inbox.New(nil, inbox.SQLite, inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, noGroup := in.Do(t.Context(), "", &client.Delivery{ID: client.NewID()}, nil)
	_, noID := in.Do(t.Context(), "g", &client.Delivery{ID: "17"}, nil)
	_, noAge := in.Trim(t.Context(), 0)
	_, dialect := inbox.New(nil, 0, inbox.Options{})
	_, table := inbox.New(nil, inbox.MySQL, inbox.Options{Table: "a.b"})
	_, readOnly := inbox.New(nil, inbox.MySQL, inbox.Options{Tx: &sql.TxOptions{ReadOnly: true}})
	for _, err := range []error{noGroup, noID, noAge, dialect, table, readOnly} {
		if !errors.Is(err, client.Invalid) {
			t.Errorf("got %v, want Invalid", err)
		}
	}
}
