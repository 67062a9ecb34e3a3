package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// recorder keeps one statement of each shape that goes through its connections.
type recorder struct {
	driver.Connector
	mu     *sync.Mutex
	shapes map[string]statement
}

type statement struct {
	text string
	args []any
}

func (r *recorder) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := r.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &recordingConn{conn.(connection), r}, nil
}

type recordingConn struct {
	connection
	recorder *recorder
}

func (c *recordingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.recorder.note(query, args)
	return c.connection.ExecContext(ctx, query, args)
}

func (c *recordingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.recorder.note(query, args)
	return c.connection.QueryContext(ctx, query, args)
}

var (
	numbers = regexp.MustCompile(`\d+`)
	lists   = regexp.MustCompile(`IN\([N,]+\)`)
)

// note takes a packet apart: what belongs to it as parameters has no ';'.
func (r *recorder) note(packet string, args []driver.NamedValue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for text := range strings.SplitSeq(packet, ";") {
		n := strings.Count(text, "?")
		verb, _, _ := strings.Cut(text, " ")
		if verb == "SELECT" || verb == "UPDATE" || verb == "DELETE" {
			s := statement{text: text}
			for _, a := range args[:n] {
				s.args = append(s.args, a.Value)
			}
			r.shapes[lists.ReplaceAllString(numbers.ReplaceAllString(text, "N"), "IN(N)")] = s
		}
		args = args[n:]
	}
}

// TestIndexes runs everything that a journal does among some thousand rows, and has the server explain every
// statement: none of them reads a table from end to end, or sorts.
func TestIndexes(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Shards = 1
	d := mustDial(t, o)
	fillFor(t, mustCreate(t, d, "other")) // its rows must not be looked at
	j := mustCreate(t, d, "b")
	fillFor(t, j)
	for _, table := range append(tables(d.shards), -1) {
		name := "kite_unit"
		if table >= 0 {
			name = tableNames[table]
		}
		var ignored [4]string
		if err := d.readers.QueryRow("ANALYZE TABLE "+name).Scan(&ignored[0], &ignored[1], &ignored[2], &ignored[3]); err != nil {
			t.Fatal(err)
		}
	}
	r := &recorder{mu: &sync.Mutex{}, shapes: map[string]statement{}}
	readers, err := mysql.NewConnector(d.config(d.o.Master))
	if err != nil {
		t.Fatal(err)
	}
	seen := *d
	seen.writers = &recorder{Connector: d.writers, mu: r.mu, shapes: r.shapes}
	r.Connector = readers
	seen.readers = sql.OpenDB(r)
	defer func() { _ = seen.readers.Close() }()
	exercise(t, &seen, j.Held())
	for shape, s := range r.shapes {
		explain(t, d, shape, s)
	}
	if len(r.shapes) < 30 {
		t.Errorf("%d statements were recorded, which is not all that a journal does", len(r.shapes))
	}
}

// fillFor appends some thousand records of all kinds.
func fillFor(t *testing.T, j *Journal) {
	t.Helper()
	const topics = 20
	next := kite.Seq(1)
	for range 40 {
		var batch, decisions []*kite.Record
		for i := range topics {
			topic := fmt.Sprint("topic-", i)
			prepared := message(topic, next, "prepared")
			prepared.Kind, prepared.Seq, prepared.ID[0] = kite.KindPrepared, 0, 'p'
			commit := *prepared
			commit.Kind, commit.Body = kite.KindCommit, nil
			rolled := *prepared
			rolled.ID[0] = 'r'
			rollback := rolled
			rollback.Kind = kite.KindRollback
			delayed := *prepared
			delayed.Kind, delayed.ID[0], delayed.DueMs = kite.KindDelayed, 'd', startMs+int64(next)*60_000
			delayed.Seq = kite.Seq(i + 1)
			dead := *prepared
			dead.Kind, dead.Group, dead.Seq = kite.KindDead, []byte("group"), (next+1)/2
			progress := kite.Record{Kind: kite.KindProgress, Topic: topic, Group: []byte("group"), TimeMs: startMs, Body: []byte("x")}
			commit.Seq = next + 1
			batch = append(batch, message(topic, next, "body"), prepared, &rolled, &delayed, &dead, &progress)
			decisions = append(decisions, &commit, &rollback)
			decisions[2*i].Ref, decisions[2*i+1].Ref = kite.Position(len(batch)-5), kite.Position(len(batch)-4) // for now
		}
		mustAppend(t, j, batch...)
		for _, r := range decisions {
			r.Ref = batch[r.Ref].Position
		}
		mustAppend(t, j, decisions...)
		next += 2
	}
}

