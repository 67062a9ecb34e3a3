// Package client publishes messages to KiteQ brokers and receives them.
//
// A Client is one member of a group. It finds the brokers of its topics in the registry, keeps a
// connection to each, and connects again when one breaks or another broker appears:
//
//	c, err := client.Dial(ctx, client.Options{
//		ZKHost: "127.0.0.1:2181",
//		Group:  "p-orders",
//		Topics: []string{"trade"},
//	})
//	defer c.Close(ctx)
//
// Publish returns when a broker has confirmed the message. It repeats under the same id as long as
// ctx lasts, so give it a deadline; PublishAsync sends many without waiting for each:
//
//	err = c.Publish(ctx, &client.Message{Topic: "trade", Type: "pay-succ", Body: body})
//
// PublishTx publishes when, and only when, your local transaction takes effect. The broker asks
// Options.CheckListener about transactions whose verdict it did not get:
//
//	err = c.PublishTx(ctx, message, func(ctx context.Context) error {
//		... insert the row ...
//		if err := tx.Commit(); err != nil {
//			return fmt.Errorf("%w: %w", client.ErrUnknownOutcome, err)
//		}
//		return nil
//	})
//
// Package barrier does this with a row in the user's database, so that the check is exact; package inbox
// makes a delivered message take effect once.
//
// Subscribe binds the group to message types of a topic. Every group gets every message that one of its
// bindings matches, one member of the group at a time and in no order:
//
//	_, err = c.Subscribe(ctx, []client.Binding{client.Direct("trade", "pay-succ")},
//		func(ctx context.Context, d *client.Delivery) error {
//			return book(ctx, d.ID, d.Body) // nil: done; an error: deliver it again
//		})
//
// Options.Tracer follows messages; package client/otel, a module of its own, is one for OpenTelemetry.
//
// Bodies that were published with Message.Compress arrive decompressed, and Options.Middleware goes around
// every handler. Delivery is at least once: after a lost answer a message comes again, with the same ID.
//
// Errors carry a Code: errors.Is(err, client.Indeterminate) tells that a message may be stored.
//
// doc/client.md has each option and the rules of PublishTx. Package compat has the original client's API,
// for programs that move.
//
// The goroutines of a Client are: those of a registry session of its own, one that watches the registry
// for each set of topics, four for each broker, Options.Concurrency for handlers, and one for each check.
// Close ends them.
package client
