package dbtest

import (
	"bytes"
	"database/sql"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/kiteq/kiteq/client/internal/sqltable"
)

// Loss says what becomes of a COMMIT whose answer is lost.
type Loss uint8

// The losses.
const (
	None   Loss = iota
	Before      // the database does not receive it: it rolls back when it notices
	After       // the database does it
)

// Breaker breaks connections to a database.
type Breaker struct {
	mu    sync.Mutex
	loss  Loss
	stay  bool // after the loss nobody gets through
	away  bool
	conns map[net.Conn]bool
}

// Lose breaks the connection of the next COMMIT. stay: and then nobody gets through, until Away(false).
func (b *Breaker) Lose(l Loss, stay bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.loss, b.stay = l, stay
}

// Away breaks every connection and lets nobody through, or lets them through again.
func (b *Breaker) Away(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
	if !away {
		return
	}
	for c := range b.conns {
		c.Close()
	}
}

func (b *Breaker) isAway() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.away
}

// take returns what to do with a COMMIT, once.
func (b *Breaker) take() Loss {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.loss
	b.loss = None
	b.away = b.away || l != None && b.stay
	return l
}

// Fragile returns a pool whose connections go through the breaker. To a server they go through a proxy; in
// SQLite, which has no connections, it is the driver that fails.
func (d *Database) Fragile(t *testing.T) (*sql.DB, *Breaker) {
	t.Helper()
	b := &Breaker{conns: map[net.Conn]bool{}}
	if d.Dialect == sqltable.SQLite {
		db := sql.OpenDB(fragileSQLite{d.source, b})
		t.Cleanup(func() { db.Close() })
		return db, b
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	db, addr := d.through(t, listener.Addr().String())
	b.serve(t, listener, addr)
	t.Cleanup(func() { db.Close() })
	return db, b
}

// through returns a pool that goes to the proxy's address instead of the server's, and the server's.
func (d *Database) through(t *testing.T, proxy string) (db *sql.DB, addr string) {
	t.Helper()
	if d.Dialect == sqltable.MySQL {
		c, err := mysql.ParseDSN(d.source)
		if err != nil {
			t.Fatal(err)
		}
		addr, c.Addr = c.Addr, proxy
		c.Logger = &mysql.NopLogger{} // it would tell of every connection that breaks
		connector, err := mysql.NewConnector(c)
		if err != nil {
			t.Fatal(err)
		}
		return sql.OpenDB(connector), addr
	}
	u, err := url.Parse(d.source)
	if err != nil {
		t.Fatal(err)
	}
	addr, u.Host = u.Host, proxy
	if db, err = sql.Open(d.driver, u.String()); err != nil {
		t.Fatal(err)
	}
	return db, addr
}

// serve forwards what comes to the listener until the test ends.
func (b *Breaker) serve(t *testing.T, listener net.Listener, addr string) {
	var serving sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		b.Away(true)
		serving.Wait()
	})
	serving.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", addr)
			if err != nil {
				near.Close()
				continue
			}
			link := &link{breaker: b, near: near, far: far}
			if !b.add(near, far) {
				link.close()
				continue
			}
			serving.Go(link.requests)
			serving.Go(link.answers)
		}
	})
}

// add notes the connections, or tells that nobody gets through.
func (b *Breaker) add(both ...net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return false
	}
	for _, c := range both {
		b.conns[c] = true
	}
	return true
}

// link is a connection through the proxy.
type link struct {
	breaker   *Breaker
	near, far net.Conn

	mu   sync.Mutex
	deaf bool // the next answer is lost
}

func (l *link) close() {
	l.near.Close()
	l.far.Close()
	l.breaker.mu.Lock()
	defer l.breaker.mu.Unlock()
	delete(l.breaker.conns, l.near)
	delete(l.breaker.conns, l.far)
}

// requests forwards what the client sends. A statement comes in one piece: the client waits for its answer.
func (l *link) requests() {
	defer l.close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.near.Read(buffer)
		if err != nil || l.breaker.isAway() {
			return
		}
		if bytes.Contains(buffer[:n], []byte("COMMIT")) {
			switch l.breaker.take() {
			case Before:
				return
			case After:
				l.mu.Lock()
				l.deaf = true
				l.mu.Unlock()
			}
		}
		if _, err := l.far.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// answers forwards what the server sends.
func (l *link) answers() {
	defer l.close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.far.Read(buffer)
		if err != nil {
			return
		}
		l.mu.Lock()
		deaf := l.deaf
		l.mu.Unlock()
		if deaf {
			return
		}
		if _, err := l.near.Write(buffer[:n]); err != nil {
			return
		}
	}
}
