package handler

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	idLower = "0123456789abcdef0123456789abcdef"
	idMixed = "0123456789ABCDEF0123456789abcdef"
	address = "10.0.0.1:13800"
)

var clock = time.Unix(1_700_000_000, 0) //nolint:gochecknoglobals // constant

// conn keeps each write by itself. It never recycles a buffer, so that one which is sent twice shows.
type conn struct {
	mu     sync.Mutex
	writes [][]byte
	choked bool
}

func (c *conn) Write(b *session.Buffer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes = append(c.writes, b.B)
}

func (c *conn) Writable() bool     { return !c.choked }
func (c *conn) Close(error)        {}
func (c *conn) Run(work func())    { work() }
func (c *conn) RemoteAddr() string { return "127.0.0.1:4711" }

// lane keeps what is submitted, or refuses it.
type lane struct {
	refuse  error
	batches []*kite.Batch
}

func (l *lane) Submit(b *kite.Batch) error {
	if l.refuse == nil {
		l.batches = append(l.batches, b)
	}
	return l.refuse
}

// settler and watcher note what they are told.
type settler struct {
	told []string
	acks []kite.Ack
	fly  [][]kite.Item
}

func (s *settler) Acked(group string, acks []kite.Ack) {
	s.told = append(s.told, fmt.Sprintf("acked %s %d", group, len(acks)))
	s.acks = append(s.acks, acks...)
}
func (s *settler) Joined(group string) { s.told = append(s.told, "joined "+group) }
func (s *settler) Left(group string, m kite.Member) {
	s.told = append(s.told, fmt.Sprintf("left %s %d", group, m.(*session.Session).ID))
}
func (s *settler) Fly(items []kite.Item) { s.fly = append(s.fly, items) }

type watcher struct{ joined, answered []string }

func (w *watcher) Joined(group string) { w.joined = append(w.joined, group) }

func (w *watcher) Answered(id kite.MessageID, by string) {
	w.answered = append(w.answered, id.String()+" "+by)
}

// rig is a handler among fakes.
type rig struct {
	*Handler
	t       *testing.T
	lane    *lane
	settler *settler
	watcher *watcher
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{
		Handler: New(session.NewDirectory(0), kite.Classes{Store: kite.ClassSynced}, address, slog.New(slog.DiscardHandler)),
		t:       t, lane: &lane{}, settler: &settler{}, watcher: &watcher{},
	}
	r.now = func() time.Time { return clock }
	r.Connect(r.lane, r.settler, r.watcher)
	r.SetTopics([]string{"message", "trade"})
	return r
}

// dial opens a connection that has said nothing yet.
func (r *rig) dial(f protocol.Framing) (*session.Session, *conn) {
	c := &conn{}
	s := r.Opened(c)
	s.Framing = uint8(f)
	return s, c
}

// member opens a connection of the group.
func (r *rig) member(f protocol.Framing, group string) (*session.Session, *conn) {
	r.t.Helper()
	s, c := r.dial(f)
	if got, err := r.say(s, protocol.AppendConnMeta(nil, f, 1, protocol.ConnMeta{GroupID: group})); err != nil || !slices.Equal(got, []string{"connAuthAck 1 true Auth Succ"}) {
		r.t.Fatalf("connMeta: %q, %v", got, err)
	}
	return s, c
}

// say hands the handler what one read brought, and returns its direct replies in words.
func (r *rig) say(s *session.Session, raw ...[]byte) ([]string, error) {
	r.t.Helper()
	var frames []protocol.Frame
	for _, b := range raw {
		frames = append(frames, cut(r.t, protocol.Framing(s.Framing), b)...)
	}
	reply, err := r.Frames(s, frames, []byte("kept"))
	if string(reply[:4]) != "kept" {
		r.t.Fatalf("the reply does not append: %q", reply)
	}
	for _, b := range raw { // the read buffer is used again: nobody may hold on to it
		clear(b)
	}
	return words(r.t, protocol.Framing(s.Framing), reply[4:]), err
}

func cut(t *testing.T, f protocol.Framing, raw []byte) (frames []protocol.Frame) {
	t.Helper()
	for len(raw) > 0 {
		frame, n, err := f.Next(raw)
		if err != nil || n == 0 {
			t.Fatalf("no frame of framing %v begins % x: %v", f, raw[:min(len(raw), 40)], err)
		}
		frames = append(frames, frame)
		raw = raw[n:]
	}
	return frames
}

// words says what the broker's frames mean.
func words(t *testing.T, f protocol.Framing, raw []byte) (all []string) {
	t.Helper()
	for _, frame := range cut(t, f, raw) {
		text := fmt.Sprintf("%v %d ", frame.Command, frame.Opaque)
		var err error
		switch frame.Command {
		case protocol.CmdConnAuthAck:
			var a protocol.ConnAuthAck
			a, err = protocol.DecodeConnAuthAck(frame.Payload)
			text += fmt.Sprintf("%v %s", a.OK, a.Feedback)
		case protocol.CmdHeartbeat:
			var version int64
			version, err = protocol.DecodeHeartbeat(frame.Payload)
			text += fmt.Sprint(version)
		case protocol.CmdStoreAck:
			var a protocol.StoreAckView
			err = a.Decode(frame.Payload)
			text += fmt.Sprintf("%s %v %s", a.MessageID, a.Status, a.Feedback)
		case protocol.CmdTxReceipt:
			var receipt protocol.TxReceipt
			receipt, err = protocol.DecodeTxReceipt(frame.Payload)
			text += fmt.Sprintf("%s %v: %v by %q at %d", receipt.MessageID, receipt.Code, receipt.Outcome, receipt.DecidedBy, receipt.DecidedMs)
		default:
			text += fmt.Sprintf("%d bytes", len(frame.Payload))
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		all = append(all, text)
	}
	return all
}

// header is a valid one; change makes it what the test is about.
func header(change func(*protocol.Header)) *protocol.Header {
	h := &protocol.Header{
		MessageID: idLower, Topic: "trade", MessageType: "pay-succ", GroupID: "p-trade",
		ExpiredTime: -1, DeliverLimit: 100, Commit: true, CreateTime: clock.Unix(),
	}
	if change != nil {
		change(h)
	}
	return h
}

func publish(f protocol.Framing, opaque uint32, h *protocol.Header) []byte {
	return protocol.AppendMessage(nil, f, opaque, protocol.CmdBytesMessage, h, []byte("body"))
}

// items returns everything that the lane was given.
func (r *rig) items() (all []kite.Item) {
	for _, b := range r.lane.batches {
		all = append(all, b.Items...)
	}
	return all
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("answers %q, want %q", got, want)
	}
}
