package mysql

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// TestFenced lets a broker write that does not know that its journal was taken over.
func TestFenced(t *testing.T) {
	t.Parallel()
	d := mustDial(t, options(t))
	asleep := mustCreate(t, d, "first")
	prepared := message("a", 0, "undecided")
	prepared.Kind, prepared.Seq = kite.KindPrepared, 0
	if err := asleep.Append([]*kite.Record{message("a", 1, "one"), prepared}); err != nil {
		t.Fatal(err)
	}
	taken := mustClaim(t, d, asleep.Held(), "second")
	if err := taken.Replay(func(*kite.Record) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if got := taken.Held(); got.Broker != "first" || got.Owner != "second" || got.Epoch != 2 {
		t.Errorf("held: %+v", got)
	}
	// The new owner has written nothing yet: only the epoch says that it is the owner.
	if err := asleep.Append([]*kite.Record{message("a", 2, "two")}); !errors.Is(err, store.ErrFenced) {
		t.Fatalf("append right after the claim: %v, want ErrFenced", err)
	}
	commit := message("a", 2, "")
	commit.Kind, commit.ID, commit.Ref = kite.KindCommit, prepared.ID, prepared.Position
	if err := taken.Append([]*kite.Record{commit}); err != nil {
		t.Fatal(err)
	}
	rollback := *commit
	rollback.Kind, rollback.Seq = kite.KindRollback, 0
	_, trimErr := fencedTwin(t, d, asleep).Trim(store.Needs{BeforeMs: startMs + 1<<41})
	for call, err := range map[string]error{
		"append":     fencedTwin(t, d, asleep).Append([]*kite.Record{message("a", 2, "two")}),
		"again":      asleep.Append([]*kite.Record{message("a", 2, "two")}),
		"rollback":   fencedTwin(t, d, asleep).Append([]*kite.Record{&rollback}),
		"checkpoint": fencedTwin(t, d, asleep).Checkpoint(func(func(*kite.Record) bool) {}),
		"trim":       trimErr,
		"err":        asleep.Err(),
	} {
		if !errors.Is(err, store.ErrFenced) || !errors.Is(err, kite.Unavailable) {
			t.Errorf("%s of a fenced journal: %v, want ErrFenced", call, err)
		}
	}
	if got := bodies(t, taken, "a"); !slices.Equal(got, []string{"one", "undecided"}) {
		t.Errorf("read %q, want what the new owner knows", got)
	}
	if _, err := d.Claim(asleep.Held(), "third"); !errors.Is(err, store.ErrFenced) {
		t.Errorf("claim by what was held before: %v, want ErrFenced", err)
	}
}

// fencedTwin is another view of a journal that does not know yet that it is fenced, with units to trim.
func fencedTwin(t *testing.T, d *Database, j *Journal) *Journal {
	t.Helper()
	twin := &Journal{
		db: d, held: j.held, log: j.log, life: &lifetime{ended: make(chan struct{})}, head: j.head,
		streams: j.streams, covered: j.head, units: []unit{{first: 1, last: j.head}},
	}
	twin.writer = writer{connector: d.writers, life: twin.life, journal: j.held.Journal}
	closeAtEnd(t, twin)
	return twin
}

// TestClaimRace has many claim one journal: one of them gets it.
func TestClaimRace(t *testing.T) {
	t.Parallel()
	d := mustDial(t, options(t))
	h := mustCreate(t, d, "gone").Held()
	var claims sync.WaitGroup
	var mu sync.Mutex
	var won []*Journal
	for i := range 8 {
		claims.Go(func() {
			j, err := d.Claim(h, fmt.Sprint("claimer-", i))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won = append(won, j)
			case !errors.Is(err, store.ErrFenced):
				t.Errorf("claim: %v, want ErrFenced", err)
			}
		})
	}
	claims.Wait()
	if len(won) != 1 {
		t.Fatalf("%d claimed the journal, want one", len(won))
	}
	closeAtEnd(t, won[0])
	held, err := d.Held(won[0].Held().Owner)
	if err != nil || len(held) != 1 || held[0] != won[0].Held() || held[0].Epoch != 2 {
		t.Errorf("held: %+v, %v; want %+v", held, err, won[0].Held())
	}
}

