package sim

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kiteq/kiteq/handler/deliver"
	"github.com/kiteq/kiteq/handler/sequence"
	"github.com/kiteq/kiteq/handler/txn"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

//nolint:gochecknoglobals // flags
var (
	onlySeed  = flag.Uint64("seed", 0, "play the history of this seed only, 20 times")
	histories = flag.Int("histories", 1000, "how many histories to play")
)

// replays is how often the history of one seed is played: the steps are the same each time, but which member
// gets what, and which of two goroutines is first, is not.
const replays = 20

// steps is how many of them a history has before it comes to rest.
const steps = 80

// TestHistories goes through random publishes, transactions, answers, silences, losses, orders and deaths on
// each store, and compares what follows with the model. Of a failure it prints the steps, and the command
// that plays them again.
func TestHistories(t *testing.T) {
	t.Parallel()
	for _, on := range backends() {
		t.Run(on.name, func(t *testing.T) {
			t.Parallel()
			b := on.prepare(t)
			count := *histories * on.share / 100
			if testing.Short() {
				count /= 10
			}
			seeds := make([]uint64, count)
			for i := range seeds {
				seeds[i] = uint64(i) + 1
			}
			if *onlySeed > 0 {
				seeds = slices.Repeat([]uint64{*onlySeed}, replays)
			}
			for _, seed := range seeds {
				t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { playHistory(t, b, on.name, seed) })
				})
			}
		})
	}
}

// history is a world whose clients do what comes to their minds.
type history struct {
	*world
	model     *model
	random    *rand.Rand
	steps     []string
	names     int
	letters   map[*flow]kite.Seq // dead letters that are known
	out       []*delivery        // not answered
	questions []*delivery        // about transactions, not answered
	events    []event            // since the last step, under world.mu
	asked     *message           // sent in this step, and not answered
	askedFor  string             // publish, prepare or refuse
}

// event is what a client received.
type event struct {
	conn  *conn
	frame protocol.Frame
	atMs  int64
}

// delivery is what a client received: a message, or a question about one.
type delivery struct {
	conn *conn
	flow *flow
	turn uint64
	atMs int64
	request
	message *message
	text    string // what it says
}

func playHistory(t *testing.T, b backend, on string, seed uint64) {
	h := newHistory(t, b, seed)
	defer func() { h.stop() }()
	for n := 0; n < steps && len(h.model.wrong) == 0; n++ {
		h.step()
	}
	if len(h.model.wrong) == 0 {
		h.rest()
	}
	if len(h.model.wrong) > 0 {
		t.Errorf("%s\nfollows from\n\t%s\nagain: go test ./internal/sim -run TestHistories/%s -seed=%d",
			strings.Join(h.model.wrong, "\n"), strings.Join(h.steps, "\n\t"), on, seed)
	}
}

func newHistory(t *testing.T, b backend, seed uint64) *history {
	random := rand.New(rand.NewPCG(seed, 5))
	w := &world{t: t, begin: time.Now(), backend: b, conns: map[string]*conn{}, topics: []string{"trade", "fee"}}
	if b.crash != nil {
		w.place = t.TempDir()
	}
	w.lanes = sequence.Options{DedupeWindow: 24 * time.Hour, Retention: 10 * time.Second, DeliverFirst: random.IntN(4) == 0}
	if random.IntN(2) == 0 {
		w.lanes.CheckpointBytes = 4 << 10
	}
	w.flows = deliver.Options{Shards: 1 + random.IntN(2), Window: 1 + random.IntN(12), AckTimeout: 2 * time.Second, BreakerAfter: -1}
	if random.IntN(4) == 0 {
		w.flows.BreakerAfter = 3
	}
	if random.IntN(2) == 0 {
		w.flows.Retry = map[string][]time.Duration{"s-a": {0, 3 * time.Second}, "s-key": {2 * time.Second}, "s-topic": {0, 10 * time.Second}}
	}
	w.checks = txn.Options{First: time.Duration(1+random.IntN(10)) * time.Second, MaxChecks: 1 + random.IntN(3)}
	h := &history{world: w, random: random, letters: map[*flow]kite.Seq{}}
	h.model = &model{
		messages: map[string]*message{}, topics: map[string][]*message{}, answerMs: 2000, checks: w.checks.MaxChecks, free: w.flows.BreakerAfter > 0,
	}
	w.got = h.got
	for _, b := range h.bindings() {
		w.routes = append(w.routes, kite.Route{Topic: b.Topic, Group: b.Group, SinceMs: kite.UnixMs(w.begin), Bindings: []kite.Binding{b}})
		h.model.flows = append(h.model.flows, &flow{Binding: b, floor: 1, marks: map[int]*mark{}})
	}
	w.start()
	return h
}

