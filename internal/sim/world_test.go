package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kiteq/kiteq/handler"
	"github.com/kiteq/kiteq/handler/delay"
	"github.com/kiteq/kiteq/handler/deliver"
	"github.com/kiteq/kiteq/handler/exchange"
	"github.com/kiteq/kiteq/handler/sequence"
	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/handler/txn"
	"github.com/kiteq/kiteq/handler/webhook"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// world is a broker without a network, and its clients.
type world struct {
	t       *testing.T
	begin   time.Time
	backend backend
	place   string // of the journal
	lanes   sequence.Options
	flows   deliver.Options
	checks  txn.Options
	routes  []kite.Route
	conns   map[string]*conn
	topics  []string
	got     func(*conn, protocol.Frame) // learns what clients receive, on any goroutine
	opened  func()                      // runs when the journal is replayed, before anything else does

	journal    *mortal
	lane       *sequence.Lane
	handler    *handler.Handler
	dispatcher *deliver.Dispatcher
	exchange   *exchange.Exchange
	recovered  sequence.Recovered
	stop       func()

	mu   sync.Mutex
	seen []line
}

// line is something that a client saw.
type line struct {
	at   time.Time
	conn string
	text string
}

// newWorld returns the world of the scripts.
func newWorld(t *testing.T) *world {
	w := &world{
		t: t, begin: time.Now(), backend: backend{open: openMMap, crash: copyDir}, place: t.TempDir(),
		flows: deliver.Options{Shards: 2}, checks: txn.Options{MaxChecks: 3}, conns: map[string]*conn{}, topics: []string{"trade", "fee"},
	}
	w.got = (*conn).tell
	w.start()
	return w
}

func (w *world) open(place string) (*mortal, *sequence.Lane) {
	w.t.Helper()
	j := &mortal{Journal: w.backend.open(w.t, place)}
	if w.backend.crash != nil {
		j.die = func() string { return w.backend.crash(w.t, place) }
	}
	lane, err := sequence.Open(w.lanes.WithDefaults(), j, w.exchange, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	return j, lane
}

// start assembles the parts as the server does, and runs them.
func (w *world) start() {
	log := slog.New(slog.DiscardHandler)
	w.exchange = &exchange.Exchange{}
	w.journal, w.lane = w.open(w.place)
	directory := session.NewDirectory(4)
	w.recovered = w.lane.Recovered()
	recovered := w.recovered
	if w.opened != nil {
		w.opened()
	}
	w.handler = handler.New(directory, kite.Classes{Store: w.journal.Class()}, "10.0.0.1:13800", log)
	w.handler.SetTopics(w.topics)
	courier := func() deliver.Courier { return handler.NewCourier(directory) }
	w.dispatcher = deliver.New(w.flows.WithDefaults(), w.journal, w.lane, courier, recovered.Standing, recovered.Heads, log)
	checker := txn.New(w.checks.WithDefaults(), handler.NewInquirer(directory, w.journal, webhook.New(webhook.Options{}, w.journal, w.lane, log), log), w.lane, log)
	for _, u := range recovered.Open {
		checker.Restore(txn.Undecided{ID: u.ID, Topic: u.Topic, Group: u.Group, Position: u.Position, PreparedMs: u.PreparedMs, ExpiresMs: u.ExpiresMs, ParkedMs: u.ParkedMs})
	}
	w.lane.Follow(w.dispatcher)
	w.handler.Connect(w.lane, w.dispatcher, checker)
	scheduler := delay.New(w.journal, w.lane, recovered.Delayed, log)
	stopLane := w.run(func(ctx context.Context) error { return w.lane.Run(ctx, w.handler, w.dispatcher, checker, scheduler) })
	stopDelivery, stopChecks, stopDelays := w.run(w.dispatcher.Run), w.run(checker.Run), w.run(scheduler.Run)
	w.stop = func() {
		stopChecks()
		stopDelays()
		stopDelivery()
		stopLane()
		if err := w.journal.Close(); err != nil {
			w.t.Error(err)
		}
	}
	w.reroute()
}

// run starts a part and returns what stops it.
func (w *world) run(part func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error)
	go func() { done <- part(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, errDead) {
			w.t.Error(err)
		}
	}
}

