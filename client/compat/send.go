package compat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/compat/protocol"
)

// sendTimeout is how long a Send waits for the broker's answer.
const sendTimeout = 3 * time.Second

// TIMEOUT_ERROR is what a Send returns, as it is, when no broker answered within 3 seconds. The message
// may be stored: sending it again settles that, if it has an id.
var TIMEOUT_ERROR error = &client.Error{Code: client.Indeterminate, Err: errors.New("WAIT RESPONSE TIMEOUT ")}

// errNotDone is how a local transaction says false without an error.
var errNotDone = errors.New("the local transaction returned false")

// DoTransaction runs a local transaction about the message, which is prepared. true commits it; false,
// and an error that says for sure that nothing took effect, rolls it back.
type DoTransaction func(message *protocol.QMessage) (bool, error)

// SendStringMessage returns nil when a broker has stored the message. With commit=false it is only
// prepared, and the check decides.
func (k *KiteQClient) SendStringMessage(msg *protocol.StringMessage) error {
	return k.send(protocol.NewQMessage(msg))
}

// SendBytesMessage is SendStringMessage for bytes.
func (k *KiteQClient) SendBytesMessage(msg *protocol.BytesMessage) error {
	return k.send(protocol.NewQMessage(msg))
}

// SendTxStringMessage prepares the message, runs the local transaction, and sends its verdict. It returns
// the transaction's error, or why the message could not be prepared: then it was not run.
func (k *KiteQClient) SendTxStringMessage(msg *protocol.StringMessage, transaction DoTransaction) error {
	return k.sendTx(protocol.NewQMessage(msg), transaction)
}

// SendTxBytesMessage is SendTxStringMessage for bytes.
func (k *KiteQClient) SendTxBytesMessage(msg *protocol.BytesMessage, transaction DoTransaction) error {
	return k.sendTx(protocol.NewQMessage(msg), transaction)
}

func (k *KiteQClient) send(q *protocol.QMessage) error {
	if k.mock {
		return nil
	}
	c, err := k.started()
	if err != nil {
		return err
	}
	m, err := published(q)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(k.ctx, sendTimeout)
	defer cancel()
	if q.GetHeader().GetCommit() {
		return sendError(m.Topic, c.Publish(ctx, m))
	}
	tx, err := c.Prepare(ctx, m)
	if err != nil {
		return sendError(m.Topic, err)
	}
	tx.Leave()
	return nil
}

func (k *KiteQClient) sendTx(q *protocol.QMessage, transaction DoTransaction) error {
	if k.mock {
		return nil
	}
	c, err := k.started()
	if err != nil {
		return err
	}
	m, err := published(q)
	if err != nil {
		return err
	}
	if transaction == nil {
		return &client.Error{Code: client.Invalid, Op: "send transaction", Err: errors.New("the local transaction is nil: give a function")}
	}
	ctx, cancel := context.WithTimeout(k.ctx, sendTimeout) // of the preparation: the rest has its own
	defer cancel()
	ran := false
	err = c.PublishTx(ctx, m, func(context.Context) error {
		ran = true
		done, err := transaction(prepared(m, k.options.Group))
		if err == nil && !done {
			return errNotDone
		}
		return err
	})
	switch {
	case !ran:
		return sendError(m.Topic, err)
	case err == errNotDone: // and not joined with a verdict that got lost
		return nil
	}
	return err
}

// sendError gives failures the texts that people search their logs for.
func sendError(topic string, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, client.Unavailable) {
		return fmt.Errorf("NO Alive KITE CLIENT ! [%s]: %w", topic, err)
	}
	return TIMEOUT_ERROR
}
