package barrier_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/barrier"
	"github.com/kiteq/kiteq/client/internal/dbtest"
)

var errDeclined = errors.New("the card was declined")

func done(*sql.Tx) error    { return nil }
func decline(*sql.Tx) error { return errDeclined }

// TestOrders puts checks before, into and after transactions of every end. Each case says how the transaction
// ends; then row, verdict and every answer have to agree.
func TestOrders(t *testing.T) {
	cases := []struct {
		name      string
		play      func(s *shop, id string) (answers []client.Verdict, err error)
		want      client.Verdict
		err       error // that InTx wraps
		noVerdict bool
	}{
		{"nobody asks, commits", func(s *shop, id string) ([]client.Verdict, error) {
			return nil, s.order(s.t.Context(), id, done)
		}, client.Commit, nil, false},
		{"nobody asks, fails", func(s *shop, id string) ([]client.Verdict, error) {
			return nil, s.order(s.t.Context(), id, decline)
		}, client.Rollback, errDeclined, false},
		{"check before", func(s *shop, id string) ([]client.Verdict, error) {
			answers := []client.Verdict{s.check(id)}
			return answers, s.order(s.t.Context(), id, func(*sql.Tx) error { s.t.Error("fn ran"); return nil })
		}, client.Rollback, barrier.ErrRolledBack, false},
		{"two checks before, at once", func(s *shop, id string) ([]client.Verdict, error) {
			answers := s.ask(id, 2)()
			return answers, s.order(s.t.Context(), id, func(*sql.Tx) error { s.t.Error("fn ran"); return nil })
		}, client.Rollback, barrier.ErrRolledBack, false},
		{"check during, commits", during(1, nil), client.Commit, nil, false},
		{"check during, fails", during(1, errDeclined), client.Rollback, errDeclined, false},
		{"three checks during, commits", during(3, nil), client.Commit, nil, false},
		{"three checks during, fails", during(3, errDeclined), client.Rollback, errDeclined, false},
		{"again after commit", func(s *shop, id string) ([]client.Verdict, error) {
			if err := s.order(s.t.Context(), id, done); err != nil {
				return nil, err
			}
			return nil, s.order(s.t.Context(), id, func(*sql.Tx) error { s.t.Error("fn ran again"); return nil })
		}, client.Commit, nil, false},
		{"again after failure", func(s *shop, id string) ([]client.Verdict, error) {
			if err := s.order(s.t.Context(), id, decline); !errors.Is(err, errDeclined) {
				return nil, err
			}
			return nil, s.order(s.t.Context(), id, func(*sql.Tx) error { s.t.Error("fn ran again"); return nil })
		}, client.Rollback, barrier.ErrRolledBack, false},
		{"panics", func(s *shop, id string) (_ []client.Verdict, err error) {
			defer func() { err = fmt.Errorf("%w: %v", errDeclined, recover()) }()
			return nil, s.order(s.t.Context(), id, func(*sql.Tx) error { panic("boom") })
		}, client.Rollback, errDeclined, false},
		{"context ends", func(s *shop, id string) ([]client.Verdict, error) {
			ctx, cancel := context.WithCancel(s.t.Context())
			return nil, s.order(ctx, id, func(*sql.Tx) error { cancel(); return nil })
		}, client.Rollback, context.Canceled, false},
		{"fn rolls back itself", func(s *shop, id string) ([]client.Verdict, error) {
			return nil, s.order(s.t.Context(), id, func(tx *sql.Tx) error { return tx.Rollback() })
		}, client.Rollback, sql.ErrTxDone, false},
		{"fn commits itself, then fails", func(s *shop, id string) ([]client.Verdict, error) {
			return nil, s.order(s.t.Context(), id, func(tx *sql.Tx) error { return errors.Join(tx.Commit(), errDeclined) })
		}, client.Commit, errDeclined, false},
		{"COMMIT does not arrive", lost(dbtest.Before, false), client.Rollback, errAny, false},
		{"COMMIT's answer is lost", lost(dbtest.After, false), client.Commit, nil, false},
		{"COMMIT does not arrive, database away", lost(dbtest.Before, true), client.Rollback, client.Indeterminate, true},
		{"COMMIT's answer is lost, database away", lost(dbtest.After, true), client.Commit, client.Indeterminate, true},
		{"COMMIT does not arrive, database away, again", twice(lost(dbtest.Before, true)), client.Commit, nil, false},
		{"COMMIT's answer is lost, database away, again", twice(lost(dbtest.After, true)), client.Commit, nil, false},
	}
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		s := open(t, d)
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				id := client.NewID()
				answers, err := c.play(s, id)
				switch {
				case c.err == nil && err != nil, c.err != nil && c.err != errAny && !errors.Is(err, c.err), c.err == errAny && err == nil:
					t.Errorf("InTx gave %v, want %v", err, c.err)
				case c.err != client.Indeterminate && errors.Is(err, client.Indeterminate):
					t.Errorf("InTx gave %v, want one that is sure", err)
				}
				s.mustAgree(t, id, c.want, answers)
				if sent := s.verdicts(s.client)[id]; c.noVerdict && len(sent) != 0 || !c.noVerdict && (len(sent) == 0 || sent[0] != c.want) {
					t.Errorf("verdicts %v were sent, want %s, or none: %t", sent, c.want, c.noVerdict)
				}
			})
		}
	})
}

