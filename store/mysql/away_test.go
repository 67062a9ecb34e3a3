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
func setupAway(t *testing.T) (*proxy, *Journal, *Database) {
	t.Helper()
	o := options(t)
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
			p, j, _ := setupAway(t)
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
	p, j, direct := setupAway(t)
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
	p, j, _ := setupAway(t)
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
