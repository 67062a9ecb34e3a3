package handler

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// Sequencer takes publishes and verdicts; it answers them through Handler.Durable.
type Sequencer interface {
	Submit(b *kite.Batch) error
}

// Settler takes what members say about deliveries, and who the members are.
type Settler interface {
	// Acked takes the answers of one read. It keeps no reference to the slice.
	Acked(group string, acks []kite.Ack)
	Joined(group string)
	Left(group string, m kite.Member)
	// Fly takes messages that are not journaled. The items and what they point to are given away.
	Fly(items []kite.Item)
}

// Watcher is told what it should know of producers that owe answers about transactions.
type Watcher interface {
	// Joined says that the group has a new member.
	Joined(group string)
	// Answered says that somebody answered a check and could not decide.
	Answered(id kite.MessageID, by string)
}

// Gate knows who may come in, and what for.
type Gate interface {
	// Admit tells whether a client at remote may join the group. When it is not known at once, now is false and
	// done is called later, by another goroutine, or never.
	Admit(group, key, remote string, done func(error)) (now bool, err error)
	MayPublish(group, topic string) bool
	MayDecide(group string) bool
}

// Loader finds the bytes of an undecided message.
type Loader interface {
	Load(pos kite.Position, visit func(*kite.Record)) error
}

// Handler serves every connection. Its methods are called by the event loops, for one session at a
// time, and never block.
type Handler struct {
	directory *session.Directory
	lane      Sequencer
	settler   Settler
	watcher   Watcher
	gate      Gate // nil: everybody may do everything
	limits    kite.Limits
	classes   kite.Classes
	address   string
	log       *slog.Logger
	now       func() time.Time

	topics   atomic.Pointer[map[string]*topic]
	limiter  atomic.Pointer[limiter] // nil: no limit
	accepted atomic.Int64
	stopping atomic.Bool
	held     atomic.Pointer[hold] // nil: publishes are taken
	refused  [refusals]atomic.Int64
	acked    kite.Timings // from the read to the answer that it is stored
	batches  batchPool
	acks     ackPool
	sessions atomic.Uint64
	answered []*session.Session // of one turn; owned by the lane's goroutine
}

// New returns a handler that serves no topic until SetTopics. address is the broker's own "ip:port",
// classes what a StoreAck promises.
func New(directory *session.Directory, classes kite.Classes, address string, log *slog.Logger) *Handler {
	h := &Handler{directory: directory, classes: classes, address: address, log: log.With("component", "handler"), now: time.Now}
	h.limits = kite.Limits{}.WithDefaults()
	h.topics.Store(&map[string]*topic{})
	return h
}

// Connect gives the handler the parts behind it, before the first connection. They need the handler's
// answers and the handler needs them: this is where the circle closes.
func (h *Handler) Connect(lane Sequencer, settler Settler, watcher Watcher) {
	h.lane, h.settler, h.watcher = lane, settler, watcher
}

// Guard puts the gate before the broker, before the first connection.
func (h *Handler) Guard(g Gate) { h.gate = g }

// Bound sets other limits of messages than the default ones, before the first connection.
func (h *Handler) Bound(l kite.Limits) { h.limits = l }

// Limit bounds the publishes of all connections together: perSecond of them, half as many at once, 0 for
// no limit. It may be changed at any time, and a new limit begins full.
func (h *Handler) Limit(perSecond int) {
	if perSecond == 0 {
		h.limiter.Store(nil)
		return
	}
	h.limiter.Store(newLimiter(perSecond, h.now()))
}

// SetTopics replaces the topics that may be published to. It is called by one goroutine at a time.
func (h *Handler) SetTopics(topics []string) {
	served := *h.topics.Load()
	set := make(map[string]*topic, len(topics))
	for _, name := range topics {
		if set[name] = served[name]; set[name] == nil {
			set[name] = &topic{name: name}
		}
	}
	h.topics.Store(&set)
}

// Refuse answers every publish from now on that the broker is stopping, until Accept.
func (h *Handler) Refuse() { h.stopping.Store(true) }

// hold is why no publish is taken for now.
type hold struct {
	why  Refusal
	text string
}