// errAny stands for an error that only the database knows.
var errAny = errors.New("any error")

// mustAgree checks that everybody says the same, now and for ever.
func (s *shop) mustAgree(t *testing.T, id string, want client.Verdict, answers []client.Verdict) {
	t.Helper()
	answers = append(answers, s.check(id), s.check(id))
	if i := slices.IndexFunc(answers, func(v client.Verdict) bool { return v != want }); i >= 0 {
		t.Errorf("checks were answered %v, want %s", answers, want)
	}
	if rows := s.rows(id); (rows == 1) != (want == client.Commit) {
		t.Errorf("%d rows, want %s", rows, want)
	}
}

// during asks while fn runs, and lets fn end when all that ask wait for it.
func during(n int, end error) func(*shop, string) ([]client.Verdict, error) {
	return func(s *shop, id string) ([]client.Verdict, error) {
		var answers func() []client.Verdict
		err := s.order(s.t.Context(), id, func(*sql.Tx) error {
			answers = s.ask(id, n)
			s.d.AwaitWaiting(s.t, s.table, n)
			return end
		})
		return answers(), err
	}
}

// lost loses the connection at COMMIT.
func lost(l dbtest.Loss, stay bool) func(*shop, string) ([]client.Verdict, error) {
	return func(s *shop, id string) ([]client.Verdict, error) {
		defer s.breaker.Away(false)
		return nil, s.order(s.t.Context(), id, func(*sql.Tx) error {
			s.breaker.Lose(l, stay)
			return nil
		})
	}
}

// twice repeats under the same id what ended Indeterminate.
func twice(play func(*shop, string) ([]client.Verdict, error)) func(*shop, string) ([]client.Verdict, error) {
	return func(s *shop, id string) ([]client.Verdict, error) {
		if _, err := play(s, id); !errors.Is(err, client.Indeterminate) {
			return nil, err
		}
		return nil, s.order(s.t.Context(), id, done)
	}
}

// TestStall holds a transaction while a check gives up: the check is answered Unknown, and right when the
// transaction has ended.
func TestStall(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		s := open(t, d)
		id := client.NewID()
		err := s.order(t.Context(), id, func(*sql.Tx) error {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if v := s.other.Check(ctx, client.Check{ID: id}); v != client.Unknown {
				t.Errorf("answered %s while nobody can know", v)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		s.mustAgree(t, id, client.Commit, nil)
	})
}

// TestAway asks and publishes while the database cannot be reached.
func TestAway(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		s := open(t, d)
		s.breaker.Away(true)
		id := client.NewID()
		if v := s.barrier.Check(t.Context(), client.Check{ID: id}); v != client.Unknown {
			t.Errorf("answered %s without a database", v)
		}
		if err := s.order(t.Context(), id, done); !errors.Is(err, client.Indeterminate) {
			t.Errorf("InTx gave %v without a database, want Indeterminate", err)
		}
		if sent := s.verdicts(s.client)[id]; len(sent) != 0 {
			t.Errorf("verdicts %v were sent without a database", sent)
		}
		s.mustAgree(t, id, client.Rollback, nil)
	})
}

// TestIsolation asks during transactions of every isolation level that the database knows.
func TestIsolation(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		if d.Dialect == barrier.SQLite {
			t.Skip("SQLite has one level only")
		}
		s := open(t, d)
		for _, level := range []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
			var err error
			s.barrier, err = barrier.New(d.Open(t), d.Dialect, barrier.Options{Table: s.table, Tx: &sql.TxOptions{Isolation: level}})
			if err != nil {
				t.Fatal(err)
			}
			for want, end := range map[client.Verdict]error{client.Commit: nil, client.Rollback: errDeclined} {
				id := client.NewID()
				answers, err := during(2, end)(s, id)
				if !errors.Is(err, end) {
					t.Errorf("%s: InTx gave %v, want %v", level, err, end)
				}
				s.mustAgree(t, id, want, answers)
			}
		}
	})
}
