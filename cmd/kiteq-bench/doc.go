// Command kiteq-bench loads a KiteQ broker over its public wire, measures it, and checks that what came
// out is what went in.
//
// Every message carries the run's number, its stream and its place there. A ledger keeps what the broker
// confirmed, and each consumer group what it received; the difference is lost, twice, late or alien.
// doc/bench.md tells how to run it and what each figure means.
package main
