// Package exchange holds which groups are bound to which topic: an immutable table, swapped whole
// on change.
package exchange
