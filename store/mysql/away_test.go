package mysql

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// setupAway opens a journal through a proxy.
func setupAway(t *testing.T, tail kite.ByteSize) (*proxy, *Journal, *Database) {
	t.Helper()
	o := options(t)
	o.tailBytes = tail
	p := newProxy(t, o.Master)
	direct := mustDial(t, o)
	o.Master = p.addr()
	d := mustDial(t, o)
	return p, mustCreate(t, d, "b"), direct
}

// begin appends in the background.
func begin(j *Journal, batch ...*kite.Record) chan error {
	done := make(chan error, 1)
	go func() { done <- j.Append(batch) }()
	return done
}

func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
		panic("not reached")
	}
}

// awaitAway waits until Err says that the database is away.
func awaitAway(t *testing.T, j *Journal) error {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-look.C {
		if err := j.Err(); err != nil {
			return err
		}
	}
	t.Fatal("err: nil while the database is away")
	return nil
}

// TestAway lets the database go away around a COMMIT: the batch waits, is told about, and is there once when
// the database is back, whether it had been committed or not.
func TestAway(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]loss{"before the commit": before, "between commit and answer": after} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, j, _ := setupAway(t, 1)
			if err := j.Append([]*kite.Record{message("a", 1, "one")}); err != nil {
				t.Fatal(err)
			}
			p.stop(lose)
			done := begin(j, message("a", 2, "two"), message("b", 1, "three"))
			err := awaitAway(t, j)
			if !errors.Is(err, kite.Unavailable) || !strings.Contains(err.Error(), "mysql "+p.addr()+" is away since ") {
				t.Errorf("err: %v, want that the server is away", err)
			}
			p.cut() // readers, too
			if err := j.Read("a", 1, func(*kite.Record) bool { return true }); !errors.Is(err, kite.Unavailable) {
				t.Errorf("read: %v, want code unavailable", err)
			}
			if _, next := j.Bounds("a"); next != 2 {
				t.Errorf("bounds: next is %d before the batch has its answer, want 2", next)
			}
			p.start()
			if err := await(t, done, "append when the database is back"); err != nil {
				t.Fatalf("append: %v", err)
			}
			if err := j.Err(); err != nil {
				t.Errorf("err when the database is back: %v", err)
			}
			if got := append(bodies(t, j, "a"), bodies(t, j, "b")...); !slices.Equal(got, []string{"one", "two", "three"}) {
				t.Errorf("read %q", got)
			}
			if err := j.Append([]*kite.Record{message("a", 3, "four")}); err != nil {
				t.Errorf("append afterwards: %v", err)
			}
		})
	}
}

// TestAbandon ends an Append that waits.
func TestAbandon(t *testing.T) {
	t.Parallel()
	p, j, direct := setupAway(t, 1)
	p.stop(none)
	done := begin(j, message("a", 1, "one"))
	awaitAway(t, j)
	j.Abandon()
	if err := await(t, done, "append after Abandon"); !errors.Is(err, kite.Unavailable) || !errors.Is(err, errAbandoned) {
		t.Errorf("append: %v, want that it was abandoned", err)
	}
	if err := j.Append([]*kite.Record{message("a", 1, "one")}); !errors.Is(err, kite.Unavailable) {
		t.Errorf("append afterwards: %v, want code unavailable", err)
	}
	again := mustClaim(t, direct, j.Held(), "b")
	if got := bodies(t, again, "a"); len(got) != 0 {
		t.Errorf("the abandoned batch was kept: %q", got)
	}
}

// TestIdle breaks a connection that nobody uses: the next Append does not notice more than a moment.
func TestIdle(t *testing.T) {
	t.Parallel()
	p, j, _ := setupAway(t, 1)
	if err := j.Append([]*kite.Record{message("a", 1, "one")}); err != nil {
		t.Fatal(err)
	}
	p.cut()
	if err := j.Append([]*kite.Record{message("a", 2, "two")}); err != nil {
		t.Fatal(err)
	}
	if err := j.Checkpoint(func(func(*kite.Record) bool) {}); err != nil {
		t.Fatal(err)
	}
	p.stop(none)
	if err := j.Checkpoint(func(func(*kite.Record) bool) {}); !errors.Is(err, kite.Unavailable) || j.poison.Load() != nil {
		t.Errorf("checkpoint while the database is away: %v, poison %v; want code unavailable and no poison", err, j.poison.Load())
	}
	p.start()
	if err := j.Append([]*kite.Record{message("a", 3, "three")}); err != nil {
		t.Fatal(err)
	}
}

// TestTail reads while the database is away what is in memory, transactions too, and not what is not.
func TestTail(t *testing.T) {
	t.Parallel()
	p, j, _ := setupAway(t, 64<<10)
	prepared := message("a", 0, "two")
	prepared.Kind = kite.KindPrepared
	mustAppend(t, j, message("a", 1, "one"), prepared)
	commit := message("a", 2, "note")
	commit.Kind, commit.ID, commit.Ref = kite.KindCommit, prepared.ID, prepared.Position
	mustAppend(t, j, commit, message("a", 3, "three"), message("old", 1, "old"))
	p.stop(none)
	done := begin(j, message("a", 4, "four"))
	awaitAway(t, j)
	if got := bodies(t, j, "a"); !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("read %q while the database is away", got)
	}
	var body string
	if err := j.Load(prepared.Position, func(r *kite.Record) { body = string(r.Body) }); err != nil || body != "two" {
		t.Errorf("load of an undecided message: %q, %v", body, err)
	}
	p.start()
	if err := await(t, done, "append when the database is back"); err != nil {
		t.Fatal(err)
	}
	for seq := kite.Seq(5); len(j.streams["old"].recent) > 0; seq++ { // until it has left the memory
		mustAppend(t, j, message("a", seq, strings.Repeat("x", 1000)))
	}
	if j.tail.bases[prepared.Position] != nil || j.tail.bytes > j.tail.limit || len(j.streams["a"].recent) > 100 {
		t.Errorf("%d bytes and %d records in memory", j.tail.bytes, len(j.streams["a"].recent))
	}
	if got := bodies(t, j, "a"); len(got) < 50 || !slices.Equal(got[:4], []string{"one", "two", "three", "four"}) {
		t.Errorf("read %d messages, beginning with %.4q", len(got), got)
	}
	p.stop(none)
	done = begin(j, message("b", 1, "b"))
	awaitAway(t, j)
	if err := j.Read("old", 1, func(*kite.Record) bool { return true }); !errors.Is(err, kite.Unavailable) || !strings.Contains(err.Error(), "is away since") {
		t.Errorf("read of what is not in memory: %v", err)
	}
	p.start()
	if err := await(t, done, "append when the database is back"); err != nil {
		t.Fatal(err)
	}
}
