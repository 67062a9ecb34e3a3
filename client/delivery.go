package client

import (
	"context"
	"fmt"
	"time"

	"github.com/kiteq/kiteq/internal/protocol"
)

// Handler takes one delivery. nil acknowledges it: the group has the message. An error or a panic
// refuses it, and the broker delivers it again, to any member of the group, until it is taken,
// expires or the deliver limit is reached; the error's text goes to the broker. Deliveries repeat
// after lost answers too, so a handler must be able to see an ID twice. ctx ends when Close runs
// out of time.
//
// Answer within the broker's delivery timeout (usually 5s), or the message is delivered again.
type Handler func(ctx context.Context, d *Delivery) error

// Delivery is one delivered message. It belongs to the handler.
type Delivery struct {
	ID         string
	Topic      string
	Type       string
	Group      string // of the publisher
	Body       []byte
	Text       bool // published as a string
	Properties map[string]string
	Created    time.Time // by the producer's clock, or else the broker's; in seconds
	Expires    time.Time
	// DeliverLimit is how many attempts the group gets.
	DeliverLimit int
	Fly          bool
	// Snappy tells that the publisher compressed the body. Body is decompressed, unless
	// Options.RawSnappy: then it is one snappy block, in base64 when Text.
	Snappy bool
	Broker string // address of the broker that delivered it
}

// incoming is a delivery that waits for its handler.
type incoming struct {
	from    *conn
	opaque  uint32
	text    bool
	message protocol.MessageView
	to      *Subscription
}

// deliver queues the delivery for the handlers, or refuses it; either way it does not wait.
func (c *consumer) deliver(from *conn, f protocol.Frame) {
	d := &incoming{from: from, opaque: f.Opaque, text: f.Command == protocol.CmdStringMessage}
	if err := d.message.Decode(append([]byte(nil), f.Payload...)); err != nil {
		from.malformed(f, err)
		return
	}
	h := &d.message.Header
	s, closed := c.find(h)
	switch {
	case closed:
		c.count.abandoned.Add(1)
		d.answer(false, "this member of the group is closing")
		return
	case s == nil:
		c.count.unmatched.Add(1)
		d.answer(false, fmt.Sprintf("this member of group %s has no subscription for topic %s, type %s", c.options.Group, h.Topic, h.MessageType))
		return
	}
	d.to = s
	from.link.work.add(1)
	select {
	case c.queue <- d:
	default:
		c.count.overflowed.Add(1)
		d.answer(false, fmt.Sprintf("busy: %d deliveries wait for a handler", maxQueued))
		from.link.work.done()
	}
}

// work runs handlers until ctx ends.
func (c *consumer) work(ctx context.Context) {
	for {
		select {
		case d := <-c.queue:
			c.handle(ctx, d)
		case <-ctx.Done():
			return
		}
	}
}

func (c *consumer) handle(ctx context.Context, d *incoming) {
	defer d.from.link.work.done()
	select {
	case <-d.from.down: // the broker delivers it again
		c.count.abandoned.Add(1)
		return
	default:
	}
	if c.isClosed() {
		c.count.abandoned.Add(1)
		d.answer(false, "this member of the group is closing")
		return
	}
	delivery := d.delivery()
	if delivery.Snappy && !c.options.RawSnappy {
		plain, err := protocol.Decompress(delivery.Body, delivery.Text)
		if err != nil {
			c.count.corrupt.Add(1)
			c.log.Warn("delivery does not decompress", "topic", delivery.Topic, "msg_id", delivery.ID, "err", err)
			d.answer(false, err.Error())
			return
		}
		delivery.Body = plain
	}
	c.count.delivered.Add(1)
	if err := c.trace(ctx, d.to.handle, delivery); err != nil {
		c.count.nacked.Add(1)
		c.log.Debug("handler refused a delivery", "topic", delivery.Topic, "msg_id", delivery.ID, "err", err)
		d.answer(false, err.Error())
		return
	}
	d.answer(true, "")
}

// call turns a panic into an error.
func (c *consumer) call(ctx context.Context, handle Handler, d *Delivery) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the handler panicked: %v", r)
			c.log.Error("the handler panicked", "topic", d.Topic, "msg_id", d.ID, "err", r)
		}
	}()
	return handle(ctx, d)
}

// answer sends the DeliverAck.
func (d *incoming) answer(ok bool, feedback string) {
	d.from.answer(deliverAck{&d.message.Header, ok, short(feedback)}, d.opaque)
}

type deliverAck struct {
	header   *protocol.HeaderView
	ok       bool
	feedback string
}

func (a deliverAck) appendTo(dst []byte, opaque uint32) []byte {
	return protocol.AppendDeliverAck(dst, framing, opaque, a.header, a.ok, a.feedback)
}

func (d *incoming) delivery() *Delivery {
	h := &d.message.Header
	out := &Delivery{
		ID: string(h.MessageID), Topic: string(h.Topic), Type: string(h.MessageType), Group: string(h.GroupID),
		Body: d.message.Body, Text: d.text, Properties: properties(h), Created: created(h),
		DeliverLimit: int(h.DeliverLimit), Fly: h.Fly, Snappy: h.Snappy, Broker: d.from.addr,
	}
	if h.ExpiredTime > 0 {
		out.Expires = time.Unix(h.ExpiredTime, 0)
	}
	return out
}
