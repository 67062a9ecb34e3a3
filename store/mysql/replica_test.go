package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/mysqltest"
)

// counter counts the queries that go through its connections.
type counter struct {
	driver.Connector
	queries atomic.Int64
}

func (c *counter) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &countingConn{conn.(connection), c}, nil
}

type countingConn struct {
	connection
	counter *counter
}

func (c *countingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.connection.QueryContext(ctx, query, args)
	if err == nil {
		c.counter.queries.Add(1)
	}
	return rows, err
}

// TestReplica reads from a replica that has all, one that lags, one whose transactions lack their bytes, and one
// that is gone: a reader sees the same.
func TestReplica(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Shards, o.tailBytes = 1, 1
	behind := options(t)
	behind.Shards = 1
	d := mustDial(t, o)
	j := mustCreate(t, d, "b")
	var want []string
	for seq := kite.Seq(1); seq <= 100; seq += 2 {
		prepared := message("a", 0, "transaction")
		prepared.Kind = kite.KindPrepared
		mustAppend(t, j, prepared)
		commit := message("a", seq+1, "note")
		commit.Kind, commit.ID, commit.Ref = kite.KindCommit, prepared.ID, prepared.Position
		mustAppend(t, j, message("a", seq, "message"), commit)
		want = append(want, "message", "transaction")
	}
	second := mustDial(t, behind) // it has the tables
	name := behind.DB
	seen := &counter{}
	connector, err := mysql.NewConnector(second.config(o.Master))
	if err != nil {
		t.Fatal(err)
	}
	seen.Connector = connector
	d.replica = &replica{db: sql.OpenDB(seen)}
	check := func(what string, asked bool) {
		t.Helper()
		before := seen.queries.Load()
		if got := bodies(t, j, "a"); !slices.Equal(got, want) {
			t.Errorf("%s: read %d messages, want %d: %q", what, len(got), len(want), got)
		}
		if n := seen.queries.Load() - before; (n > 0) != asked {
			t.Errorf("%s: %d queries to the replica", what, n)
		}
	}
	check("empty", true)
	mysqltest.Exec(t, "INSERT INTO "+name+".kite_message_0 SELECT * FROM "+o.DB+".kite_message_0 WHERE seq<50")
	check("lags, without the transactions", true)
	mysqltest.Exec(t, "INSERT INTO "+name+".kite_prepared SELECT * FROM "+o.DB+".kite_prepared")
	check("lags", true)
	mysqltest.Exec(t, "INSERT INTO "+name+".kite_message_0 SELECT * FROM "+o.DB+".kite_message_0 WHERE seq>=50")
	check("has all", true)
	mysqltest.Exec(t, "DROP DATABASE "+name)
	check("is gone", false)
	if !d.replica.rests() {
		t.Error("a replica that failed is asked again at once")
	}
}
