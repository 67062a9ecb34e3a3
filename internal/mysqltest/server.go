// Package mysqltest gives tests a real MySQL or MariaDB server.
package mysqltest

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// The environment: the data source name of a server on which databases may be made, and whether a missing one
// is a failure. ./build.sh test sets both.
const (
	sourceVariable  = "KITEQ_TEST_MYSQL"
	requireVariable = "KITEQ_TEST_REQUIRE"
)

// Server returns how to log in to the server, on no database. Without a server the test is skipped, or fails
// where one is required.
func Server(tb testing.TB) *mysql.Config {
	tb.Helper()
	source := os.Getenv(sourceVariable)
	if source == "" {
		why := "no MySQL to test against: run ./build.sh test, or set " + sourceVariable + " to a data source name"
		if os.Getenv(requireVariable) == "1" {
			tb.Fatal(why)
		}
		tb.Skip(why)
	}
	c, err := mysql.ParseDSN(source)
	if err != nil {
		tb.Fatal(err)
	}
	c.DBName = ""
	return c
}

// Name returns the name of a database of the test's own, with label as a part of it. Whoever makes it need not
// drop it: that is done when the test ends.
func Name(tb testing.TB, label string) string {
	tb.Helper()
	Server(tb)
	name := fmt.Sprintf("kiteq_%s_%d_%08x", label, os.Getpid(), rand.Uint32())
	tb.Cleanup(func() { Exec(tb, "DROP DATABASE IF EXISTS "+name) })
	return name
}

// Exec runs statements as the user of the environment, on no database.
func Exec(tb testing.TB, statements ...string) {
	tb.Helper()
	connector, err := mysql.NewConnector(Server(tb))
	if err != nil {
		tb.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	for _, statement := range statements {
		if _, err := db.Exec(statement); err != nil {
			tb.Errorf("%.80s: %v", statement, err)
		}
	}
}
