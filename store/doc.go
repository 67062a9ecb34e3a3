// Package store is the contract of the journal: where the lane's records are kept, in order, and
// read back. Its implementations are in the packages below; storetest holds what all of them promise.
package store
