// Package txn decides when to ask a producer about an undecided message, and when to stop asking.
package txn
