package handler

import (
	"fmt"
	"strconv"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// Durable answers the publishes of the batches, one write for each connection. Verdicts on transactions
// are never answered: old clients expect nothing.
func (h *Handler) Durable(batches []*kite.Batch) {
	var one *session.Session // most turns answer few connections: the map is for the others
	var buffer *session.Buffer
	var more map[*session.Session]*session.Buffer
	nowMs := kite.UnixMs(h.now())
	for _, b := range batches {
		s, ok := b.Owner.(*session.Session)
		if !ok {
			continue
		}
		switch {
		case s == one:
		case one == nil:
			one, buffer = s, session.NewBuffer()
		default:
			if more == nil {
				more = map[*session.Session]*session.Buffer{}
			}
			more[one] = buffer
			one, buffer = s, more[s]
			if buffer == nil {
				buffer = session.NewBuffer()
			}
		}
		buffer.B = h.answers(buffer.B, s, b, nowMs)
	}
	if one == nil {
		return
	}
	send(one, buffer)
	delete(more, one)
	for s, buffer := range more {
		send(s, buffer)
	}
}

func send(s *session.Session, b *session.Buffer) {
	if len(b.B) == 0 {
		b.Recycle()
		return
	}
	s.Conn.Write(b)
}

// answers appends the StoreAcks of one batch: they took equally long, so most share their feedback.
func (h *Handler) answers(dst []byte, s *session.Session, b *kite.Batch, nowMs int64) []byte {
	framing := protocol.Framing(s.Framing)
	cost := strconv.FormatInt(max(nowMs-b.ReceivedMs, 0), 10)
	stored := protocol.FeedbackStored + cost + " " + string(h.class)
	for i := range b.Items {
		item := &b.Items[i]
		switch {
		case item.Kind != kite.KindMessage && item.Kind != kite.KindPrepared:
		case item.Verdict == kite.OK && item.Repeat:
			dst = protocol.AppendStoreAck(dst, framing, item.Opaque, item.Name, true, stored+" duplicate")
		case item.Verdict == kite.OK:
			dst = protocol.AppendStoreAck(dst, framing, item.Opaque, item.Name, true, stored)
		case item.Verdict == kite.Busy:
			dst = protocol.AppendStoreAck(dst, framing, item.Opaque, item.Name, false, fmt.Sprintf("%s [%s]", protocol.FeedbackOverflow, h.address))
		default:
			dst = protocol.AppendStoreAck(dst, framing, item.Opaque, item.Name, false, protocol.FeedbackNotStored+cost)
		}
	}
	return dst
}
