package handler

import (
	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// maxReason bounds what a producer may say about its verdict, bytes: it is kept with the message.
const maxReason = 255

// txAck takes a producer's verdict: right after its transaction, or as the answer to a check. It names the
// message, so it is good on any connection and with any opaque; "unknown" decides nothing.
func (r *read) txAck(f *protocol.Frame) {
	var t protocol.TxAckView
	if err := t.Decode(f.Payload); err != nil {
		r.malformed(f, err)
		return
	}
	id, ok := kite.ParseMessageID(t.Header.MessageID)
	by := r.s.Conn.RemoteAddr()
	kind := kite.KindCommit
	switch {
	case ok && t.Status == protocol.StatusCommit:
	case ok && t.Status == protocol.StatusRollback:
		kind = kite.KindRollback
	default:
		if ok && t.Status == protocol.StatusUnknown {
			r.h.watcher.Answered(id, by)
		}
		r.h.log.Debug("verdict decides nothing", "session", r.s.ID, "msg_id", string(t.Header.MessageID), "status", t.Status)
		return
	}
	if r.h.gate != nil && !r.h.gate.MayDecide(r.s.Group()) {
		r.h.log.Warn("verdict of a group that may not publish", "session", r.s.ID, "remote", by, "group", r.s.Group(), "msg_id", id.String())
		r.reply = appendReceipt(r.reply, r.s, &kite.Item{Opaque: f.Opaque, Record: kite.Record{Kind: kind, ID: id}}, kite.Unauthorized)
		return
	}
	if r.batch == nil {
		r.batch = r.h.batches.get()
		r.batch.Owner, r.batch.Received = r.s, r.now
	}
	b := r.batch
	at := len(b.Arena)
	b.Arena = append(kite.AppendNote(b.Arena, by, ""), t.Feedback[:min(len(t.Feedback), maxReason)]...)
	b.Items = append(b.Items, kite.Item{Opaque: f.Opaque, Record: kite.Record{Kind: kind, ID: id, Body: b.Arena[at:len(b.Arena):len(b.Arena)]}})
}

// appendReceipt appends the answer to a verdict for clients that know it. Old ones expect nothing.
func appendReceipt(dst []byte, s *session.Session, item *kite.Item, code kite.Code) []byte {
	if s.Level.Load() < 1 {
		return dst
	}
	receipt := protocol.TxReceipt{MessageID: item.ID.String(), Code: code, Outcome: item.Outcome}
	if item.Outcome == kite.OutcomeCommitted || item.Outcome == kite.OutcomeRolledBack {
		receipt.DecidedBy, receipt.DecidedMs = kite.DecodeNote(item.Body).By, item.TimeMs
	}
	return protocol.AppendTxReceipt(dst, protocol.Framing(s.Framing), item.Opaque, &receipt)
}
