package kite

import (
	"errors"
	"fmt"
)

// Code classifies an error; clients decide by it whether to try again. Values cross the wire: append only.
type Code uint8

// The codes.
const (
	OK            Code = 0
	Invalid       Code = 1  // the caller's mistake: do not retry
	TooLarge      Code = 2  // over a size limit: do not retry
	Unauthorized  Code = 3  // do not retry
	Expired       Code = 4  // the message's time has passed: do not retry
	NotServed     Code = 5  // the topic is not on this broker: ask the registry, try elsewhere
	Busy          Code = 6  // a bound is hit: back off, then the same broker
	Unavailable   Code = 7  // starting, draining or poisoned: another broker
	TxConflict    Code = 8  // the opposite decision is durable
	TxUnknown     Code = 9  // no such open transaction
	Indeterminate Code = 10 // the outcome is not known: try again with the same message id
	Internal      Code = 11 // a bug or the disk: details are in the broker's log
)

func (c Code) String() string {
	names := [...]string{
		"ok", "invalid", "too large", "unauthorized", "expired", "not served", "busy", "unavailable",
		"transaction conflict", "transaction unknown", "indeterminate", "internal",
	}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// Error is an error with a Code. Op, when set, is what was being done, as a verb phrase.
type Error struct {
	Code Code
	Op   string
	Err  error
}

func (e *Error) Error() string {
	switch {
	case e.Op == "" && e.Err == nil:
		return e.Code.String()
	case e.Op == "":
		return e.Err.Error()
	case e.Err == nil:
		return e.Op + ": " + e.Code.String()
	}
	return e.Op + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, kite.Code) true for an error of that code.
func (e *Error) Is(target error) bool {
	c, ok := target.(Code)
	return ok && c == e.Code
}

// Error makes a Code usable as the target of errors.Is.
func (c Code) Error() string { return c.String() }

// Errorf returns an Error of the code whose text is formatted as by fmt.Errorf.
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// CodeOf returns the code of the first Error in err's chain, OK for nil and Internal otherwise.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	var c Code
	if errors.As(err, &c) {
		return c
	}
	return Internal
}
