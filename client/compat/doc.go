// Package compat is the API of the original KiteQ Go client on top of package client: a program that
// changes its imports compiles, and works with old and new brokers.
//
//	import (
//		"github.com/kiteq/kiteq/client/compat"
//		"github.com/kiteq/kiteq/client/compat/protocol"
//		"github.com/kiteq/kiteq/client/compat/registry"
//	)
//
// The original's package was named client: import this one under that name and only the import lines
// change. New programs use package client, which has contexts, properties in deliveries and errors with
// codes.
//
// The names are the original's, and against the rules of Go's. These things differ on purpose:
//
//   - A listener that does not decide a check leaves it Unknown, and so do the default listener and
//     MockListener. The original's committed: also what had been rolled back.
//   - SendTxStringMessage and SendTxBytesMessage always prepare the message, whatever its commit says.
//     When the local transaction's error does not tell whether it took effect (the list at
//     client.Client.PublishTx), nothing is rolled back: the check decides. They return an error of code
//     client.Indeterminate when the verdict may not have arrived.
//   - A check that arrives while its local transaction runs is answered Unknown without the listener.
//   - The caller's message is never changed: compressed bodies are copies, so sending again is safe.
//   - Handlers get what their binding's topic and type match; the original's regx and fanout bindings
//     took any topic. What no binding of this process matches is refused before it reaches a listener.
//   - TxResponse.GetProperty finds properties.
//   - A delivery that does not decompress is refused with the reason, and so is one whose handler failed,
//     with its error.
//   - Start returns an error, and an original call of it still compiles: see there. Bad URIs and patterns,
//     nil messages and a mock's Start are no panics.
//   - Bindings and listener may be set in any order before Start, and no more after it. SetListener loses
//     no handlers.
//   - Connections come back by themselves, and Destroy closes them.
//   - The feedback of Rollback and Unknown goes to the log of SetLog, not to the broker.
//   - Nothing is kept in package variables, and nothing is logged without SetLog.
//
// Beside the goroutines of package client there is one while bindings wait for the registry, and one that
// ends the client with the constructor's context.
//
// Not here are the original's exported internals: AcceptHandler, AckHandler, UnmarshalHandler, and the
// registry implementations.
package compat