func (w *world) reroute() {
	w.exchange.Swap(w.topics, slices.Clone(w.routes))
	w.dispatcher.Routes(w.exchange.Routes())
	synctest.Wait()
}

// crash goes on with what the disk holds at this moment, or held when the process died; every connection
// is gone.
func (w *world) crash() {
	w.journal.kill()
	w.place = w.journal.left
	w.restart()
}

// restart goes on with what the journal holds after a stop.
func (w *world) restart() {
	w.stop()
	w.conns, w.seen = map[string]*conn{}, nil
	w.start()
}

// conn is one client's connection.
type conn struct {
	loop       sync.Mutex // held by the event loop that the connection would have
	w          *world
	name       string
	group      string
	session    *session.Session
	framing    protocol.Framing
	opaque     uint32
	deliveries []request
	checks     []request
	gone       atomic.Bool // what a turn that is under way still writes reaches nobody
}

// request is one of the broker's that waits for an answer.
type request struct {
	opaque uint32
	header protocol.HeaderView
}

// Write comes after the reply of a read that is under way, as on an event loop.
func (c *conn) Write(b *session.Buffer) {
	c.loop.Lock()
	defer c.loop.Unlock()
	c.saw(b.B)
	b.Recycle()
}

func (c *conn) Writable() bool     { return true }
func (c *conn) Close(error)        {}
func (c *conn) Run(work func())    { work() }
func (c *conn) RemoteAddr() string { return c.name }

func (w *world) connect(name, group string, framing protocol.Framing) {
	c := &conn{w: w, name: name, group: group, framing: framing}
	c.session = w.handler.Opened(c)
	c.session.Framing = uint8(framing)
	w.conns[name] = c
	c.say(protocol.AppendConnMeta(nil, framing, c.next(), protocol.ConnMeta{GroupID: group}))
}

func (w *world) drop(name string) {
	w.conns[name].gone.Store(true)
	w.handler.Closed(w.conns[name].session)
	delete(w.conns, name)
}

func (c *conn) next() uint32 { c.opaque++; return c.opaque }

// say sends the broker one frame.
func (c *conn) say(raw []byte) {
	frame, _, err := c.framing.Next(raw)
	if err != nil {
		c.w.t.Fatal(err)
	}
	c.loop.Lock()
	reply, err := c.w.handler.Frames(c.session, []protocol.Frame{frame}, nil)
	c.saw(reply)
	c.loop.Unlock()
	if err != nil {
		c.note("closed: " + err.Error())
		c.w.drop(c.name)
	}
}

func (c *conn) note(text string) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.seen = append(c.w.seen, line{time.Now(), c.name, text})
}

// saw reads what the broker sent, unless one of the two is dead.
func (c *conn) saw(raw []byte) {
	if c.gone.Load() || c.w.journal.dead.Load() {
		return
	}
	for raw = slices.Clone(raw); len(raw) > 0; {
		frame, n, err := c.framing.Next(raw)
		if err != nil || n == 0 {
			c.w.t.Errorf("%s cannot read what it got: %v", c.name, err)
			return
		}
		raw = raw[n:]
		c.w.got(c, frame)
	}
}

// tell notes what the client received.
func (c *conn) tell(f protocol.Frame) {
	text, err := c.read(f)
	if err != nil {
		text += err.Error()
	}
	c.note(text)
}

