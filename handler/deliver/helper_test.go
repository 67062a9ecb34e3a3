package deliver

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// member is a connection of a group. The hub guards its fields.
type member struct {
	hub    *hub
	name   string
	credit int // how many deliveries it may hold unanswered
	held   int
	most   int // the largest body it takes, 0: any
	late   int // deliveries not answered in time

	unforgiving bool // Forgive returns false
}

func (m *member) Release(forgiven bool) {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	if forgiven {
		return
	}
	if m.held--; m.held < 0 {
		panic("deliver: member " + m.name + " got back a credit that was not taken")
	}
}

// Late and Forgive implement kite.Member; the bound of forgiveness is the session's.
func (m *member) Late() {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	m.late++
}

func (m *member) Forgive() bool {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	if m.unforgiving {
		return false
	}
	m.held--
	return true
}

// String names the member.
func (m *member) String() string { return m.name }

// holds tells how many credits of the member are taken.
func (m *member) holds() int {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	return m.held
}

// delivery is one that a courier has flushed.
type delivery struct {
	to     *member
	opaque uint32
	seq    kite.Seq // 0: fly
	key    string   // of the body, if it has one
	body   string
	at     time.Time
}

// hub is where all couriers of a dispatcher meet the members.
type hub struct {
	mu     sync.Mutex
	groups map[string][]*member
	cold   bool // nobody is chosen, as while warming up
	sent   []delivery
	asked  int // Sends
}

// set changes what the members are like.
func (h *hub) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// sends tells how often somebody was looked for since the last time.
func (h *hub) sends() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.asked
	h.asked = 0
	return n
}

// courier is the fake of the wire: what is sent counts when it is flushed.
type courier struct {
	hub     *hub
	pending []delivery
}

func (c *courier) Send(group string, opaque uint32, r *kite.Record) (kite.Member, error) {
	h := c.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	if h.cold {
		return nil, nil
	}
	var tooLarge error // for every member
	waits := false
	for i, m := range h.groups[group] {
		if m.most > 0 && len(r.Body) > m.most {
			tooLarge = kite.Errorf(kite.TooLarge, "payload of %d bytes, %s takes %d", len(r.Body), m.name, m.most)
			continue
		}
		if m.held >= m.credit {
			waits = true
			continue
		}
		c.hand(m, opaque, r)
		h.groups[group] = append(slices.Delete(h.groups[group], i, i+1), m) // the next one's turn
		return m, nil
	}
	if waits {
		return nil, nil
	}
	return nil, tooLarge
}

// hand sends to the member; the hub is locked.
func (c *courier) hand(m *member, opaque uint32, r *kite.Record) {
	m.held++
	key, _ := keyOf(r.Body, "key")
	c.pending = append(c.pending, delivery{m, opaque, r.Seq, key, string(r.Body), time.Now()})
}

func (c *courier) SendTo(to kite.Member, opaque uint32, r *kite.Record) (bool, error) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	c.hub.asked++
	m := to.(*member)
	switch {
	case m.most > 0 && len(r.Body) > m.most:
		return false, kite.Errorf(kite.TooLarge, "payload of %d bytes, %s takes %d", len(r.Body), m.name, m.most)
	case m.held >= m.credit:
		return false, nil
	}
	c.hand(m, opaque, r)
	return true, nil
}

func (c *courier) Choose(group string, key uint64) kite.Member {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	members := slices.Clone(c.hub.groups[group])
	if len(members) == 0 || c.hub.cold {
		return nil
	}
	slices.SortFunc(members, func(a, b *member) int { return strings.Compare(a.name, b.name) })
	return members[key%uint64(len(members))]
}

func (c *courier) Free(group string) bool {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	return !c.hub.cold && slices.ContainsFunc(c.hub.groups[group], func(m *member) bool { return m.held < m.credit })
}

func (c *courier) Members(group string) (all []kite.Member) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	for _, m := range c.hub.groups[group] {
		all = append(all, m)
	}
	return all
}

