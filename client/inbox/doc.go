// Package inbox lets a message take effect once in a consumer's database, however often it is delivered. Do
// writes the message's id in the same transaction as its effect:
//
//	in, err := inbox.New(db, inbox.PostgreSQL, inbox.Options{})
//	err = in.Create(ctx)
//	_, err = c.Subscribe(ctx, bindings, func(ctx context.Context, d *client.Delivery) error {
//		_, err := in.Do(ctx, "s-members", d, func(tx *sql.Tx) error {
//			_, err := tx.ExecContext(ctx, "UPDATE members SET ...")
//			return err
//		})
//		return err // nil: done now, or done before
//	})
//
// The pair of group and id is the key of the inbox's table, so of several transactions for one message one
// can commit. A second one waits at its first statement until the first has ended; then it finds the row
// and does nothing, or the first has rolled back and it does the work. Whether an answer to COMMIT or to the
// broker was lost does not matter: the message comes again, and the row tells.
//
// An inbox has no goroutines.
package inbox
