// Package original behaves towards clients as the original broker does, its faults included, for tests
// that a client keeps to the contract of doc/protocol.md and gets along with what that broker does.
//
// It shares no code with package protocol: frames are cut here and payloads read by the generated code.
// What it keeps of the original:
//
//   - Each packet is handled in its own goroutine: one connection's packets have no order.
//   - Requests and replies of all connections share one table, by opaque. The broker's own count up from
//     1, and a reply takes its opaque's place there: a client with low opaques loses its DeliverAcks.
//   - A reply to opaque 0 goes out under another opaque.
//   - Whoever speaks before ConnMeta is closed; a second ConnMeta lists the connection twice.
//   - The deliveries of a message, and the question about a prepared one, go out before its StoreAck.
//   - A topic is refused only when it sorts behind the last one served.
//   - A message delivered after its transaction still says commit=false.
//   - The third failed attempt in a row ends them until the next turn of the recover loop.
//
// There are no timers. Broker.Recover is one turn of the recover loop, and counts what is unanswered then
// as timed out.
package original
