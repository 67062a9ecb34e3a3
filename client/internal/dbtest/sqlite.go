package dbtest

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/mattn/go-sqlite3"
)

var errLost = errors.New("the connection is lost")

// fragileSQLite opens connections whose transactions fail as the breaker says.
type fragileSQLite struct {
	source  string
	breaker *Breaker
}

func (f fragileSQLite) Driver() driver.Driver { return &sqlite3.SQLiteDriver{} }

func (f fragileSQLite) Connect(context.Context) (driver.Conn, error) {
	if f.breaker.isAway() {
		return nil, errLost
	}
	c, err := f.Driver().Open(f.source)
	if err != nil {
		return nil, err
	}
	return &fragileConn{c.(sqliteConn), f.breaker}, nil
}

// sqliteConn is what the driver's connections can do. Without cgo the driver is a stub that opens none.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

type fragileConn struct {
	sqliteConn
	breaker *Breaker
}

func (c *fragileConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	if c.breaker.isAway() {
		return nil, errLost
	}
	tx, err := c.sqliteConn.BeginTx(ctx, o)
	if err != nil {
		return nil, err
	}
	return &fragileTx{tx, c.breaker}, nil
}

type fragileTx struct {
	driver.Tx
	breaker *Breaker
}

func (t *fragileTx) Commit() error {
	away := t.breaker.isAway()
	switch l := t.breaker.take(); {
	case away || l == Before:
		return errors.Join(errLost, t.Tx.Rollback())
	case l == After:
		return errors.Join(errLost, t.Tx.Commit())
	}
	return t.Tx.Commit()
}
