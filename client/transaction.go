package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// PublishTx publishes the message if, and only if, a local transaction takes effect. The broker
// first stores the message prepared: safe, and delivered to nobody. Then PublishTx runs fn, which does
// and commits the local transaction, and sends the verdict:
//
//   - fn returns nil: commit. The message is delivered.
//   - fn returns an error that says for sure that nothing took effect: rollback.
//   - fn cannot tell, or panics: no verdict. The broker asks Options.CheckListener later,
//     which looks into the database. So does every process of the group, should this one die.
//
// Only fn knows which of the last two it is. An error counts as "cannot tell" when it wraps
// ErrUnknownOutcome, context.DeadlineExceeded, context.Canceled, driver.ErrBadConn, io.EOF,
// io.ErrUnexpectedEOF, net.ErrClosed or a net.Error. Any other error rolls back. Databases have
// more ways to lose the answer to COMMIT, so wrap whatever comes from it:
//
//	if err := tx.Commit(); err != nil {
//		return fmt.Errorf("%w: %w", client.ErrUnknownOutcome, err)
//	}
//
// PublishTx returns nil only when the broker has received the commit. It returns fn's error after a
// rollback, and an error of code Indeterminate, which wraps fn's if there is one, when the check
// will decide. The verdict is sent even when ctx ended while fn ran, to the broker that holds the
// message, within AckTimeout.
//
// While fn runs, a check for this message is answered Unknown without asking the listener.
func (c *Client) PublishTx(ctx context.Context, m *Message, fn func(ctx context.Context) error) error {
	if c.options.CheckListener == nil {
		return kite.Errorf(kite.Invalid, "publish transaction to topic %s: Options.CheckListener is nil: set it, since it decides when a verdict is lost", m.Topic)
	}
	tx, err := c.Prepare(ctx, m)
	if err != nil {
		return err
	}
	defer tx.Leave() // also when fn panics; after a verdict it does nothing
	failure := fn(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.options.AckTimeout)
	defer cancel()
	switch {
	case failure == nil:
		return tx.Commit(ctx)
	case definite(failure):
		if err := tx.Rollback(ctx, failure.Error()); err != nil {
			return errors.Join(failure, err)
		}
		return failure
	}
	return &kite.Error{Code: kite.Indeterminate, Op: tx.op("decide"), Err: fmt.Errorf("no verdict was sent, the check will decide: %w", failure)}
}

// Prepare stores the message prepared, as Publish does with a message: durable, and delivered to
// nobody before Commit. It is the lower half of PublishTx, for callers whose transaction is no
// function. End each Transaction with Commit, Rollback or Leave: until then this process answers
// Unknown to checks.
func (c *Client) Prepare(ctx context.Context, m *Message) (*Transaction, error) {
	p := &Pending{client: c}
	p.cur = &p.first
	p.first.done = make(chan struct{})
	if err := p.prepare(ctx, m, false); err != nil {
		return nil, p.ended(p.failure(err))
	}
	id, _ := kite.ParseMessageID(p.ID())
	if !c.checker.hold(id) { // before it is sent: the check may come before the answer
		return nil, p.ended(p.failure(kite.Errorf(kite.Invalid, "a transaction of this id is open in this process: use another id")))
	}
	p.send(ctx)
	if err := p.Wait(ctx); err != nil {
		c.checker.drop(id)
		return nil, err
	}
	tx := &Transaction{client: c, link: p.link, id: id, topic: m.Topic, header: encodeHeader(&p.out.header)}
	tx.link.work.add(1)
	return tx, nil
}

// Transaction is a prepared message that waits for its verdict.
type Transaction struct {
	client *Client
	link   *link // to the broker that holds the message
	id     kite.MessageID
	topic  string
	header []byte // encoded
	ended  atomic.Bool

	receipt atomic.Pointer[Receipt]
}

// ID returns the message's id.
func (t *Transaction) ID() string { return t.id.String() }

// Receipt returns what the broker said about the verdict; nil before, and from a broker of a time
// before receipts.
func (t *Transaction) Receipt() *Receipt { return t.receipt.Load() }

// Commit tells the broker to deliver the message. nil means that it is committed, durably; from a broker
// of a time before receipts, that it has received the verdict. An error of code TxConflict names who has
// decided the opposite before, and TxUnknown says that the broker knows no such transaction. When nothing
// could be made sure until ctx ended, the error is of code Indeterminate, and the check decides.
func (t *Transaction) Commit(ctx context.Context) error { return t.decide(ctx, Commit, "") }

// Rollback tells the broker to drop the message; reason is for its operators. Otherwise it is as
// Commit.
func (t *Transaction) Rollback(ctx context.Context, reason string) error {
	return t.decide(ctx, Rollback, reason)
}