func mustAppend(t *testing.T, j *Journal, batch ...*kite.Record) {
	t.Helper()
	if err := j.Append(batch); err != nil {
		t.Fatal(err)
	}
}

// exercise does with the filled journal all that a broker does.
func exercise(t *testing.T, d *Database, h Held) {
	t.Helper()
	j := mustClaim(t, d, h, "b")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(j.Replay(func(*kite.Record) error { return nil }))
	n := 0
	count := func(*kite.Record) bool { n++; return true }
	must(j.Read("topic-1", 1, count))
	must(j.Read(kite.DeadStream("topic-1", "group"), 1, count))
	must(j.Read(kite.DelayStream(kite.Minute(startMs+60_000)), 1, count))
	must(j.Load(at(1, 0), func(*kite.Record) { n++ }))
	must(j.Find(message("topic-1", 1, "").ID, 0, count))
	if n < 140 {
		t.Errorf("%d records were read", n)
	}
	prepared := message("topic-1", 0, "one")
	prepared.Kind = kite.KindPrepared
	mustAppend(t, j, prepared)
	mustAppend(t, j, &kite.Record{Kind: kite.KindPark, ID: prepared.ID, Ref: prepared.Position, Topic: "topic-1", TimeMs: startMs})
	must(j.Checkpoint(func(func(*kite.Record) bool) {}))
	needs := store.Needs{BeforeMs: startMs + 1<<40, Floors: map[string]kite.Seq{}}
	for name := range j.streams {
		needs.Floors[name] = 20
	}
	_, err := j.Trim(needs)
	must(err)
	_, err = d.Held("b")
	must(err)
}

// explain asks the server how it would execute the statement.
func explain(t *testing.T, d *Database, shape string, s statement) {
	t.Helper()
	rows, err := d.readers.Query("EXPLAIN "+s.text, s.args...)
	if err != nil {
		t.Errorf("explain %s: %v", shape, err)
		return
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values := make([]sql.NullString, len(names))
		fields, row := make([]any, len(names)), map[string]string{}
		for i := range values {
			fields[i] = &values[i]
		}
		if err := rows.Scan(fields...); err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			row[name] = values[i].String
		}
		extra := row["Extra"]
		switch {
		case row["table"] == "" || strings.HasPrefix(row["table"], "<") || strings.Contains(extra, "optimized away") || strings.Contains(extra, "no matching row") || strings.Contains(extra, "No matching"):
		case row["type"] == "ALL" || row["key"] == "" || row["type"] == "index":
			t.Errorf("reads all of a table: %v\n%s", row, shape)
		case strings.Contains(extra, "filesort") || strings.Contains(extra, "temporary"):
			t.Errorf("sorts: %v\n%s", row, shape)
		case strings.Contains(s.text, "GROUP BY") && !strings.Contains(extra, "Using index for group-by"):
			t.Errorf("reads all of an index to find its groups: %v\n%s", row, shape)
		}
		if testing.Verbose() {
			t.Logf("%-6s %-10s %5s rows  %s | %s", row["type"], row["key"], row["rows"], extra, shape[:min(len(shape), 90)])
		}
	}
	if err := rows.Err(); err != nil {
		t.Errorf("explain %s: %v", shape, err)
	}
}
