// Package interop tests that unmodified old clients work. It knows the wire and the znodes by the interop
// contract and its golden vectors alone: it imports neither the client library nor the protocol's code, so
// that a mistake made there cannot hide here. It has no code but its tests.
package interop