// Hold answers every publish from now on that the broker has no room, and why, until Open.
func (h *Handler) Hold(why Refusal, text string) {
	h.held.Store(&hold{why, h.overflow() + " " + text})
}

// Open takes publishes again.
func (h *Handler) Open() { h.held.Store(nil) }

// Accept takes publishes again.
func (h *Handler) Accept() { h.stopping.Store(false) }

// Opened returns the session of a new connection.
func (h *Handler) Opened(conn session.Conn) *session.Session {
	return session.New(h.sessions.Add(1), conn)
}

// Closed ends the session of a connection that is gone.
func (h *Handler) Closed(s *session.Session) {
	h.directory.Leave(s)
	if group := s.Group(); group != "" {
		h.settler.Left(group, s)
	}
}

// Writable says that the session's connection takes deliveries again.
func (h *Handler) Writable(s *session.Session) {
	if group := s.Group(); group != "" {
		h.settler.Joined(group)
	}
}

// errUnauthorized closes a connection that spoke before its ConnMeta.
var errUnauthorized = errors.New("spoke before its ConnMeta")

// Frames handles everything that one read brought, in order. Replies that need nobody else are appended
// to reply, which is returned and sent in any case; an error closes the connection after it.
func (h *Handler) Frames(s *session.Session, frames []protocol.Frame, reply []byte) ([]byte, error) {
	r := read{h: h, s: s, now: h.now(), framing: protocol.Framing(s.Framing), frames: frames, reply: reply}
	var err error
	for i := range frames {
		if err = r.frame(&frames[i]); err != nil {
			break
		}
	}
	r.finish()
	return r.reply, err
}

// read is the work of one read of one connection. What it gathers leaves in one hand-over each.
type read struct {
	h       *Handler
	s       *session.Session
	now     time.Time // one for all: they came together
	framing protocol.Framing
	frames  []protocol.Frame
	reply   []byte
	batch   *kite.Batch
	flies   *kite.Batch
	acks    *ackList
	tally   tally
	limiter *limiter // nil: not asked yet, or no limit

	// Of the limiter: the topic it was asked for, what is left of what it gave, the publishes still to come.
	asked              *topic
	permits, publishes int
	allowed            *topic // the last one that the gate let the group publish to
}

func (r *read) frame(f *protocol.Frame) error {
	switch f.Command {
	case protocol.CmdConnMeta:
		return r.connect(f)
	case protocol.CmdHeartbeat:
		r.heartbeat(f)
		return nil
	}
	if r.s.Group() == "" {
		r.reply = protocol.AppendConnAuthAck(r.reply, r.framing, 0, protocol.ConnAuthAck{Feedback: protocol.FeedbackUnauthorized})
		return errUnauthorized
	}
	switch f.Command {
	case protocol.CmdBytesMessage, protocol.CmdStringMessage:
		r.publish(f)
	case protocol.CmdTxAck:
		r.txAck(f)
	case protocol.CmdDeliverAck:
		r.deliverAck(f)
	default: // unknown commands are ignored, as they always were
		r.h.log.Debug("unknown command ignored", "session", r.s.ID, "command", f.Command.String())
	}
	return nil
}

// malformed notes a payload that does not parse. Nothing is answered and the connection stays, as
// with the original broker.
func (r *read) malformed(f *protocol.Frame, err error) {
	r.h.log.Warn("malformed payload ignored", "session", r.s.ID, "remote", r.s.Conn.RemoteAddr(), "command", f.Command.String(), "err", err)
}

func (r *read) finish() {
	if r.permits > 0 {
		r.limiter.put(r.asked, r.permits)
	}
	if r.tally.accepted > 0 {
		r.h.accepted.Add(r.tally.accepted)
		r.tally.flush()
	}
	if r.acks != nil {
		r.h.settler.Acked(r.s.Group(), r.acks.list)
		r.h.acks.put(r.acks)
	}
	r.fly()
	if r.batch == nil {
		return
	}
	if len(r.batch.Items) == 0 {
		r.h.batches.put(r.batch)
		return
	}
	if err := r.h.lane.Submit(r.batch); err != nil {
		r.refuse(kite.CodeOf(err))
		r.h.batches.put(r.batch)
	}
}
