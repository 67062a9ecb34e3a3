package mysql

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// connection is what the driver's connections can do.
type connection interface {
	driver.Conn
	driver.ExecerContext
	driver.QueryerContext
	driver.SessionResetter
}

// writer is the one connection through which a journal is written. It is no pool: all packets of a
// transaction must go through the same connection, or an INSERT without its fence could be committed.
type writer struct {
	connector driver.Connector
	life      *lifetime
	journal   uint32
	conn      connection
}

// standing is the row of a journal.
type standing struct {
	epoch      uint64
	head       kite.Position
	bytes      int64
	covered    kite.Position
	generation uint64
	sinceMs    int64
}

// ready tests the connection. It makes a new one when there is none or it is broken, and then fresh is true.
func (w *writer) ready() (fresh bool, err error) {
	if w.conn != nil && w.conn.ResetSession(w.life) == nil {
		return false, nil
	}
	w.drop()
	conn, err := w.connector.Connect(w.life)
	if err != nil {
		return false, err
	}
	w.conn = conn.(connection)
	// Gap locks would make journals wait for each other: the end of one is the gap before the next one.
	if _, err := w.conn.ExecContext(w.life, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", nil); err != nil {
		w.drop()
		return false, err
	}
	return true, nil
}

// drop gives up the connection; the server rolls back what was not committed.
func (w *writer) drop() {
	if w.conn != nil {
		_ = w.conn.Close() // it is broken, or ends here
		w.conn = nil
	}
}

func (w *writer) close() error {
	w.drop()
	return nil
}

// standing reads the journal's row. It waits for a transaction of another connection that has it locked, so
// it tells what became of that.
func (w *writer) standing() (s standing, err error) {
	rows, err := w.conn.QueryContext(w.life, fmt.Sprintf("SELECT epoch,head,bytes,covered,generation,since_ms FROM kite_journal WHERE id=%d FOR UPDATE", w.journal), nil)
	if err != nil {
		return s, err
	}
	var values [6]driver.Value
	err = rows.Next(values[:])
	if closed := rows.Close(); err == nil {
		err = closed
	}
	if errors.Is(err, io.EOF) {
		return s, store.ErrFenced // somebody removed the journal
	}
	if err != nil {
		return s, err
	}
	var n [6]num
	for i := range values {
		if err := n[i].Scan(values[i]); err != nil {
			return s, err
		}
	}
	return standing{uint64(n[0]), kite.Position(n[1]), int64(n[2]), kite.Position(n[3]), uint64(n[4]), int64(n[5])}, nil
}

// send executes the transaction's packets. After an error nothing of it is kept, unless the connection broke:
// then the next one tells.
func (w *writer) send(t *transaction) error {
	for i := range t.packets[:t.n] {
		p := &t.packets[i]
		_, err := w.conn.ExecContext(w.life, string(p.text), p.args)
		if errors.Is(err, driver.ErrSkip) || errors.Is(err, mysql.ErrPktTooLarge) {
			err = errTooLarge
		}
		if err == nil {
			continue
		}
		if _, rollback := w.conn.ExecContext(w.life, "ROLLBACK", nil); rollback != nil {
			w.drop()
		}
		return err
	}
	return nil
}

// outcome is what became of one try to execute a transaction.
type outcome int

const (
	committed outcome = iota
	again             // at once: the server chose it as the victim of a deadlock
	later             // when the server is well
	refused           // a decision about a row that is not in the state for it: nothing was kept
	never
)

// try executes the transaction once. One that was committed by an earlier try, whose answer was lost, is
// committed.
func (j *Journal) try(t *transaction) (outcome, error) {
	fresh, err := j.writer.ready()
	if err == nil && fresh {
		var done bool
		if done, err = j.settled(t); done {
			return committed, nil
		}
	}
	if err == nil {
		err = j.writer.send(t)
	}
	switch {
	case err == nil:
		return committed, nil
	case errors.Is(err, store.ErrFenced) || errors.Is(err, errMoved):
		return never, err
	case isServer(err, errNull):
		done, why := j.settled(t)
		switch {
		case done:
			return committed, nil
		case errors.Is(why, store.ErrFenced) || errors.Is(why, errMoved):
			return never, why
		case why != nil:
			return later, why
		}
		return refused, err
	case isServer(err, errDeadlock):
		return again, err
	case isServer(err, hopeless...) || errors.Is(err, errTooLarge):
		return never, err
	}
	return later, err
}

