// Package protocol has the message types, constants and helpers of the original client's package of that
// name, for programs that move to package compat.
//
// The messages are those of doc/protocol.md, generated, with pointer fields and GetX methods. New programs
// do not need them: client.Message and client.Delivery say the same in plain fields.
package protocol
