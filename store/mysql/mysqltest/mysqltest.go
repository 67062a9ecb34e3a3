package mysqltest

import (
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"

	driver "github.com/go-sql-driver/mysql"

	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/mysql"
)

// The environment: the data source name of a server on which databases may be made, and whether a missing one
// is a failure. ./build.sh test sets both.
const (
	sourceVariable  = "KITEQ_TEST_MYSQL"
	requireVariable = "KITEQ_TEST_REQUIRE"
)

// Options leads to a database of the test's own, with name as a part of its name, which is dropped when the test
// ends. Without a server the test is skipped, or fails where one is required.
func Options(tb testing.TB, name string) mysql.Options {
	tb.Helper()
	source := os.Getenv(sourceVariable)
	if source == "" {
		why := "no MySQL to test against: run ./build.sh test, or set " + sourceVariable + " to a data source name"
		if os.Getenv(requireVariable) == "1" {
			tb.Fatal(why)
		}
		tb.Skip(why)
	}
	c, err := driver.ParseDSN(source)
	if err != nil {
		tb.Fatal(err)
	}
	db := fmt.Sprintf("kiteq_%s_%d_%08x", name, os.Getpid(), rand.Uint32())
	o := mysql.Options{Master: c.Addr, User: c.User, Password: mysql.Secret(c.Passwd), DB: db, MaxMessage: 1 << 20, MaxConn: 2}
	tb.Cleanup(func() {
		c.DBName = ""
		admin, err := sql.Open("mysql", c.FormatDSN())
		if err == nil {
			_, err = admin.Exec("DROP DATABASE IF EXISTS " + db)
			err = errors.Join(err, admin.Close())
		}
		if err != nil {
			tb.Errorf("drop the database: %v", err)
		}
	})
	return o
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
