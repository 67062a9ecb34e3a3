// Package sequence owns order and durability: the lane that drops repeats, gives each committed
// message its place, decides transactions and appends everything to the journal.
package sequence
