package client

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// Error is what the client's methods return: a Code, what was being done, and the cause.
type Error = kite.Error

// Code classifies an Error. A Code is itself a target of errors.Is: errors.Is(err, client.Busy).
type Code = kite.Code

// The codes that a client can meet. Publish retries by itself where that can help; what it returns
// is final, except Indeterminate, after which the caller may publish again under the same ID.
const (
	Invalid       = kite.Invalid       // the caller's mistake
	TooLarge      = kite.TooLarge      // over a size limit
	Unauthorized  = kite.Unauthorized  // the broker refused the group or its secret key
	Expired       = kite.Expired       // the message's time has passed
	NotServed     = kite.NotServed     // no broker serves the topic
	Busy          = kite.Busy          // a bound was hit until the context ended
	Unavailable   = kite.Unavailable   // no broker took it until the context ended; nothing was stored
	TxConflict    = kite.TxConflict    // the opposite decision stands
	TxUnknown     = kite.TxUnknown     // the broker knows no such transaction
	Indeterminate = kite.Indeterminate // it may be stored or not
	Internal      = kite.Internal      // a bug or the broker's disk
)

// CodeOf returns the code of the first Error in err's chain, 0 for nil and Internal otherwise.
func CodeOf(err error) Code { return kite.CodeOf(err) }

// ErrUnknownOutcome is what the function given to PublishTx wraps when it cannot tell whether its
// local transaction took effect, for example when the answer to COMMIT was lost. The message then
// stays prepared, and the broker's check decides.
var ErrUnknownOutcome = errors.New("the outcome of the local transaction is not known")

// definite tells whether err says for sure that the local transaction did not take effect. Whoever
// rolls back on a doubtful error loses the message of a row that exists, so doubt is not definite.
func definite(err error) bool {
	for _, doubtful := range []error{
		ErrUnknownOutcome, context.DeadlineExceeded, context.Canceled, driver.ErrBadConn,
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
	} {
		if errors.Is(err, doubtful) {
			return false
		}
	}
	var lost net.Error
	return !errors.As(err, &lost)
}

// refusal is the error of a StoreAck with status false.
func refusal(addr string, feedback []byte) error {
	return kite.Errorf(refusalCode(string(feedback)), "broker %s refused: %s", addr, feedback)
}

// refusalCode reads the texts of brokers by their beginnings. Not stored means Unavailable, not
// Internal: for sure it is not stored there, and another broker may take it.
func refusalCode(feedback string) Code {
	for _, known := range [...]struct {
		prefix string
		code   Code
	}{
		{protocol.FeedbackTopic, kite.NotServed},
		{protocol.FeedbackMessageID, kite.Invalid},
		{protocol.FeedbackExpired, kite.Expired},
		{protocol.FeedbackFlyUncommitted, kite.Invalid},
		{protocol.FeedbackDelay, kite.Invalid},
		{protocol.FeedbackOverflow, kite.Busy},
		{protocol.FeedbackNotStored, kite.Unavailable},
		{protocol.FeedbackConflict, kite.TxConflict},
		{protocol.FeedbackUnauthorized, kite.Unauthorized},
		{protocol.FeedbackProperties, kite.TooLarge},
		{protocol.FeedbackForbidden, kite.Unauthorized},
	} {
		if strings.HasPrefix(feedback, known.prefix) {
			return known.code
		}
	}
	return kite.Internal
}

// retriable tells whether publishing again under the same id can help.
func retriable(err error) bool {
	switch kite.CodeOf(err) {
	case kite.Busy, kite.NotServed, kite.Unavailable, kite.Indeterminate:
		return true
	}
	return false
}
