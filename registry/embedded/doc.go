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
//	session.go   who is connected, until when, and what ends with a session
//	read.go      what only looks is answered from the tree (tree.go)
//	write.go     what changes something is checked (acl.go, path.go; several at once: multi.go) and
//	             applied to the tree as changes (change.go)
//	watch.go     who is told of a change
//	journal.go   the batch is made durable (snapshot.go); then its replies and events leave together
//	recover.go   snapshot and logs become a tree again
package embedded