// bindings are the groups of this history: some of all kinds.
func (h *history) bindings() []kite.Binding {
	key, topic, all, gone := kite.Fanout("s-key", "trade"), kite.Fanout("s-topic", "trade"), kite.Fanout("s-cast", "trade"), kite.Fanout("s-vol", "trade")
	key.Order, topic.Order, all.Broadcast, gone.Durable = kite.OrderByKey, kite.OrderByTopic, true, false
	others := []kite.Binding{key, topic, all, gone, kite.Direct("s-pay", "trade", "pay")}
	h.random.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	return append(others[:3], kite.Fanout("s-a", "trade"), kite.Fanout("s-a", "fee"))
}

// got keeps what a client received for the end of the step.
func (h *history) got(c *conn, f protocol.Frame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, event{c, f, kite.UnixMs(time.Now())})
}

func (h *history) nowMs() int64 { return kite.UnixMs(time.Now()) }

// say notes the step that is under way.
func (h *history) say(format string, args ...any) {
	h.steps = append(h.steps, h.since(time.Now())+" "+fmt.Sprintf(format, args...))
}

// settle takes in what followed from the step, and goes on with what a dead broker left.
func (h *history) settle() {
	h.drain()
	if h.journal.dead.Load() {
		h.asked = nil
		h.say("... and the broker is dead")
		h.revive(h.crash, h.journal.diedMs-1500)
		return
	}
	if h.asked != nil {
		h.model.check(false, "%s was not answered", h.asked.name)
	}
	h.model.stored(h.nowMs())
}

// drain takes in what is new: the journal first, since what clients received follows from it.
func (h *history) drain() {
	synctest.Wait()
	explain := h.look()
	h.mu.Lock()
	events := h.events
	h.events = nil
	h.mu.Unlock()
	for _, e := range events {
		h.take(e)
	}
	for _, do := range explain {
		do()
	}
}

// look reads what is new in the journal. What it returns checks why messages died.
func (h *history) look() (explain []func()) {
	m := h.model
	for _, topic := range h.topics {
		h.read(topic, kite.Seq(len(m.topics[topic])+1), func(r *kite.Record) { m.grew(m.messages[nameOf(r.ID.String())], r) })
	}
	for _, f := range m.flows {
		h.read(kite.DeadStream(f.Topic, f.Group), h.letters[f]+1, func(r *kite.Record) {
			h.letters[f] = r.Seq
			msg, atMs := m.messages[nameOf(r.ID.String())], r.TimeMs
			l, err := kite.DecodeDeadLetter(r.Body)
			if err != nil {
				m.check(false, "dead letter %d: %v", r.Seq, err)
				return
			}
			m.died(f, msg, atMs)
			explain = append(explain, func() { m.explained(f, msg, &l, atMs) })
		})
	}
	return explain
}

func (h *history) read(stream string, from kite.Seq, visit func(*kite.Record)) {
	err := h.journal.Read(stream, from, func(r *kite.Record) bool {
		visit(r)
		return true
	})
	if err != nil {
		h.t.Error(err)
	}
}

