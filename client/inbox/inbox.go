package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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

// Options of an Inbox. The zero value has usable defaults.
type Options struct {
	// Table is the name of the inbox's table: 1 to 48 letters, digits and underscores. The schema is the
	// connection's. Default "kiteq_inbox".
	Table string
	// Tx is how Do begins transactions, for example with an isolation level. In every level a message
	// takes effect once. Default nil: as the database does.
	Tx *sql.TxOptions
}

// WithDefaults returns a copy with every zero field that has a default at it.
func (o Options) WithDefaults() Options {
	if o.Table == "" {
		o.Table = "kiteq_inbox"
	}
	return o
}

// Validate returns what is wrong with the options but the table's name, an Error of code Invalid, or nil.
func (o Options) Validate() error {
	if o.Tx != nil && o.Tx.ReadOnly {
		return kite.Errorf(kite.Invalid, "Tx is read-only: the inbox writes a row")
	}
	return nil
}

// Inbox is a table in a database that remembers what has taken effect. It is safe for concurrent use, and
// there may be any number of them, in any number of processes, for one table.
type Inbox struct {
	db      *sql.DB
	table   *sqltable.Table
	options Options
}

// New returns the inbox of the database, which stays the caller's. It does not connect: call Create, or make
// the table from DDL. The error is of code Invalid.
func New(db *sql.DB, d Dialect, o Options) (*Inbox, error) {
	o = o.WithDefaults()
	table, err := sqltable.New(d, o.Table,
		sqltable.Column{Name: "group_id", Kind: sqltable.Name, Key: true},
		sqltable.Column{Name: "id", Kind: sqltable.ID, Key: true})
	if err := errors.Join(err, o.Validate()); err != nil {
		return nil, fmt.Errorf("inbox options: %w", err)
	}
	return &Inbox{db, table, o}, nil
}

// DDL returns the statements that make the table, for those who keep their migrations elsewhere.
func (in *Inbox) DDL() []string { return in.table.DDL() }

// Create makes the table unless it is there.
func (in *Inbox) Create(ctx context.Context) error { return in.table.Create(ctx, in.db) }

// Trim deletes the rows that were written longer ago than olderThan, in small steps, and returns how many
// it has deleted, also when it fails. Call it now and then, in any process.
//
// A message that comes after its row is gone takes effect again. Brokers deliver until it expires,
// client.MaxLifetime after it was published at the latest; add to that for how long an operator or a
// publisher may send it again. olderThan has to be positive, or the error is of code Invalid.
func (in *Inbox) Trim(ctx context.Context, olderThan time.Duration) (deleted int64, err error) {
	if olderThan <= 0 {
		return 0, kite.Errorf(kite.Invalid, "trim inbox rows older than %s: give a positive duration", olderThan)
	}
	return in.table.Trim(ctx, in.db, time.Now().Add(-olderThan))
}

// Do runs fn in a transaction, unless the message has taken effect for the group before. group is the
// consumer's; one database may be the inbox of many.
//
//   - true, nil: fn has run, and the transaction has committed.
//   - false, nil: it had taken effect before; fn was not run. Acknowledge the message all the same.
//   - an error: fn's, or the database's. Return it from the handler: the message comes again, and then Do
//     knows whether it took effect, even when the answer to COMMIT was lost.
//
// fn must neither commit nor roll back, and work only through tx. The transaction ends with ctx.
func (in *Inbox) Do(ctx context.Context, group string, d *client.Delivery, fn func(tx *sql.Tx) error) (done bool, err error) {
	if err := kite.CheckGroup(group); err != nil {
		return false, err
	}
	id, ok := kite.ParseMessageID(d.ID)
	if !ok {
		return false, kite.Errorf(kite.Invalid, "message id %.40q: 32 hexadecimal digits are needed", d.ID)
	}
	tx, err := in.db.BeginTx(ctx, in.options.Tx)
	if err != nil {
		return false, fmt.Errorf("begin for message %s: %w", id, err)
	}
	defer tx.Rollback() // after Commit it does nothing
	// The row comes first: who writes it after fn lets two do the work before one of them notices.
	switch fresh, err := in.table.Put(ctx, tx, group, id.String()); {
	case err != nil:
		return false, err
	case !fresh:
		var createdMs int64 // read: only a row that is there is a reason to leave the work out
		return false, in.table.Read(ctx, tx, []any{group, id.String()}, &createdMs)
	}
	if err := fn(tx); err != nil {
		return false, err
	}
	if err := tx.Commit(); err != nil {
		return false, fmt.Errorf("commit for message %s: %w", id, err)
	}
	return true, nil
}
