// Package deliver brings committed messages to consumer groups: one flow for each topic and group, with
// its cursor, window, redelivery and dead letters.
package deliver
