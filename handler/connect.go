package handler

import (
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// connect authenticates the connection and makes it a member of its group. Go clients send ConnMeta up
// to three times on one connection: it stays one member.
func (r *read) connect(f *protocol.Frame) error {
	meta, err := protocol.DecodeConnMeta(f.Payload)
	if err != nil {
		r.malformed(f, err)
		return nil
	}
	if err := kite.CheckGroup(meta.GroupID); err != nil {
		r.reply = protocol.AppendConnAuthAck(r.reply, r.framing, f.Opaque, protocol.ConnAuthAck{Feedback: err.Error()})
		return err
	}
	h := r.h
	r.s.Level.Store(meta.Level)
	if meta.Level > 0 {
		r.s.SetCredit(min(meta.Credit, protocol.MaxCredit))
	}
	warmingUp := time.Duration(max(meta.WarmingUpSec, 0)) * time.Second
	if left := h.directory.Join(r.s, meta.GroupID, warmingUp, h.now()); left != "" {
		h.settler.Left(left, r.s)
	}
	ack := protocol.ConnAuthAck{OK: true, Feedback: protocol.FeedbackAuthorized}
	if meta.Level > 0 {
		ack.Level = protocol.Level
	}
	r.reply = protocol.AppendConnAuthAck(r.reply, r.framing, f.Opaque, ack)
	h.settler.Joined(meta.GroupID)
	h.watcher.Joined(meta.GroupID)
	h.log.Info("member joined", "session", r.s.ID, "remote", r.s.Conn.RemoteAddr(), "group", meta.GroupID, "framing", r.framing.String(), "level", meta.Level)
	return nil
}
