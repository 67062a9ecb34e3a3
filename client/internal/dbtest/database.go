package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // driver "mysql"
	_ "github.com/lib/pq"              // driver "postgres"

	"github.com/kiteq/kiteq/client/internal/sqltable"
)

// The environment: data source names of servers, and whether missing ones are a failure. ./build.sh test
// sets all of them.
const (
	mysqlVariable    = "KITEQ_TEST_MYSQL"
	postgresVariable = "KITEQ_TEST_POSTGRES"
	requireVariable  = "KITEQ_TEST_REQUIRE"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// Database is one kind of database, for one test.
type Database struct {
	Dialect sqltable.Dialect
	driver  string
	source  string // data source name
	admin   *sql.DB
}

// Each runs the test on every database, at the same time. Those that are not there are skipped, or fail
// when the environment requires them.
func Each(t *testing.T, test func(t *testing.T, d *Database)) {
	t.Helper()
	t.Parallel()
	for _, d := range []Database{
		{Dialect: sqltable.MySQL, driver: "mysql", source: os.Getenv(mysqlVariable)},
		{Dialect: sqltable.PostgreSQL, driver: "postgres", source: os.Getenv(postgresVariable)},
		{Dialect: sqltable.SQLite},
	} {
		t.Run(d.Dialect.String(), func(t *testing.T) {
			t.Parallel()
			switch {
			case d.Dialect == sqltable.SQLite:
				d.driver, d.source = "sqlite3", sqliteSource(filepath.Join(t.TempDir(), "db"))
			case d.source == "":
				missing(t, "no "+d.Dialect.String()+" to test against: run ./build.sh test, or set "+mysqlVariable+" or "+postgresVariable+" to a data source name")
			}
			d.admin = d.Open(t)
			if err := d.admin.PingContext(t.Context()); err != nil {
				missing(t, fmt.Sprintf("%s does not answer: %v", d.Dialect, err))
			}
			test(t, &d)
		})
	}
}

func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv(requireVariable) == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// sqliteSource names a database file, opened as a program that writes from several processes would, but
// never synced.
func sqliteSource(path string) string {
	return "file:" + path + "?_journal_mode=WAL&_synchronous=OFF&_busy_timeout=2000"
}

// Open returns a pool of connections of its own, like that of another process.
func (d *Database) Open(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open(d.driver, d.source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// Source returns the data source name.
func (d *Database) Source() string { return d.source }

var tables atomic.Int64

// Table returns the name of a table that nobody else uses. It is dropped when the test ends, if it is there
// then.
func (d *Database) Table(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("kiteq_test_%d_%d", os.Getpid(), tables.Add(1))
	t.Cleanup(func() {
		if _, err := d.admin.ExecContext(context.WithoutCancel(t.Context()), "DROP TABLE IF EXISTS "+name); err != nil {
			t.Errorf("drop table: %v", err)
		}
	})
	return name
}

// Exec runs a statement that must not fail.
func (d *Database) Exec(t *testing.T, statement string) {
	t.Helper()
	if _, err := d.admin.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Count returns what a query that selects one number gives.
func (d *Database) Count(t *testing.T, query string) int {
	t.Helper()
	var n int
	if err := d.admin.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// AwaitWaiting returns when n statements that insert into the table wait for a lock. SQLite does not tell:
// there it returns at once.
func (d *Database) AwaitWaiting(t *testing.T, table string, n int) {
	t.Helper()
	var query string
	switch d.Dialect {
	case sqltable.MySQL:
		// innodb_trx does not show a transaction whose first statement waits.
		query = "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'Update' AND info LIKE 'INSERT%" + table + "%'"
	case sqltable.PostgreSQL:
		query = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%" + table + "%'"
	default:
		return
	}
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(patience); d.Count(t, query) != n; <-look.C {
		if time.Now().After(end) {
			t.Fatalf("%d inserts into %s wait for a lock, want %d", d.Count(t, query), table, n)
		}
	}
}