func (c *courier) Key(r *kite.Record, property string) (uint64, bool) {
	key, ok := keyOf(r.Body, property)
	h := fnv.New64a()
	_, _ = h.Write([]byte(key))
	return h.Sum64(), ok
}

// keyOf finds " property=value" at the end of a body.
func keyOf(body []byte, property string) (string, bool) {
	_, key, ok := strings.Cut(string(body), " "+property+"=")
	return key, ok
}

func (c *courier) Online(group string) bool {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	return len(c.hub.groups[group]) > 0
}

func (c *courier) Flush() {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	c.hub.sent = append(c.hub.sent, c.pending...)
	c.pending = nil
}

// lane is the fake of the one writer: it keeps what the dispatcher wants recorded, as the real one would.
type lane struct {
	mu        sync.Mutex
	d         *Dispatcher
	err       error     // refuses what is submitted
	verdict   kite.Code // of what is taken
	lost      bool      // takes everything and tells nobody, as in the moment of a crash
	standings map[flowKey]*kite.Standing
	journal   store.Journal // gets the dead letters
	letters   []letter
	heads     map[string]kite.Seq // of the streams of dead letters
	discards  []string
	saves     int
}

type letter struct {
	group string
	kite.DeadLetter
}

func (l *lane) Submit(b *kite.Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.lost:
		return nil
	case l.err != nil:
		return l.err
	}
	for i := range b.Items {
		item := &b.Items[i]
		if item.Verdict = l.verdict; item.Verdict != kite.OK {
			continue
		}
		key := flowKey{item.Topic, string(item.Group)}
		standing := l.standings[key]
		if standing == nil {
			standing = &kite.Standing{}
			l.standings[key] = standing
		}
		switch item.Kind {
		case kite.KindProgress:
			l.saves++
			if uint64(item.Seq) != standing.Turn {
				continue
			}
			if err := standing.Apply(item.Body); err != nil {
				panic("deliver: progress that does not apply: " + err.Error())
			}
		case kite.KindDead:
			d, err := kite.DecodeDeadLetter(slices.Clone(item.Body))
			if err != nil {
				panic("deliver: dead letter that does not decode: " + err.Error())
			}
			l.letters = append(l.letters, letter{string(item.Group), d})
			stream := store.Stream(&item.Record)
			l.heads[stream]++
			item.Seq, item.TimeMs = l.heads[stream], kite.UnixMs(time.Now())
			if err := l.journal.Append([]*kite.Record{&item.Record}); err != nil {
				panic(err)
			}
			standing.Settle(kite.Range{From: d.Seq, To: d.Seq + 1})
			delete(standing.Retries, d.Seq)
		case kite.KindOrder:
			l.obey(standing, item)
		default:
			panic("deliver: submitted a record of kind " + item.Kind.String())
		}
	}
	l.d.Durable([]*kite.Batch{b})
	return nil
}

// set changes how the lane behaves.
func (l *lane) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// standing returns a copy of what was recorded, as recovery hands out.
func (l *lane) standing(topic, group string) *kite.Standing {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.standings[flowKey{topic, group}]
	if s == nil {
		return nil
	}
	copied, err := kite.DecodeStanding(kite.AppendStanding(nil, s))
	if err != nil {
		panic(err)
	}
	return copied
}

// obey does what an order says, as the real lane.
func (l *lane) obey(standing *kite.Standing, item *kite.Item) {
	o, err := kite.DecodeOrder(item.Body)
	if err != nil {
		panic(err)
	}
	switch o.Action {
	case kite.ActionPause, kite.ActionResume:
		standing.Paused = o.Action == kite.ActionPause
	case kite.ActionSeek:
		standing.Seek(item.Seq)
	case kite.ActionDiscard:
		item.Repeat = standing.Letters.Contains(item.Seq)
		standing.Discard(item.Seq)
		l.discards = append(l.discards, fmt.Sprintf("%s %d by %s: %s", item.Group, item.Seq, o.By, o.Reason))
	case kite.ActionRequeue:
		standing.Requeue(item.Seq)
	}
}

