package handler

import (
	"strconv"
	"time"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// Durable answers the publishes of the batches, and the verdicts of clients that know receipts, one write
// for each connection.
func (h *Handler) Durable(batches []*kite.Batch) {
	now := h.now()
	for _, b := range batches {
		s, ok := b.Owner.(*session.Session)
		if !ok {
			continue
		}
		if s.Answers == nil {
			s.Answers = session.NewBuffer()
			h.answered = append(h.answered, s)
		}
		s.Answers.B = h.answers(s.Answers.B, s, b, now)
	}
	for i, s := range h.answered {
		send(s, s.Answers)
		s.Answers = nil
		h.answered[i] = nil
	}
	h.answered = h.answered[:0]
}

func send(s *session.Session, b *session.Buffer) {
	if len(b.B) == 0 {
		b.Recycle()
		return
	}
	s.Conn.Write(b)
}

// answers appends the StoreAcks of one batch: they took equally long, so most share their feedback.
func (h *Handler) answers(dst []byte, s *session.Session, b *kite.Batch, now time.Time) []byte {
	framing := protocol.Framing(s.Framing)
	took, stores := now.Sub(b.Received), 0
	cost := strconv.FormatInt(max(took.Milliseconds(), 0), 10)
	var class kite.Class
	var stored string
	for i := range b.Items {
		item := &b.Items[i]
		if of := h.classes.Of(item.Topic); of != class {
			class, stored = of, protocol.FeedbackStored+cost+" "+string(of)
		}
		switch {
		case item.Kind == kite.KindCommit || item.Kind == kite.KindRollback || item.Kind == kite.KindDelayed && !item.Published():
			dst = appendReceipt(dst, s, item, item.Verdict)
		case !item.Published():
		case item.Verdict == kite.OK && item.Repeat:
			dst = protocol.AppendStoreAck(dst, framing, item.Opaque, item.Name, true, stored+" duplicate")
			stores++
		case item.Verdict == kite.OK:
			dst = protocol.AppendStoreAck(dst, framing, item.Opaque, item.Name, true, stored)
			stores++
		case item.Verdict == kite.Busy:
			h.refused[RefusedBusy].Add(1)
			dst = protocol.AppendStoreAck(dst, framing, item.Opaque, item.Name, false, h.overflow())
		case item.Verdict == kite.TxConflict:
			h.refused[RefusedConflict].Add(1)
			dst = protocol.AppendStoreAck(dst, framing, item.Opaque, item.Name, false, protocol.FeedbackConflict+item.Outcome.String())
		default:
			h.refused[refusalOf(item.Verdict)].Add(1)
			dst = protocol.AppendStoreAck(dst, framing, item.Opaque, item.Name, false, protocol.FeedbackNotStored+cost+" "+item.Verdict.String())
		}
	}
	if stores > 0 {
		h.acked.Observe(took, stores)
	}
	return dst
}