func (c *conn) read(f protocol.Frame) (text string, err error) {
	switch f.Command {
	case protocol.CmdConnAuthAck:
		a, err := protocol.DecodeConnAuthAck(f.Payload)
		return fmt.Sprintf("connAuthAck %v %s", a.OK, a.Feedback), err
	case protocol.CmdStoreAck:
		var a protocol.StoreAckView
		err := a.Decode(f.Payload)
		return fmt.Sprintf("storeAck %s %v %s", nameOf(a.MessageID), a.Status, a.Feedback), err
	case protocol.CmdTxAck:
		var a protocol.TxAckView
		err := a.Decode(f.Payload)
		c.hold(&c.checks, request{f.Opaque, a.Header})
		return fmt.Sprintf("check %s: %s", nameOf(a.Header.MessageID), a.Feedback), err
	case protocol.CmdBytesMessage:
		var m protocol.MessageView
		err := m.Decode(f.Payload)
		c.hold(&c.deliveries, request{f.Opaque, m.Header})
		body := fmt.Sprintf("%q", m.Body)
		if len(m.Body) > 100 {
			body = fmt.Sprintf("%d bytes", len(m.Body))
		}
		return fmt.Sprintf("message %s %s/%s %s", nameOf(m.Header.MessageID), m.Header.Topic, m.Header.MessageType, body), err
	}
	return f.Command.String(), nil
}

func (c *conn) hold(to *[]request, r request) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	*to = append(*to, r)
}

// oldest takes the first request about the message.
func (c *conn) oldest(from *[]request, name string) (request, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	for i, r := range *from {
		if nameOf(r.header.MessageID) == name {
			*from = slices.Delete(*from, i, i+1)
			return r, nil
		}
	}
	return request{}, fmt.Errorf("%s was not asked about %s", c.name, name)
}

// dump says what the journal holds: what a broker would find that started now.
func (w *world) dump() (lines []string) {
	j, lane := w.open(w.backend.crash(w.t, w.place))
	defer func() { _ = j.Close() }()
	r := lane.Recovered()
	for _, topic := range w.topics {
		if r.Heads[topic] > 0 {
			lines = append(lines, fmt.Sprintf("topic %s: head %d", topic, r.Heads[topic]))
		}
	}
	for _, u := range r.Open {
		lines = append(lines, fmt.Sprintf("open %s of %s, parked %v", nameOf([]byte(u.ID.String())), u.Group, u.ParkedMs > 0))
	}
	for minute, from := range r.Delayed {
		err := j.Read(kite.DelayStream(minute), from, func(r *kite.Record) bool {
			lines = append(lines, fmt.Sprintf("delayed %s to %s", nameOf([]byte(r.ID.String())), w.since(time.UnixMilli(r.DueMs))))
			return true
		})
		if err != nil {
			w.t.Error(err)
		}
	}
	for _, route := range w.routes {
		name := route.Group + " on " + route.Topic
		if s := r.Standing(route.Topic, route.Group); s != nil {
			text := fmt.Sprintf("%s: floor %d", name, s.Floor())
			for _, settled := range s.Ranges() {
				text += fmt.Sprintf(", settled %d to %d", settled.From, settled.To-1)
			}
			for _, retry := range s.Progress().Retries {
				text += fmt.Sprintf(", retry %d after %d at %s", retry.Seq, retry.Attempts, w.since(time.UnixMilli(retry.DueMs)))
			}
			lines = append(lines, text)
		}
		err := j.Read(kite.DeadStream(route.Topic, route.Group), 1, func(r *kite.Record) bool {
			letter, err := kite.DecodeDeadLetter(r.Body)
			lines = append(lines, fmt.Sprintf("dead for %s: %s after %d: %s", name, nameOf([]byte(r.ID.String())), letter.Attempts, letter.Reason))
			return err == nil
		})
		if err != nil {
			w.t.Error(err)
		}
	}
	slices.Sort(lines)
	return lines
}

func (w *world) since(at time.Time) string {
	return fmt.Sprintf("%.1fs", at.Sub(w.begin).Seconds())
}

// nameOf turns 0...05 back into m5.
func nameOf[T string | []byte](id T) string { return "m" + strings.TrimLeft(string(id), "0") }
