package mysql

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/mysqltest"
	"github.com/kiteq/kiteq/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// options leads to a database of the test's own, which is dropped when it ends.
func options(tb testing.TB) Options {
	tb.Helper()
	c := mysqltest.Server(tb)
	return Options{
		Master: c.Addr, User: c.User, Password: Secret(c.Passwd), DB: mysqltest.Name(tb, "test"),
		unitRows: testUnit, tailBytes: testTail,
	}
}

func mustDial(tb testing.TB, o Options) *Database {
	tb.Helper()
	d, err := Dial(o, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Errorf("close the database: %v", err)
		}
	})
	return d
}

func mustCreate(tb testing.TB, d *Database, broker string) *Journal {
	tb.Helper()
	j, err := d.Create(broker)
	if err != nil {
		tb.Fatal(err)
	}
	closeAtEnd(tb, j)
	return j
}

func mustClaim(tb testing.TB, d *Database, h Held, owner string) *Journal {
	tb.Helper()
	j, err := d.Claim(h, owner)
	if err != nil {
		tb.Fatal(err)
	}
	closeAtEnd(tb, j)
	return j
}

func closeAtEnd(tb testing.TB, j *Journal) {
	tb.Cleanup(func() {
		j.Abandon()
		if err := j.Close(); err != nil {
			tb.Errorf("close the journal: %v", err)
		}
	})
}

// openDir opens the journal that stands for a directory, as a broker does: that of the broker of its name.
func openDir(d *Database, dir string) (*Journal, error) {
	held, err := d.Held(dir)
	if err != nil {
		return nil, err
	}
	if len(held) == 0 {
		return d.Create(dir)
	}
	return d.Claim(held[0], dir)
}

const startMs = 1_700_000_000_000

// message is a message of the topic.
func message(topic string, seq kite.Seq, body string) *kite.Record {
	var id kite.MessageID
	copy(id[:], fmt.Sprintf("%.8s%08x", topic+"________", seq))
	return &kite.Record{
		Kind: kite.KindMessage, Command: 0x11, Limit: 5, ID: id, Seq: seq, TimeMs: startMs + int64(seq), ExpiresMs: startMs + 1<<40,
		Topic: topic, Type: []byte("type"), Group: []byte("producers"), Body: []byte(body),
	}
}

// bodies reads all of a stream.
func bodies(tb testing.TB, j store.Journal, stream string) (all []string) {
	tb.Helper()
	if err := j.Read(stream, 1, func(r *kite.Record) bool { all = append(all, string(r.Body)); return true }); err != nil {
		tb.Fatalf("read %s: %v", stream, err)
	}
	return all
}

// testTail is what a journal keeps in memory in tests: a few records, so that most is read from the database.
const testTail = 4 << 10

// testUnit is how many records a unit has in tests.
const testUnit = 8

// patience is how long a test waits for what must come.
const patience = 20 * time.Second
