// Package memory keeps the journal in memory: for tests, and for brokers whose messages may die with
// the process. Its durability class is mem.
package memory
