package barrier

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/internal/sqltable"
	"github.com/kiteq/kiteq/internal/kite"
)

// Dialect names the kind of database: MySQL, PostgreSQL or SQLite.
type Dialect = sqltable.Dialect

// The dialects.
const (
	MySQL      = sqltable.MySQL      // MySQL 5.7 or newer, and MariaDB; the user's tables have to be InnoDB, too
	PostgreSQL = sqltable.PostgreSQL // 9.5 or newer
	SQLite     = sqltable.SQLite     // 3.24 or newer
)

// ErrRolledBack is what InTx wraps when the message's id has been rolled back before: a check came first,
// or an earlier InTx failed. Nothing took effect, and nothing ever will under this id: use another.
var ErrRolledBack = errors.New("this message id has been rolled back before: use another")

// MinKeep is the shortest time for which a row has to be kept, see Trim.
const MinKeep = client.MaxLifetime + 24*time.Hour

// Options of a Barrier. The zero value has usable defaults.
type Options struct {
	// Table is the name of the barrier's table: 1 to 48 letters, digits and underscores. The schema is
	// the connection's. Default "kiteq_barrier".
	Table string
	// Tx is how InTx begins transactions, for example with an isolation level. Every level is exact. Default
	// nil: as the database does.
	Tx *sql.TxOptions
	// Timeout bounds what InTx does after the transaction, whatever became of its ctx: find out how it
	// ended and bring the verdict to the broker. Default 5s, range 10ms to 1m.
	Timeout time.Duration
	// Log gets what no caller is told: a Warn when Check cannot answer. Default: nothing.
	Log *slog.Logger
}

// WithDefaults returns a copy with every zero field that has a default at it.
func (o Options) WithDefaults() Options {
	if o.Table == "" {
		o.Table = "kiteq_barrier"
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate returns every problem of the options but the table's name, joined, or nil. Each is an Error of
// code Invalid.
func (o Options) Validate() error {
	var bad []error
	if o.Tx != nil && o.Tx.ReadOnly {
		bad = append(bad, kite.Errorf(kite.Invalid, "Tx is read-only: the barrier writes a row"))
	}
	if o.Timeout < 10*time.Millisecond || o.Timeout > time.Minute {
		bad = append(bad, kite.Errorf(kite.Invalid, "Timeout %s: 10ms to 1m are allowed", o.Timeout))
	}
	return errors.Join(bad...)
}

// Barrier is a table in a database, with what is done there. It is safe for concurrent use, and there may
// be any number of them, in any number of processes, for one table.
type Barrier struct {
	db      *sql.DB
	table   *sqltable.Table
	options Options
	log     *slog.Logger
}

// New returns the barrier of the database, which stays the caller's. It does not connect: call Create, or
// make the table from DDL. The error is of code Invalid.
func New(db *sql.DB, d Dialect, o Options) (*Barrier, error) {
	o = o.WithDefaults()
	table, err := sqltable.New(d, o.Table,
		sqltable.Column{Name: "id", Kind: sqltable.ID, Key: true},
		sqltable.Column{Name: "outcome", Kind: sqltable.Word})
	if err := errors.Join(err, o.Validate()); err != nil {
		return nil, fmt.Errorf("barrier options: %w", err)
	}
	return &Barrier{db, table, o, o.Log.With("component", "barrier")}, nil
}

// DDL returns the statements that make the table, for those who keep their migrations elsewhere.
func (b *Barrier) DDL() []string { return b.table.DDL() }

// Create makes the table unless it is there.
func (b *Barrier) Create(ctx context.Context) error { return b.table.Create(ctx, b.db) }

// Trim deletes the rows that were written longer ago than olderThan, in small steps, and returns how many
// it has deleted, also when it fails. Call it now and then, in any process.
//
// A row has to be there as long as a broker can ask: a check that finds none writes "rolled_back" and so
// gives up a message whose transaction did commit. Brokers ask until the message expires, client.MaxLifetime
// after it was published at the latest, and then park the transaction for an operator, who wants to read the
// row, too. So olderThan under MinKeep is refused with code Invalid; 30 days are a good choice.
func (b *Barrier) Trim(ctx context.Context, olderThan time.Duration) (deleted int64, err error) {
	if olderThan < MinKeep {
		return 0, kite.Errorf(kite.Invalid, "trim barrier rows older than %s: at least %s are needed, brokers may ask as long", olderThan, MinKeep)
	}
	return b.table.Trim(ctx, b.db, time.Now().Add(-olderThan))
}

// outcome is what the row of a message id says. Lower case: nobody takes it for a statement.
type outcome string

const (
	undecided  outcome = ""
	committed  outcome = "committed"
	rolledBack outcome = "rolled_back"
)

// enter writes the outcome into the id's row unless there is one, and returns what is there then. fresh
// tells that it was written by tx.
func (b *Barrier) enter(ctx context.Context, tx *sql.Tx, id string, o outcome) (is outcome, fresh bool, err error) {
	if fresh, err = b.table.Put(ctx, tx, id, string(o)); err != nil || fresh {
		return o, fresh, err
	}
	var createdMs int64
	if err := b.table.Read(ctx, tx, []any{id}, &is, &createdMs); err != nil {
		return undecided, false, err
	}
	if is != committed && is != rolledBack {
		return undecided, false, fmt.Errorf("the row of message %s says %.32q: neither %q nor %q", id, is, committed, rolledBack)
	}
	return is, false, nil
}

// settleTries is how often settle tries. When a transaction rolls back for which two have waited, MySQL may
// let one of them through and end the other as a dead-lock; that one then finds the row.
const settleTries = 3

// settle makes the outcome of the id final and returns it: rolled back, unless it is committed or becomes
// so while settle waits for the transaction that has written the row.
func (b *Barrier) settle(ctx context.Context, id string) (is outcome, err error) {
	for range settleTries {
		if is, err = b.trySettle(ctx, id); err == nil || ctx.Err() != nil {
			break
		}
	}
	return is, err
}

func (b *Barrier) trySettle(ctx context.Context, id string) (outcome, error) {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return undecided, fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() // after Commit it does nothing
	is, _, err := b.enter(ctx, tx, id, rolledBack)
	if err != nil {
		return undecided, err
	}
	if err := tx.Commit(); err != nil { // an answer before this would be a guess
		return undecided, fmt.Errorf("commit: %w", err)
	}
	return is, nil
}

// Check is the client.CheckFunc of the barrier. It answers Commit or Rollback when that is final, after
// waiting for a transaction that still runs, and Unknown when it cannot tell: the database does not answer,
// or the transaction runs longer than ctx or the database's own patience (innodb_lock_wait_timeout,
// lock_timeout, busy_timeout).
//
// Every message that the broker asks about must have been published by InTx, into the same table: the others
// get a rollback, for nobody wrote their row.
func (b *Barrier) Check(ctx context.Context, check client.Check) client.Verdict {
	warn := func(err error) client.Verdict {
		b.log.Warn("check not answered", "topic", check.Topic, "msg_id", check.ID, "err", err)
		return client.Unknown
	}
	id, ok := kite.ParseMessageID(check.ID)
	if !ok {
		return warn(errors.New("the id is not 32 hexadecimal digits"))
	}
	is, err := b.settle(ctx, id.String())
	switch {
	case err != nil:
		return warn(err)
	case is == committed:
		return client.Commit
	}
	return client.Rollback
}