// TestDecision refuses a decision about what is decided otherwise, whatever the lane thinks, and keeps nothing
// of its batch.
func TestDecision(t *testing.T) {
	t.Parallel()
	d := mustDial(t, options(t))
	j := mustCreate(t, d, "b")
	prepared := message("a", 0, "tx")
	prepared.Kind = kite.KindPrepared
	if err := j.Append([]*kite.Record{prepared}); err != nil {
		t.Fatal(err)
	}
	decide := func(kind kite.Kind, seq kite.Seq) error {
		r := message("a", seq, "")
		r.Kind, r.ID, r.Ref, r.DueMs = kind, prepared.ID, prepared.Position, startMs
		return j.Append([]*kite.Record{message("c", 1, "beside it"), r})
	}
	if err := j.Append([]*kite.Record{{Kind: kite.KindRollback, ID: prepared.ID, Ref: prepared.Position, Topic: "a", TimeMs: startMs}}); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []kite.Kind{kite.KindCommit, kite.KindDelayed, kite.KindPark, kite.KindRollback} {
		seq := kite.Seq(0)
		if kind == kite.KindCommit || kind == kite.KindDelayed {
			seq = 1
		}
		if err := decide(kind, seq); !errors.Is(err, kite.Invalid) {
			t.Errorf("%s of what was rolled back: %v, want code invalid", kind, err)
		}
	}
	if got := append(bodies(t, j, "a"), bodies(t, j, "c")...); len(got) > 0 {
		t.Errorf("read %q, want nothing of what was refused", got)
	}
	if err := j.Append([]*kite.Record{message("a", 1, "one")}); err != nil {
		t.Errorf("append afterwards: %v", err)
	}
}

// TestDeadlock makes a batch the victim of a deadlock: it is written when that is over, at the same places.
func TestDeadlock(t *testing.T) {
	t.Parallel()
	d := mustDial(t, options(t))
	j := mustCreate(t, d, "b")
	// The server gives up the transaction that has changed less.
	tx, err := d.readers.Begin()
	if err != nil {
		t.Fatal(err)
	}
	exec := func(statement string, args ...any) {
		t.Helper()
		if _, err := tx.Exec(statement, args...); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	for i := range 50 {
		exec("INSERT INTO kite_unit VALUES(999,?,0,0)", i)
	}
	for i := range d.shards {
		exec("SELECT position FROM " + tableNames[i] + " FOR UPDATE") // and what lies between
	}
	batch := []*kite.Record{message("a", 1, "one"), message("b", 1, "two")}
	done := begin(j, batch...)
	awaitWaiting(t, d)
	exec("SELECT id FROM kite_journal FOR UPDATE")
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := await(t, done, "append after the deadlock"); err != nil {
		t.Fatal(err)
	}
	if got := append(bodies(t, j, "a"), bodies(t, j, "b")...); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("read %q", got)
	}
	if serialOf(batch[0].Position) != 1 || serialOf(batch[1].Position) != 2 {
		t.Errorf("positions %d and %d, want the first ones", batch[0].Position, batch[1].Position)
	}
}

// awaitWaiting returns when an INSERT into the database waits for a lock.
func awaitWaiting(t *testing.T, d *Database) {
	t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-look.C {
		var n int
		// innodb_trx does not show every transaction that waits.
		err := d.readers.QueryRow("SELECT COUNT(*) FROM information_schema.processlist WHERE db=DATABASE() AND state='Update' AND info LIKE 'INSERT%'").Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			return
		}
	}
	t.Fatal("no INSERT waits for a lock")
}
