package handler

import (
	"time"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// connect lets the connection join its group. Go clients send ConnMeta up to three times on one connection: it
// stays one member. When the gate must look at the key first, the answer comes later, by admitted; until then
// the connection is in no group.
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
	h, s := r.h, r.s
	g := &session.Greeting{
		Group: meta.GroupID, Key: meta.SecretKey, Level: meta.Level, Opaque: f.Opaque,
		Credit:    min(meta.Credit, protocol.MaxCredit),
		WarmingUp: time.Duration(max(meta.WarmingUpSec, 0)) * time.Second,
	}
	if h.gate != nil {
		if asked := s.Greeting; asked != nil && asked.Group == g.Group && asked.Key == g.Key {
			asked.Opaque = g.Opaque // it asks again while its key is looked at
			return nil
		}
		now, err := h.gate.Admit(g.Group, g.Key, s.Conn.RemoteAddr(), func(err error) {
			s.Conn.Run(func() { h.admitted(s, g, err) })
		})
		if !now {
			s.Greeting = g
			return nil
		}
		s.Greeting = nil
		if err != nil {
			r.reply = appendRefusal(r.reply, s, g, err)
			return err
		}
	}
	r.reply = appendWelcome(r.reply, s, g)
	h.join(s, g)
	r.allowed = nil // that of the group before
	return nil
}

// admitted goes on with a ConnMeta whose key was looked at. A newer one may have taken its place.
func (h *Handler) admitted(s *session.Session, g *session.Greeting, err error) {
	if s.Greeting != g {
		return
	}
	s.Greeting = nil
	b := session.NewBuffer()
	if err != nil {
		b.B = appendRefusal(b.B, s, g, err)
		s.Conn.Write(b)
		s.Conn.Close(err)
		return
	}
	b.B = appendWelcome(b.B, s, g)
	s.Conn.Write(b)
	h.join(s, g)
}

// join makes the connection a member of the group.
func (h *Handler) join(s *session.Session, g *session.Greeting) {
	s.Level.Store(g.Level)
	if g.Level > 0 {
		s.SetCredit(g.Credit)
	}
	if left := h.directory.Join(s, g.Group, g.WarmingUp, h.now()); left != "" {
		h.settler.Left(left, s)
	}
	h.settler.Joined(g.Group)
	h.watcher.Joined(g.Group)
	h.log.Info("member joined", "session", s.ID, "remote", s.Conn.RemoteAddr(), "group", g.Group, "framing", protocol.Framing(s.Framing).String(), "level", g.Level)
}

func appendWelcome(dst []byte, s *session.Session, g *session.Greeting) []byte {
	ack := protocol.ConnAuthAck{OK: true, Feedback: protocol.FeedbackAuthorized}
	if g.Level > 0 {
		ack.Level = protocol.Level
	}
	return protocol.AppendConnAuthAck(dst, protocol.Framing(s.Framing), g.Opaque, ack)
}

// appendRefusal answers a ConnMeta that is refused. Who only found no place in the queue is not answered: for old
// Go clients a refusal is for ever, and a connection that breaks is not.
func appendRefusal(dst []byte, s *session.Session, g *session.Greeting, err error) []byte {
	if kite.CodeOf(err) != kite.Unauthorized {
		return dst
	}
	return protocol.AppendConnAuthAck(dst, protocol.Framing(s.Framing), g.Opaque, protocol.ConnAuthAck{Feedback: protocol.FeedbackForbidden + err.Error()})
}

// Expel closes the connections of the members whose group is picked: they must show their key again.
func (h *Handler) Expel(picked func(group string) bool, reason error) {
	h.directory.Groups(func(group string, members []*session.Session) {
		if picked(group) {
			for _, s := range members {
				s.Conn.Close(reason)
			}
		}
	})
}
