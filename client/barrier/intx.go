package barrier

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/kite"
)

// InTx publishes the message if, and only if, a transaction of the barrier's database commits. It prepares
// the message at the broker, begins the transaction, writes the row, runs fn, commits, and sends the
// verdict. fn must neither commit nor roll back, and work only through tx. The transaction ends with ctx.
//
//   - nil: the transaction has committed, and the broker has the commit. If it had committed already under
//     this id, fn was not run: that is how to repeat.
//   - ErrRolledBack: a check came first, or an earlier InTx under this id failed. fn was not run. A broker
//     that still remembers the rollback refuses the id before: then it is Prepare's error, of code TxConflict.
//   - code Indeterminate: not known, since the database or the broker does not answer. The check decides;
//     InTx under the same m.ID (so set it) asks again, and runs fn only when nothing has been decided.
//   - any other error: nothing took effect, and the message is rolled back. The id is used up: repeat under
//     another. It is fn's error, or that of the database. Only when fn itself ends the transaction in a
//     commit (as CREATE TABLE does in MySQL) and then fails, the error says that it took effect.
//
// Nothing here is guessed: after anything but a successful COMMIT, InTx does what Check does and takes the
// outcome from the row, waiting for the database to end a transaction whose connection broke. That happens
// also when fn panics, before the panic goes on. When the row cannot be read within Options.Timeout, no
// verdict is sent.
//
// The client's Options.CheckListener has to be Check, or a function that calls it for these messages.
func (b *Barrier) InTx(ctx context.Context, c *client.Client, m *client.Message, fn func(tx *sql.Tx) error) error {
	if !c.AnswersChecks() {
		return kite.Errorf(kite.Invalid, "transaction with a message to topic %s: the client's Options.CheckListener is nil: set it to Check", m.Topic)
	}
	prepared, err := c.Prepare(ctx, m)
	if err != nil {
		return err
	}
	defer prepared.Leave()
	a := &attempt{barrier: b, prepared: prepared}
	returned := false
	defer func() {
		if returned {
			return
		}
		// fn panicked, or ended its goroutine. Nobody will hear the error.
		if err := a.end(ctx, errors.New("the local transaction panicked")); errors.Is(err, kite.Indeterminate) {
			b.log.Warn("no verdict after a panic", "topic", m.Topic, "msg_id", prepared.ID(), "err", err)
		}
	}()
	err = a.run(ctx, fn)
	returned = true
	return a.end(ctx, err)
}

// attempt is one InTx.
type attempt struct {
	barrier  *Barrier
	prepared *client.Transaction
	outcome  outcome // undecided until it is for sure
	fnFailed bool
}

// run does the local transaction. An error leaves the outcome open, unless it is set.
func (a *attempt) run(ctx context.Context, fn func(*sql.Tx) error) error {
	b, id := a.barrier, a.prepared.ID()
	tx, err := b.db.BeginTx(ctx, b.options.Tx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() // after Commit it does nothing
	// The row comes first: who writes it after fn leaves a check free to decide while fn's effects wait.
	is, fresh, err := b.enter(ctx, tx, id, committed)
	switch {
	case err != nil:
		return err
	case is == rolledBack:
		a.outcome = rolledBack
		return &kite.Error{Code: kite.TxConflict, Op: "transaction of message " + id, Err: ErrRolledBack}
	case !fresh:
		a.outcome = committed
		return nil
	}
	if err := fn(tx); err != nil {
		a.fnFailed = true
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	a.outcome = committed
	return nil
}

// end finds out the outcome if it is not known, sends the verdict, and returns what InTx does. failure is
// why the transaction did not end well, or nil.
func (a *attempt) end(ctx context.Context, failure error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.barrier.options.Timeout)
	defer cancel()
	id := a.prepared.ID()
	if a.outcome == undecided {
		var err error
		if a.outcome, err = a.barrier.settle(ctx, id); err != nil {
			a.prepared.Leave()
			return &kite.Error{Code: kite.Indeterminate, Op: "decide message " + id, Err: fmt.Errorf("no verdict was sent, the check will decide: %w; %w", failure, err)}
		}
	}
	if a.outcome == rolledBack {
		if err := a.prepared.Rollback(ctx, failure.Error()); err != nil {
			return errors.Join(failure, err)
		}
		return failure
	}
	err := a.prepared.Commit(ctx)
	if a.fnFailed {
		return errors.Join(fmt.Errorf("the transaction of message %s took effect all the same: %w", id, failure), err)
	}
	return err
}
