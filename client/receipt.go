package client

import (
	"context"
	"fmt"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// Receipt is what a broker says about a decided transaction.
type Receipt struct {
	// Outcome is Commit or Rollback.
	Outcome Verdict
	// DecidedBy is who decided: the address of a client, "operator NAME" or "broker"; "" when the broker
	// does not remember it.
	DecidedBy string
	// DecidedAt is when, by the broker's clock; zero when the broker does not remember it.
	DecidedAt time.Time
}

func newReceipt(r *protocol.TxReceipt) Receipt {
	receipt := Receipt{DecidedBy: r.DecidedBy}
	switch r.Outcome {
	case kite.OutcomeCommitted:
		receipt.Outcome = Commit
	case kite.OutcomeRolledBack:
		receipt.Outcome = Rollback
	}
	if r.DecidedMs > 0 {
		receipt.DecidedAt = time.UnixMilli(r.DecidedMs)
	}
	return receipt
}

func (r Receipt) String() string {
	text := r.Outcome.String()
	if r.DecidedBy != "" {
		text += " by " + r.DecidedBy
	}
	if !r.DecidedAt.IsZero() {
		text += " at " + r.DecidedAt.UTC().Format(time.RFC3339Nano)
	}
	return text
}

// decide sends the verdict and returns the broker's receipt, or nil from a broker that gives none: then it
// has received the verdict, and more is not known. An error says that the verdict may have arrived or not,
// unless it has one of the codes TxConflict and TxUnknown.
func (c *conn) decide(ctx context.Context, ack *txAck) (*Receipt, error) {
	if c.level < 1 {
		return nil, c.tell(ctx, ack)
	}
	call := &call{done: make(chan struct{})}
	if err := c.request(ctx, ack, call); err != nil {
		return nil, err
	}
	select {
	case <-call.done:
	case <-ctx.Done():
		return nil, kite.Errorf(kite.Indeterminate, "broker %s gave no receipt: %w", c.addr, ctx.Err())
	}
	if call.err != nil {
		return nil, call.err
	}
	receipt := newReceipt(call.receipt)
	switch call.receipt.Code {
	case kite.OK:
		return &receipt, nil
	case kite.TxConflict:
		return &receipt, kite.Errorf(kite.TxConflict, "broker %s: it was decided before: %s", c.addr, receipt)
	case kite.TxUnknown:
		return nil, kite.Errorf(kite.TxUnknown, "broker %s knows no such transaction, or not any more", c.addr)
	}
	return nil, &kite.Error{Code: call.receipt.Code, Err: fmt.Errorf("broker %s did not record it: %w", c.addr, call.receipt.Code)}
}

// receipted settles the verdict that a TxReceipt answers.
func (c *conn) receipted(f protocol.Frame) {
	receipt, err := protocol.DecodeTxReceipt(f.Payload)
	if err != nil {
		c.malformed(f, err)
		return
	}
	call := c.calls.take(f.Opaque)
	if call == nil { // it came after the timeout, or answers a check
		c.unsolicited(f)
		return
	}
	call.receipt = &receipt
	c.release(call, nil)
}
