package handler

import (
	"log/slog"
	"time"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// Deputy is asked for a group of which nobody is connected.
type Deputy interface {
	// Ask does not wait: when a check is sent in the end, the checker is told of it.
	Ask(group string, id kite.MessageID, position kite.Position, checks int)
}

// Inquirer asks producers about their undecided messages.
type Inquirer struct {
	directory *session.Directory
	loader    Loader
	deputy    Deputy
	log       *slog.Logger
}

// NewInquirer returns an inquirer that reads undecided messages from loader.
func NewInquirer(directory *session.Directory, loader Loader, deputy Deputy, log *slog.Logger) *Inquirer {
	return &Inquirer{directory: directory, loader: loader, deputy: deputy, log: log.With("component", "handler")}
}

// Ask sends a check about the message to a live member of the publisher's group, in turn to each, and
// returns the member's address, or "" when there is none that takes it now. When nobody of the group is
// connected its deputy is asked; whether that sent anything shows later.
func (q *Inquirer) Ask(group string, id kite.MessageID, position kite.Position, turn int) (asked string) {
	// Where the round begins differs from message to message: the first checks go to all members alike.
	s := q.directory.Pick(group, time.Now(), int(id[15])+turn)
	if s == nil {
		if !q.directory.Online(group) {
			q.deputy.Ask(group, id, position, turn)
		}
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
