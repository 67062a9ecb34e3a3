// Package embedded is a single-node ZooKeeper server that the broker carries inside itself.
//
// It speaks ZooKeeper's client protocol (jute records over TCP), so that unmodified clients work:
// sessions with ephemeral nodes, watches, ACLs, multi, sequential, container and TTL nodes. There is
// no ensemble: who needs one points the broker at a real ZooKeeper.
//
// The path of a request, which is also the order in which to read the files:
//
//	conn.go      one reader per connection cuts packets and decodes them (request.go, jute.go)
//	owner.go     one goroutine owns all state; it takes requests in batches and commits them
//	read.go      answers what only looks (read.go) and what changes (write.go, multi.go)
//	write.go     ... a write becomes changes (change.go) that are applied to the tree (tree.go)
//	watch.go     who is told of a change
//	journal.go   the batch's transactions are made durable; then replies and events leave together
//	session.go   who is connected, until when, and what ends with a session
//	recover.go   snapshot and logs back into a tree
package embedded
