// Package remember lets a broker start with the bindings of its last run while its registry is away.
//
// A Registry stands before another one and changes one method: WatchBindings keeps every picture that it
// passes on in a file, and begins with that file when the other registry gives no picture in time. So a
// broker whose ZooKeeper is down delivers to the groups it knew, instead of not starting. What it cannot
// know then is who bound since; that comes with the registry's first picture and loses nothing that the
// journal still has, since a group's beginning is its SinceMs and not the moment at which the broker
// hears of it.
//
// memory.go is the file, registry.go the decision when to use it.
package remember
