package handler

import (
	"sync"

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
	if r.acks == nil {
		r.acks = r.h.acks.get()
	}
	r.acks.list = append(r.acks.list, ack)
}

// maxFeedback bounds how much of a client's words is kept, bytes.
const maxFeedback = 256

// ackList is the answers of one read.
type ackList struct{ list []kite.Ack }

// ackPool keeps them between reads.
type ackPool struct{ pool sync.Pool }

func (p *ackPool) get() *ackList {
	if a, ok := p.pool.Get().(*ackList); ok {
		return a
	}
	return &ackList{}
}

func (p *ackPool) put(a *ackList) {
	clear(a.list)
	a.list = a.list[:0]
	p.pool.Put(a)
}