// Leave ends the Transaction here without a verdict: from now on checks ask Options.CheckListener.
// After Commit, Rollback or Leave it does nothing.
func (t *Transaction) Leave() {
	if t.ended.CompareAndSwap(false, true) {
		t.release()
	}
}

func (t *Transaction) release() {
	t.client.checker.drop(t.id)
	t.link.work.done()
}

func (t *Transaction) decide(ctx context.Context, v Verdict, reason string) error {
	if !t.ended.CompareAndSwap(false, true) {
		return &kite.Error{Code: kite.Invalid, Op: t.op(v.String()), Err: errors.New("the transaction has ended before")}
	}
	defer t.release()
	receipt, err := t.client.verdict(ctx, t.link, &txAck{t.header, v, reason})
	t.receipt.Store(receipt)
	switch kite.CodeOf(err) {
	case kite.OK:
		return nil
	case kite.TxConflict, kite.TxUnknown:
		return &kite.Error{Code: kite.CodeOf(err), Op: t.op(v.String()), Err: err}
	}
	return &kite.Error{Code: kite.Indeterminate, Op: t.op(v.String()), Err: fmt.Errorf("the broker did not receive the verdict, the check will decide: %w", err)}
}

func (t *Transaction) op(verb string) string {
	return fmt.Sprintf("%s message %s of topic %s", verb, t.id, t.topic)
}

// verdict brings the verdict to the link's broker. A connection may break under it, and a broker may be
// busy, so it repeats until ctx ends: verdicts are idempotent.
func (c *Client) verdict(ctx context.Context, l *link, ack *txAck) (*Receipt, error) {
	for {
		conn, err := c.brokers.await(ctx, l)
		if err != nil {
			return nil, err
		}
		receipt, err := conn.decide(ctx, ack)
		switch kite.CodeOf(err) {
		case kite.OK, kite.TxConflict, kite.TxUnknown:
			return receipt, err
		}
		if pause(ctx, connectPauseMin) != nil {
			return nil, err
		}
	}
}

// Decide sends the verdict on a message that somebody prepared, for operators and for producers
// that come back. Which broker holds it is not known here, so it goes to every broker of the topic. The
// error names the brokers that have not answered until ctx ended, and those by which the opposite was
// decided. It is of code TxUnknown when all have answered and none knows the transaction.
func (c *Client) Decide(ctx context.Context, topic, id string, v Verdict, reason string) error {
	if v != Commit && v != Rollback {
		return kite.Errorf(kite.Invalid, "decide message %.40s: verdict %s: give Commit or Rollback", id, v)
	}
	if _, ok := kite.ParseMessageID(id); !ok {
		return kite.Errorf(kite.Invalid, "decide message %.40q: the id must be 32 hexadecimal digits", id)
	}
	c.brokers.follow([]string{topic})
	if err := c.Ready(ctx, topic); err != nil {
		return err
	}
	header := protocol.Header{MessageID: id, Topic: topic, GroupID: c.options.Group, ExpiredTime: -1, DeliverLimit: MaxDeliverLimit}
	ack := &txAck{encodeHeader(&header), v, reason}
	links := c.brokers.of(topic)
	missed := make([]error, len(links))
	var writes sync.WaitGroup
	for i, l := range links { // at the same time: one that is away must not use up the others' time
		writes.Go(func() {
			switch _, err := c.verdict(ctx, l, ack); kite.CodeOf(err) {
			case kite.OK:
			case kite.TxConflict, kite.TxUnknown:
				missed[i] = &kite.Error{Code: kite.CodeOf(err), Op: fmt.Sprintf("%s message %s", v, id), Err: err}
			default:
				missed[i] = kite.Errorf(kite.Indeterminate, "%s message %s: not received by broker %s: %w", v, id, l.addr, err)
			}
		})
	}
	writes.Wait()
	for _, err := range missed {
		if kite.CodeOf(err) != kite.TxUnknown { // somebody knows it, or may know it
			missed = slices.DeleteFunc(missed, func(err error) bool { return kite.CodeOf(err) == kite.TxUnknown })
			break
		}
	}
	return errors.Join(missed...)
}

// txAck is a verdict, or the answer to a check.
type txAck struct {
	header   []byte
	verdict  Verdict
	feedback string
}

func (a *txAck) appendTo(dst []byte, opaque uint32) []byte {
	return protocol.AppendTxAck(dst, framing, opaque, a.header, int32(a.verdict), short(a.feedback))
}

// encodeHeader returns the header as it lies in a message.
func encodeHeader(h *protocol.Header) []byte {
	encoded := protocol.AppendMessage(nil, framing, firstOpaque, protocol.CmdBytesMessage, h, nil)
	f, _, err := framing.Next(encoded)
	if err != nil {
		panic("client: own frame does not parse: " + err.Error())
	}
	var m protocol.MessageView
	if err := m.Decode(f.Payload); err != nil {
		panic("client: own header does not decode: " + err.Error())
	}
	return m.Header.Raw
}