// order is an operator's.
func (r *rig) order(action kite.Action, group string, seq kite.Seq) {
	o := kite.Order{Action: action, Note: kite.Note{By: "operator ann"}}
	item := kite.Item{Record: kite.Record{
		Kind: kite.KindOrder, Topic: "trade", Group: []byte(group), Seq: seq, Body: kite.AppendOrder(nil, &o),
	}}
	b := &kite.Batch{Items: []kite.Item{item}}
	if err := r.lane.Submit(b); err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
}

// rig is a running dispatcher in a synctest bubble.
type rig struct {
	t       *testing.T
	options Options
	journal store.Journal
	reader  Reader
	hub     *hub
	lane    *lane
	d       *Dispatcher
	heads   map[string]kite.Seq
	routes  []kite.Route
	stop    func()
}

// run runs the test in virtual time.
func run(t *testing.T, o Options, test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		j, err := memory.New(memory.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if o.Shards == 0 {
			o.Shards = 1
		}
		r := &rig{
			t: t, options: o.WithDefaults(), journal: j, reader: j, heads: map[string]kite.Seq{},
			hub: &hub{groups: map[string][]*member{}}, lane: &lane{standings: map[flowKey]*kite.Standing{}, journal: j, heads: map[string]kite.Seq{}},
		}
		r.start()
		defer func() { r.stop() }()
		test(t, r)
	})
}

func (r *rig) start() {
	r.d = New(r.options, r.reader, r.lane, func() Courier { return &courier{hub: r.hub} }, r.lane.standing, r.heads, slog.New(slog.DiscardHandler))
	r.lane.d = r.d
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error)
	go func() { done <- r.d.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	}
	r.d.Routes(r.routes)
	synctest.Wait()
}

// startReading starts again with another reader.
func (r *rig) startReading(reader Reader) {
	r.stop()
	r.reader = reader
	r.start()
}

// crash ends the dispatcher without what it would still have recorded, and starts another.
func (r *rig) crash() {
	r.lane.set(func() { r.lane.lost = true })
	r.restart()
}

// restart stops the dispatcher and starts another, with nobody connected.
func (r *rig) restart() {
	r.stop()
	r.hub.set(func() { r.hub.groups, r.hub.sent = map[string][]*member{}, nil })
	r.lane.set(func() { r.lane.lost = false })
	r.start()
}

// pass lets the time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (r *rig) route(routes ...kite.Route) {
	r.routes = routes
	r.d.Routes(slices.Clone(routes))
	synctest.Wait()
}

func fanout(topic, group string) kite.Route {
	return kite.Route{Topic: topic, Group: group, Bindings: []kite.Binding{kite.Fanout(group, topic)}}
}

func volatile(r kite.Route) kite.Route {
	for i := range r.Bindings {
		r.Bindings[i].Durable = false
	}
	return r
}

// message is what publish takes beside the body.
type message struct {
	kind   string // messageType
	limit  uint8
	expire time.Duration
	key    string // "": none
}

// publish commits n messages to the topic and tells the dispatcher.
func (r *rig) publish(topic string, n int, m message) {
	r.t.Helper()
	b := &kite.Batch{Items: make([]kite.Item, n)}
	records := make([]*kite.Record, n)
	for i := range b.Items {
		r.heads[topic]++
		seq := r.heads[topic]
		record := kite.Record{
			Kind: kite.KindMessage, Topic: topic, Seq: seq, ID: kite.MessageID{byte(seq >> 8), byte(seq)}, Command: 0x11,
			Limit: max(m.limit, 1), TimeMs: kite.UnixMs(time.Now()), Type: []byte(m.kind), Body: fmt.Appendf(nil, "%s %d", topic, seq),
		}
		if m.key != "" {
			record.Body = fmt.Appendf(record.Body, " key=%s", m.key)
		}
		if m.limit == 0 {
			record.Limit = kite.MaxDeliverLimit
		}
		if m.expire > 0 {
			record.ExpiresMs = kite.UnixMs(time.Now().Add(m.expire))
		}
		b.Items[i].Record = record
		records[i] = &b.Items[i].Record
	}
	if err := r.journal.Append(records); err != nil {
		r.t.Fatal(err)
	}
	r.d.Durable([]*kite.Batch{b})
	synctest.Wait()
}

