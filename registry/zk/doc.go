// Package zk keeps brokers, clients and their bindings in ZooKeeper, as a registry.Registry.
//
// The library underneath holds a connection and opens a new session by itself when the server has
// expired the old one. What it does not do is ours:
//
//   - One supervisor (Run, session.go) learns by callback that the connection changed and publishes
//     what is so now: which session, and whether it is connected. The callback only signals, since
//     the library calls it with a lock held; its event channel, which drops events, is not used.
//   - A disconnect changes nothing. A new session announces everything again (announce.go) and reads
//     every watched znode again (watch.go). A resumed one compares what is watched, because the
//     library can lose a change that fell into the gap: it asks for changes since the newest reply,
//     which may be that of a request sent before its watches were set again.
//   - A server that lost its data refuses the session for ever without expiring it. When there was no
//     session for three timeouts the handle is given up for a new one.
//   - The library's calls know no context. Each runs in a goroutine of its own (ask) that ends, at the
//     latest, when the handle is closed.
package zk
