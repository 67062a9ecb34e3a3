// Package delay keeps the time of delayed messages: it finds in the journal those that come due, and hands the
// lane their commits.
package delay
