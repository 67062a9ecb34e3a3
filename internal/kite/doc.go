// Package kite holds the broker's domain: messages, bindings, journal records and error codes.
// It imports the standard library only; every other package speaks in these types.
package kite
