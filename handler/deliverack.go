package handler

import (
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// deliverAck takes a consumer's answer. It belongs to the delivery that its connection and opaque name:
// its groupId is the publisher's and says nothing (interop contract §0.7).
func (r *read) deliverAck(f *protocol.Frame) {
	var a protocol.DeliverAckView
	if err := a.Decode(f.Payload); err != nil {
		r.malformed(f, err)
		return
	}
	ack := kite.Ack{Member: r.s, Opaque: f.Opaque, OK: a.Status}
	if !a.Status {
		ack.Feedback = string(a.Feedback[:min(len(a.Feedback), maxFeedback)])
	}
	r.acks = append(r.acks, ack)
}

// maxFeedback bounds how much of a client's words is kept, bytes.
const maxFeedback = 256
