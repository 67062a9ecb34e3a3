package mysqltest

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/kiteq/kiteq/internal/mysqltest"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/mysql"
)

// Options leads to a database of the test's own, with name as a part of its name, which is dropped when the test
// ends. Without a server the test is skipped, or fails where one is required.
func Options(tb testing.TB, name string) mysql.Options {
	tb.Helper()
	c := mysqltest.Server(tb)
	return mysql.Options{
		Master: c.Addr, User: c.User, Password: mysql.Secret(c.Passwd), DB: mysqltest.Name(tb, name), MaxMessage: 1 << 20, MaxConn: 2,
	}
}

// Open opens the journal of the broker, as the broker does: the one that it has, or a new one. An earlier
// Journal of the same broker can write nothing any more. Closing it closes its connections to the database.
func Open(tb testing.TB, o mysql.Options, broker string) store.Journal {
	tb.Helper()
	d, err := mysql.Dial(o, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	j, err := open(d, broker)
	if err != nil {
		_ = d.Close()
		tb.Fatal(err)
	}
	return journal{j, d}
}

func open(d *mysql.Database, broker string) (*mysql.Journal, error) {
	held, err := d.Held(broker)
	if err != nil {
		return nil, err
	}
	if len(held) == 0 {
		return d.Create(broker)
	}
	return d.Claim(held[0], broker)
}

// journal has its database to itself.
type journal struct {
	*mysql.Journal
	database *mysql.Database
}

// Close implements store.Journal.
func (j journal) Close() error { return errors.Join(j.Journal.Close(), j.database.Close()) }
