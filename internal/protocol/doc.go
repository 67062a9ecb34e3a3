// Package protocol reads and writes what KiteQ clients and brokers exchange over TCP: frames, and
// the protobuf messages in them. It does no I/O and keeps no state.
//
// What arrives is read into views: byte slices into the caller's buffer, valid as long as the buffer
// is, and without allocation. What leaves is appended to the caller's slice. Every view decoder
// accepts and refuses what the standard protobuf decoder does, with the differences named at scanner.
// Their errors are of code kite.Invalid (or kite.TooLarge) and name the message and the field.
//
// doc/protocol.md has the contract as tables. Package wire holds the code generated from kiteq.proto,
// by this command in the root of the module:
//
//	protoc --plugin=protoc-gen-go="$(go tool -n protoc-gen-go)" --go_out=. --go_opt=module=github.com/kiteq/kiteq internal/protocol/kiteq.proto
package protocol
