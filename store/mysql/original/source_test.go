package original_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/internal/mysqltest"
	"github.com/kiteq/kiteq/store/mysql/original"
	"github.com/kiteq/kiteq/store/mysql/original/originaltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTables(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		db     string
		shards int
		want   int // tables, 0: refused
		last   string
	}{
		{"kite", 4, 20, "kite_3.kite_msg_dlq"},
		{"kite", 1, 17, "kite_0.kite_msg_dlq"},
		{"kite", 16, 32, "kite_15.kite_msg_dlq"},
		{"kite", 3, 0, ""},
		{"kite", 0, 0, ""},
		{"", 4, 0, ""},
		{"k`; DROP", 4, 0, ""},
	} {
		tables, err := original.Tables(c.db, c.shards)
		if len(tables) != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("Tables(%q, %d): %d tables, %v, want %d", c.db, c.shards, len(tables), err, c.want)
			continue
		}
		if c.want > 0 && tables[c.want-1].String() != c.last {
			t.Errorf("Tables(%q, %d) ends with %s, want %s", c.db, c.shards, tables[c.want-1], c.last)
		}
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	d := originaltest.New(t, 2)
	want := map[string][]original.Row{}
	for n := range 25 {
		r := original.Row{
			MessageID: fmt.Sprintf("%032x", n), Header: []byte{1, 2}, Body: []byte(fmt.Sprint("body ", n)), Command: 0x11,
			Topic: "trade", Type: "pay", Group: "p-x", Committed: n%2 == 0, ExpiresS: 100, StoredS: int64(n), Limit: 3, Attempts: 1, Server: "host",
		}
		if n%3 == 0 {
			r.Settled, r.Failed = []string{"a", "b"}, []string{"c"}
		}
		table := d.Insert(r)
		r.ID = int64(len(want[table]) + 1)
		want[table] = append(want[table], r)
	}
	tables, err := original.Tables(d.Name, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := original.Check(t.Context(), d.DB, tables); err != nil {
		t.Fatal(err)
	}
	got := map[string][]original.Row{}
	for _, table := range tables {
		n, err := original.Count(t.Context(), d.DB, table, 0)
		if err != nil || int(n) != len(want[table.String()]) {
			t.Errorf("%s: %d rows, %v, want %d", table, n, err, len(want[table.String()]))
		}
		for after := int64(0); ; {
			page, err := original.Page(t.Context(), d.DB, table, after, 2)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			got[table.String()] = append(got[table.String()], page...)
			after = page[len(page)-1].ID
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestCheck: what is not there, is another's or is not ours to read is named, with what to do.
func TestCheck(t *testing.T) {
	t.Parallel()
	d := originaltest.New(t, 1)
	check := func(db *sql.DB, name string, shards int) string {
		tables, err := original.Tables(name, shards)
		if err != nil {
			t.Fatal(err)
		}
		if err := original.Check(context.Background(), db, tables); err != nil {
			return err.Error()
		}
		return ""
	}
	if got := check(d.DB, "nosuch", 1); !strings.Contains(got, "nosuch_0.kite_msg_0") || !strings.Contains(got, "are db and shardnum those") {
		t.Errorf("a database that is not there: %q", got)
	}
	if got := check(d.DB, d.Name, 2); !strings.Contains(got, d.Name+"_1.kite_msg_7") {
		t.Errorf("a wrong shardnum: %q", got)
	}
	d.Exec("ALTER TABLE " + d.Name + "_0.kite_msg_3 DROP COLUMN fail_groups")
	if got := check(d.DB, d.Name, 1); !strings.Contains(got, "kite_msg_3") || !strings.Contains(got, "no table of the original") || strings.Contains(got, "kite_msg_4") {
		t.Errorf("a table with other columns: %q", got)
	}
	user := fmt.Sprintf("u%d", rand.Uint32())
	d.Exec("CREATE USER " + user + "@'%' IDENTIFIED BY 'pw'")
	t.Cleanup(func() { d.Exec("DROP USER " + user) })
	c := mysqltest.Server(t)
	c.User, c.Passwd = user, "pw"
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	if got := check(db, d.Name, 1); !strings.Contains(got, "grant SELECT") || strings.Contains(got, "pw") {
		t.Errorf("a user without rights: %q", got)
	}
}
