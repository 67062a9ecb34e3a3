package sqltable

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Column is a column of a Table.
type Column struct {
	Name string
	Kind Kind
	Key  bool // part of the primary key
}

// Table is a table of a user's database, with its statements. It is safe for concurrent use.
type Table struct {
	dialect            Dialect
	name               string
	keys               []string
	ddl                []string
	insert, read, aged string
}

// plain is what a table may be called without quotes in every dialect, with room for an index's suffix.
const plain = `^[A-Za-z_][A-Za-z0-9_]{0,47}$`

// New returns the table of that name. To the columns comes created_ms, Unix milliseconds of when the row was
// written. The error is of code Invalid.
func New(d Dialect, name string, columns ...Column) (*Table, error) {
	if d < MySQL || d > SQLite {
		return nil, kite.Errorf(kite.Invalid, "%s: give MySQL, PostgreSQL or SQLite", d)
	}
	if !regexp.MustCompile(plain).MatchString(name) {
		return nil, kite.Errorf(kite.Invalid, "Table %.64q: give 1 to 48 letters, digits and underscores, and no schema: the connection chooses that", name)
	}
	t := &Table{dialect: d, name: name, ddl: d.ddl(name, columns), insert: d.insert(name, columns), read: d.read(name, columns)}
	for _, c := range columns {
		if c.Key {
			t.keys = append(t.keys, c.Name)
		}
	}
	t.aged = d.bind(fmt.Sprintf("SELECT %s FROM %s WHERE created_ms < ? ORDER BY created_ms LIMIT %d", strings.Join(t.keys, ", "), name, chunk))
	return t, nil
}

// DDL returns the statements of Create.
func (t *Table) DDL() []string { return t.ddl }

// Create makes the table unless it is there.
func (t *Table) Create(ctx context.Context, db *sql.DB) error {
	for _, statement := range t.ddl {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			// Somebody else may have made it at the same time, or have made it and not let us: then it is there.
			if _, there := db.ExecContext(ctx, "SELECT created_ms FROM "+t.name+" WHERE 1 = 0"); there == nil {
				return nil
			}
			return fmt.Errorf("create table %s: %w", t.name, err)
		}
	}
	return nil
}

// Put writes the row, its values in the order of the columns, unless one with its key is there. When the
// key was written by a transaction that has not ended, it waits for that. After it returned true nobody else
// can write the key until tx ends; after false the row that is there has been committed.
func (t *Table) Put(ctx context.Context, tx *sql.Tx, row ...any) (bool, error) {
	result, err := tx.ExecContext(ctx, t.insert, append(row, time.Now().UnixMilli())...)
	if err != nil {
		return false, fmt.Errorf("write to table %s: %w", t.name, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("write to table %s: %w", t.name, err)
	}
	return n == 1, nil
}

// Read reads the row of the key, which Put has found there: what is no key, and created_ms, into dest.
func (t *Table) Read(ctx context.Context, tx *sql.Tx, key []any, dest ...any) error {
	err := tx.QueryRowContext(ctx, t.read, key...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("table %s: the row was not written and is not there: is the table as Create makes it?", t.name)
	}
	if err != nil {
		return fmt.Errorf("read from table %s: %w", t.name, err)
	}
	return nil
}

// chunk is how many rows one statement of Trim deletes: its locks are held that long.
const chunk = 100

// Trim deletes the rows that were written before the time, oldest first, and returns how many. They are
// looked for without locks and deleted by key: a range would lock the gaps where others insert.
func (t *Table) Trim(ctx context.Context, db *sql.DB, before time.Time) (deleted int64, err error) {
	for {
		keys, err := t.old(ctx, db, before)
		if err != nil || len(keys) == 0 {
			return deleted, err
		}
		where := strings.Repeat(" OR ("+strings.Join(t.keys, " = ? AND ")+" = ?)", len(keys)/len(t.keys))
		result, err := db.ExecContext(ctx, t.dialect.bind("DELETE FROM "+t.name+" WHERE"+strings.TrimPrefix(where, " OR")), keys...)
		if err != nil {
			return deleted, fmt.Errorf("trim table %s: %w", t.name, err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return deleted, fmt.Errorf("trim table %s: %w", t.name, err)
		}
		if deleted += n; n == 0 { // somebody else trims
			return deleted, nil
		}
	}
}

// old returns the keys of the oldest rows from before the time, one after the other.
func (t *Table) old(ctx context.Context, db *sql.DB, before time.Time) ([]any, error) {
	rows, err := db.QueryContext(ctx, t.aged, before.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("look for old rows of table %s: %w", t.name, err)
	}
	defer rows.Close()
	var keys []any
	for rows.Next() {
		parts := make([]string, len(t.keys))
		dest := make([]any, len(t.keys))
		for i := range parts {
			dest[i] = &parts[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, fmt.Errorf("look for old rows of table %s: %w", t.name, err)
		}
		for _, p := range parts {
			keys = append(keys, p)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for old rows of table %s: %w", t.name, err)
	}
	return keys, nil
}
