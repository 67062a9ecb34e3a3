// Package barrier makes a message and a local transaction agree, exactly, by one row in the user's own
// database. InTx publishes a message with a transaction, and Check is the ready-made CheckListener:
//
//	b, err := barrier.New(db, barrier.PostgreSQL, barrier.Options{})
//	err = b.Create(ctx)
//	c, err := client.Dial(ctx, client.Options{..., CheckListener: b.Check})
//	err = b.InTx(ctx, c, message, func(tx *sql.Tx) error {
//		_, err := tx.ExecContext(ctx, "INSERT INTO orders ...")
//		return err
//	})
//
// # Why it is exact
//
// A listener that looks for the order's row and does not find it cannot know whether it will still appear.
// So the barrier has a row for each message id, and whoever writes it first decides:
//
//	InTx, in the transaction, before fn:  (id, committed)
//	Check, in one of its own:             (id, rolled_back), unless there is one
//
// The key is unique, so the two meet there. When the transaction has written its row and has not ended,
// Check's insert waits for it: the database does that by the lock of the row, or of the file. Then either
// the transaction has committed, and Check reads "committed"; or it has rolled back, its row is gone, and
// Check's is written: from now on no transaction can commit under this id, since it would find that row
// first and give up with ErrRolledBack. When Check comes before the transaction has begun, the same happens
// without waiting. In every order the row that stays is the answer, and each later question gets the same.
//
// It needs one database that decides: Check must ask where InTx writes, not a replica that follows.
//
// A barrier has no goroutines.
package barrier
