package sqltable_test

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/kiteq/kiteq/client/internal/dbtest"
	"github.com/kiteq/kiteq/client/internal/sqltable"
)

func mustNew(t *testing.T, d *dbtest.Database) *sqltable.Table {
	t.Helper()
	table, err := sqltable.New(d.Dialect, d.Table(t),
		sqltable.Column{Name: "id", Kind: sqltable.ID, Key: true}, sqltable.Column{Name: "outcome", Kind: sqltable.Word})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestCreateTogether makes one table from many processes, as when a service is rolled out.
func TestCreateTogether(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		for range 5 {
			table := mustNew(t, d)
			var all sync.WaitGroup
			for range 8 {
				db := d.Open(t)
				all.Go(func() {
					if err := table.Create(t.Context(), db); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
	})
}

// TestFoundRows uses a MySQL connection that counts found rows instead of changed ones.
func TestFoundRows(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *dbtest.Database) {
		db := d.Open(t)
		if d.Dialect == sqltable.MySQL {
			c, err := mysql.ParseDSN(d.Source())
			if err != nil {
				t.Fatal(err)
			}
			c.ClientFoundRows = true
			connector, err := mysql.NewConnector(c)
			if err != nil {
				t.Fatal(err)
			}
			db = sql.OpenDB(connector)
			t.Cleanup(func() { db.Close() })
		}
		table := mustNew(t, d)
		if err := table.Create(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		const id = "0123456789abcdef0123456789abcdef"
		for i, want := range []bool{true, false, false} {
			inTx(t, db, func(ctx context.Context, tx *sql.Tx) {
				if fresh, err := table.Put(ctx, tx, id, "yes"); fresh != want || err != nil {
					t.Errorf("put %d: %t, %v, want %t", i, fresh, err, want)
				}
				var outcome string
				var createdMs int64
				if err := table.Read(ctx, tx, []any{id}, &outcome, &createdMs); err != nil || outcome != "yes" || time.Since(time.UnixMilli(createdMs)) > time.Minute {
					t.Errorf("read %d: %q %d, %v", i, outcome, createdMs, err)
				}
				if err := table.Read(ctx, tx, []any{"no such id"}, &outcome, &createdMs); err == nil {
					t.Error("a row that is not there was read")
				}
			})
		}
	})
}

func inTx(t *testing.T, db *sql.DB, do func(context.Context, *sql.Tx)) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	do(t.Context(), tx)
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
}
