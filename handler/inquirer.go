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

// Inquirer asks producers about their undecided messages. One goroutine uses it.
type Inquirer struct {
	directory *session.Directory
	loader    Loader
	deputy    Deputy
	log       *slog.Logger
	out       map[*session.Session]*session.Buffer // until the next Flush
}

// NewInquirer returns an inquirer that reads undecided messages from loader.
func NewInquirer(directory *session.Directory, loader Loader, deputy Deputy, log *slog.Logger) *Inquirer {
	return &Inquirer{
		directory: directory, loader: loader, deputy: deputy, log: log.With("component", "handler"),
		out: map[*session.Session]*session.Buffer{},
	}
}

// Ask has a check about the message for a live member of the publisher's group, in turn for each, and
// returns the member's address, or "" when there is none that takes it now. Checks for one member leave in
// one write, at the next Flush or when they have grown large. When nobody of the group is connected its
// deputy is asked; whether that sent anything shows later.
func (q *Inquirer) Ask(group string, id kite.MessageID, position kite.Position, turn int) (asked string) {
	// Where the round begins differs from message to message: the first checks go to all members alike.
	s := q.directory.Pick(group, time.Now(), int(id[15])+turn)
	if s == nil {
		if !q.directory.Online(group) {
			q.deputy.Ask(group, id, position, turn)
		}
		return ""
	}
	b := q.out[s]
	if b == nil {
		b = session.NewBuffer()
	}
	var encode error
	err := q.loader.Load(position, func(r *kite.Record) {
		b.B, encode = protocol.AppendTxCheck(b.B, protocol.Framing(s.Framing), s.NextCheck(), r.Body, protocol.FeedbackCheck)
	})
	if err == nil {
		err = encode
	}
	if err != nil {
		q.log.Error("check not sent", "msg_id", id.String(), "group", group, "err", err)
	}
	switch {
	case len(b.B) >= flushBytes:
		s.Conn.Write(b)
		delete(q.out, s)
	case len(b.B) > 0:
		q.out[s] = b
	default:
		b.Recycle()
	}
	if err != nil {
		return ""
	}
	return s.Conn.RemoteAddr()
}

// Flush sends what Ask gathered.
func (q *Inquirer) Flush() {
	for s, b := range q.out {
		s.Conn.Write(b)
	}
	clear(q.out)
}