// take understands what a client received.
func (h *history) take(e event) {
	var err error
	switch e.frame.Command {
	case protocol.CmdStoreAck:
		var a protocol.StoreAckView
		err = a.Decode(e.frame.Payload)
		if h.asked == nil || nameOf(a.MessageID) != h.asked.name {
			h.model.check(false, "%s got an answer for %s", e.conn.name, a.MessageID)
			return
		}
		h.model.answered(h.askedFor, h.asked, a.Status)
		h.asked = nil
	case protocol.CmdTxAck:
		var a protocol.TxAckView
		err = a.Decode(e.frame.Payload)
		d := &delivery{conn: e.conn, message: h.model.messages[nameOf(a.Header.MessageID)], request: request{e.frame.Opaque, a.Header}}
		h.model.checked(e.conn, d.message)
		h.questions = append(h.questions, d)
	case protocol.CmdBytesMessage:
		var v protocol.MessageView
		err = v.Decode(e.frame.Payload)
		d := &delivery{conn: e.conn, message: h.model.messages[nameOf(v.Header.MessageID)], request: request{e.frame.Opaque, v.Header}, atMs: e.atMs}
		if d.message == nil {
			h.model.check(false, "P7: %s was delivered, which nobody published", v.Header.MessageID)
			return
		}
		d.text = string(v.Body)
		i := slices.IndexFunc(h.model.flows, func(f *flow) bool { return f.Group == e.conn.group && f.Topic == d.message.topic })
		if i < 0 {
			h.model.check(false, "%s was delivered to %s", d.message.name, e.conn.group)
			return
		}
		d.flow = h.model.flows[i]
		d.turn = d.flow.turn
		h.model.delivered(d, h.out)
		h.out = append(h.out, d)
	}
	if err != nil {
		h.model.check(false, "%s cannot read what it got: %v", e.conn.name, err)
	}
}

// revive starts a new broker. What was answered before savedMs must be settled.
func (h *history) revive(begin func(), savedMs int64) {
	h.model.lives++
	h.opened = func() { h.compare(savedMs) }
	begin()
}

// compare looks at what the new broker has found, before it does anything.
func (h *history) compare(savedMs int64) {
	m := h.model
	h.drain()
	h.out, h.questions = nil, nil
	opened := map[kite.MessageID]bool{}
	parked := map[kite.MessageID]bool{}
	for _, u := range h.recovered.Open {
		opened[u.ID], parked[u.ID] = true, u.ParkedMs > 0
	}
	for name, msg := range m.messages {
		id, _ := kite.ParseMessageID(idOf(name))
		is := h.fateOf(id)
		if opened[id] {
			is = open
		}
		m.found(msg, is, parked[id], h.nowMs())
	}
	for _, f := range m.flows {
		s := h.recovered.Standing(f.Topic, f.Group)
		if s == nil {
			s = &kite.Standing{}
		}
		m.resumed(f, s, savedMs)
	}
}

// fateOf finds what the journal says of a message that is not open.
func (h *history) fateOf(id kite.MessageID) fate {
	is := absent
	err := h.journal.Find(id, 1, func(r *kite.Record) bool {
		switch r.Kind {
		case kite.KindMessage, kite.KindCommit, kite.KindDelayed:
			is = committed
		case kite.KindRollback:
			is = rolledBack
		}
		return is == absent
	})
	if err != nil {
		h.t.Error(err)
	}
	return is
}

// left returns which of the topic's messages from seq on are still there.
func (h *history) left(topic string, seq kite.Seq) map[int]bool {
	there := map[int]bool{}
	h.read(topic, seq, func(r *kite.Record) { there[int(r.Seq)] = true })
	return there
}

// rest lets everything come to its end: all transactions are decided, all groups go on, and new members
// acknowledge whatever they get.
func (h *history) rest() {
	h.say("rest")
	h.journal.doom(0, false)
	for _, name := range h.sorted(func(msg *message) bool { return msg.may == open }) {
		h.decide(h.model.messages[name], []string{"commit", "rollback"}[len(name)%2], 0)
		h.settle()
	}
	for _, f := range h.model.flows {
		h.pause(f, false)
		h.settle()
	}
	for _, name := range h.connected("") {
		h.leave(name)
		h.settle()
	}
	for _, group := range h.groups() {
		h.join(group, protocol.FramingG)
		h.settle()
	}
	for range 40 {
		for len(h.out) > 0 {
			h.answer(h.out[0], true)
			h.settle()
		}
		<-time.After(5 * time.Second)
		h.settle()
	}
	if h.backend.crash == nil {
		return
	}
	h.revive(h.restart, h.nowMs()+1)
	for _, f := range h.model.flows {
		s := h.recovered.Standing(f.Topic, f.Group)
		if head := len(h.model.topics[f.Topic]); f.Durable && head > 0 && (s == nil || int(s.Floor()) != head+1 || len(s.Requeued) > 0) {
			h.model.check(false, "P2: at rest %s on %s stands at %+v, the head is %d", f.Group, f.Topic, s, head)
		}
	}
}
