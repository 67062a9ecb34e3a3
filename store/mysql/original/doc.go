// Package original reads the tables in which the original KiteQ keeps its messages (interop contract §9.5), so
// that a deployment can move. It only reads.
package original
