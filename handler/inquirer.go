package handler

import (
	"log/slog"
	"time"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// Inquirer asks producers about their undecided messages.
type Inquirer struct {
	directory *session.Directory
	loader    Loader
	log       *slog.Logger
}

// NewInquirer returns an inquirer that reads undecided messages from loader.
func NewInquirer(directory *session.Directory, loader Loader, log *slog.Logger) *Inquirer {
	return &Inquirer{directory: directory, loader: loader, log: log.With("component", "handler")}
}

// Ask sends a check about the message to a live member of the publisher's group, in turn to each, and
// returns the member's address, or "" when there is none that takes it now.
func (q *Inquirer) Ask(group string, id kite.MessageID, position kite.Position, turn int) (asked string) {
	// Where the round begins differs from message to message: the first checks go to all members alike.
	s := q.directory.Pick(group, time.Now(), int(id[15])+turn)
	if s == nil {
		return ""
	}
	b := session.NewBuffer()
	var encode error
	err := q.loader.Load(position, func(r *kite.Record) {
		b.B, encode = protocol.AppendTxCheck(b.B, protocol.Framing(s.Framing), s.NextCheck(), r.Body, protocol.FeedbackCheck)
	})
	if err == nil {
		err = encode
	}
	if err != nil {
		q.log.Error("check not sent", "msg_id", id.String(), "group", group, "err", err)
		b.Recycle()
		return ""
	}
	s.Conn.Write(b)
	return s.Conn.RemoteAddr()
}
