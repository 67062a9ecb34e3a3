package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"

	"github.com/kiteq/kiteq/store/storetest"
)

var errLost = errors.New("the connection is lost")

// faulty is a connector whose connections break at the transaction that the fault says: before it reaches the
// server, in the middle of it, or before its answer is back.
type faulty struct {
	driver.Connector
	fault *storetest.Fault
}

func (f faulty) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := f.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &faultyConn{connection: conn.(connection), fault: f.fault}, nil
}

type faultyConn struct {
	connection
	fault  *storetest.Fault
	broken bool
}

func (c *faultyConn) ResetSession(ctx context.Context) error {
	if c.broken {
		return driver.ErrBadConn
	}
	return c.connection.ResetSession(ctx)
}

func (c *faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if c.broken {
		return nil, driver.ErrBadConn
	}
	if !strings.Contains(query, "COMMIT") || !c.fault.Next() {
		return c.connection.ExecContext(ctx, query, args)
	}
	c.broken = true
	switch c.fault.Mode {
	case storetest.Torn:
		if _, err := c.connection.ExecContext(ctx, strings.TrimSuffix(query, ";COMMIT"), args); err != nil {
			return nil, err
		}
	case storetest.After:
		if _, err := c.connection.ExecContext(ctx, query, args); err != nil {
			return nil, err
		}
	}
	if err := c.connection.Close(); err != nil {
		return nil, err
	}
	return nil, errLost
}
