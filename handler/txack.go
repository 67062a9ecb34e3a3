package handler

import (
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// The states of a TxACK.
const (
	txCommit   = 1
	txRollback = 2
)

// txAck takes a producer's verdict: right after its transaction, or as the answer to a check. It names the
// message, so it is good on any connection and with any opaque; "unknown" decides nothing.
func (r *read) txAck(f *protocol.Frame) {
	var t protocol.TxAckView
	if err := t.Decode(f.Payload); err != nil {
		r.malformed(f, err)
		return
	}
	id, ok := kite.ParseMessageID(t.Header.MessageID)
	if !ok || (t.Status != txCommit && t.Status != txRollback) {
		r.h.log.Debug("verdict decides nothing", "session", r.s.ID, "msg_id", string(t.Header.MessageID), "status", t.Status)
		return
	}
	kind := kite.KindCommit
	if t.Status == txRollback {
		kind = kite.KindRollback
	}
	if r.batch == nil {
		r.batch = r.h.batches.get()
		r.batch.Owner, r.batch.ReceivedMs = r.s, kite.UnixMs(r.now)
	}
	r.batch.Items = append(r.batch.Items, kite.Item{Opaque: f.Opaque, Record: kite.Record{Kind: kind, ID: id}})
}