// errMoved says that the journal's row was changed by somebody who had no claim: a replica that lacked the newest
// transactions was made the master, or a backup was restored.
var errMoved = errors.New("the database is not as this broker left it")

var errTooLarge = errors.New("a statement is larger than max_allowed_packet was when the broker started")

// settled looks whether the transaction was committed already, and whether it may be.
func (j *Journal) settled(t *transaction) (done bool, err error) {
	if j.writer.conn == nil {
		return false, driver.ErrBadConn
	}
	s, err := j.writer.standing()
	if err != nil {
		if !isServer(err) {
			j.writer.drop()
		}
		return false, err
	}
	if s.epoch != j.held.Epoch {
		return false, store.ErrFenced
	}
	if s.head != t.from && s.head != t.to {
		return false, fmt.Errorf("%w: its head is %d, not %d", errMoved, s.head, t.from)
	}
	j.covered, j.generation = s.covered, s.generation
	return s.head == t.to && t.to != t.from, nil
}

// The back-off while the database is away: a quarter to a half of what doubles from the first to the most.
const (
	backoffFirst = 200 * time.Millisecond
	backoffMost  = 10 * time.Second
)

// execute does the transaction, however long that takes. An error of code Invalid kept nothing; every other
// one has poisoned the journal.
func (j *Journal) execute(op string, t *transaction) error {
	var since time.Time // of the outage
	backoff := backoffFirst
	for tries := 1; ; tries++ {
		result, err := j.try(t)
		switch {
		case result == committed:
			j.returned(since)
			return nil
		case result == refused:
			j.returned(since)
			return kite.Errorf(kite.Invalid, "%s: a message that is decided otherwise, or gone: %w", op, err)
		case j.life.Err() != nil:
			return j.fail(op, errors.Join(errAbandoned, j.Err()))
		case result == never:
			return j.fail(op, err)
		case tries == 1:
			continue // a connection may break, and a transaction be a deadlock's victim, for no reason that lasts
		case result == later:
			if since.IsZero() {
				since = time.Now()
			}
			j.leave(since, err)
			backoff = min(2*backoff, backoffMost)
		}
		j.pause(backoff/4 + rand.N(backoff/4)) //nolint:gosec // it only spreads the tries
	}
}

// leave notes that the database is away.
func (j *Journal) leave(since time.Time, err error) {
	e := &kite.Error{Code: kite.Unavailable, Err: fmt.Errorf("mysql %s is away since %s: %w", j.db.o.Master, since.Format(time.TimeOnly), err)}
	if j.away.Swap(&outage{e, isServer(err)}) == nil {
		j.log.Warn("database away, what is to be written waits", "server", j.db.o.Master, "err", err)
	}
}

// returned notes that it is back.
func (j *Journal) returned(since time.Time) {
	if j.away.Swap(nil) != nil {
		j.log.Info("database back", "server", j.db.o.Master, "dur", time.Since(since))
	}
}

// pause waits, or until Abandon.
func (j *Journal) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-j.life.Done():
	}
}

// once executes a transaction that may as well be done another time: part of a checkpoint. It may be done twice.
func (j *Journal) once(op string, t *transaction) error {
	result, err := j.try(t)
	if result == later || result == again {
		result, err = j.try(t)
	}
	switch {
	case result == committed:
		return nil
	case j.life.Err() != nil:
		return j.fail(op, errAbandoned)
	case result == never:
		return j.fail(op, err)
	}
	return &kite.Error{Code: kite.Unavailable, Op: op, Err: j.db.o.explain(err)}
}