func (r *rig) join(group, name string, credit int) *member {
	m := &member{hub: r.hub, name: name, credit: credit}
	r.hub.set(func() { r.hub.groups[group] = append(r.hub.groups[group], m) })
	r.d.Joined(group)
	synctest.Wait()
	return m
}

func (r *rig) leave(group string, m *member) {
	r.hub.set(func() {
		r.hub.groups[group] = slices.DeleteFunc(r.hub.groups[group], func(other *member) bool { return other == m })
	})
	r.d.Left(group, m)
	synctest.Wait()
}

// take returns what was sent since the last take.
func (r *rig) take() []delivery {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	sent := r.hub.sent
	r.hub.sent = nil
	return sent
}

func seqs(sent []delivery) (all []kite.Seq) {
	for _, d := range sent {
		all = append(all, d.seq)
	}
	return all
}

// expect takes what was sent and compares its Seqs.
func (r *rig) expect(why string, want ...kite.Seq) []delivery {
	r.t.Helper()
	sent := r.take()
	if !slices.Equal(seqs(sent), want) {
		r.t.Errorf("%s: sent %v, want %v", why, seqs(sent), want)
	}
	return sent
}

func (r *rig) answer(group string, ok bool, feedback string, sent ...delivery) {
	acks := make([]kite.Ack, 0, len(sent))
	for _, d := range sent {
		acks = append(acks, kite.Ack{Member: d.to, Opaque: d.opaque, OK: ok, Feedback: feedback})
	}
	r.d.Acked(group, acks)
	synctest.Wait()
}

func (r *rig) ack(group string, sent ...delivery) { r.answer(group, true, "", sent...) }
func (r *rig) nack(group string, sent ...delivery) {
	r.answer(group, false, "no", sent...)
}

// settled waits for the progress to be recorded and compares the floor.
func (r *rig) settled(group string, floor kite.Seq, ranges ...kite.Range) {
	r.t.Helper()
	pass(r.options.ProgressEvery)
	got := r.lane.standing("trade", group)
	if got == nil {
		r.t.Errorf("nothing recorded for %s, want floor %d", group, floor)
		return
	}
	if got.Floor() != floor || !slices.Equal(got.Ranges(), ranges) {
		r.t.Errorf("recorded for %s: floor %d and %v, want %d and %v", group, got.Floor(), got.Ranges(), floor, ranges)
	}
}

// dead compares the dead letters of all groups so far.
func (r *rig) dead(want ...string) {
	r.t.Helper()
	r.lane.mu.Lock()
	defer r.lane.mu.Unlock()
	var got []string
	for _, l := range r.lane.letters {
		got = append(got, fmt.Sprintf("%s %d after %d: %s", l.group, l.Seq, l.Attempts, l.Reason))
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("dead letters %q, want %q", got, want)
	}
}

// gappy is a reader that has lost messages, or cannot read at all.
type gappy struct {
	Reader
	mu   sync.Mutex
	gone map[kite.Seq]bool
	bad  bool
}

func (g *gappy) lose(seq kite.Seq) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone[seq] = true
}

func (g *gappy) fail(bad bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bad = bad
}

func (g *gappy) Read(stream string, from kite.Seq, visit func(*kite.Record) bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.bad {
		return fmt.Errorf("read %s: the disk is gone", stream)
	}
	return g.Reader.Read(stream, from, func(r *kite.Record) bool { return g.gone[r.Seq] || visit(r) })
}
