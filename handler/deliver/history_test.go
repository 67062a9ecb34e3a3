package deliver

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestHistory goes through random publishes, answers, silences, losses and crashes, and then lets everything
// come to rest: each message that a durable group takes was acknowledged or is dead, with a reason and once;
// nothing was sent that is not wanted, or whose end was recorded before.
func TestHistory(t *testing.T) {
	t.Parallel()
	for range 20 {
		seed := rand.Uint64()
		t.Run("", func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 2))
			o := Options{Shards: 1 + random.IntN(3), Window: 1 + random.IntN(12), AckTimeout: 2 * time.Second}
			run(t, o, func(t *testing.T, r *rig) {
				h := &history{rig: r, random: random, acked: map[place]bool{}, sends: map[place]int{}}
				h.route(h.routesOf(true)...)
				for range 400 {
					h.step()
				}
				h.rest()
				h.verify()
			})
		})
	}
}

type place struct {
	group, topic string
	seq          kite.Seq
}

// history is the model: what was published and how each delivery was answered.
type history struct {
	*rig
	random   *rand.Rand
	messages []kite.Record
	members  []*member
	out      []delivery // what may be answered
	acked    map[place]bool
	sends    map[place]int
	lives    int // crashes and stops
	busy     bool
}

func (h *history) routesOf(all bool) []kite.Route {
	routes := []kite.Route{
		fanout("trade", "s-a"), fanout("fee", "s-a"), volatile(fanout("trade", "s-v")),
		{Topic: "trade", Group: "s-b", Bindings: []kite.Binding{kite.Direct("s-b", "trade", "pay")}},
		{Topic: "trade", Group: "s-c", Bindings: []kite.Binding{kite.Regx("s-c", "trade", "^re"), kite.Direct("s-c", "trade", "pay")}},
	}
	if !all {
		return routes[1:]
	}
	return routes
}

func wants(group, kind string) bool {
	switch group {
	case "s-b":
		return kind == "pay"
	case "s-c":
		return kind == "pay" || kind == "refund"
	}
	return true
}

func (h *history) pick() (delivery, bool) {
	if len(h.out) == 0 {
		return delivery{}, false
	}
	i := h.random.IntN(len(h.out))
	d := h.out[i]
	h.out = slices.Delete(h.out, i, i+1)
	return d, true
}

func (h *history) groupOf(m *member) string { return m.name } // members are named after their group

func (h *history) step() {
	before := h.recorded()
	switch n := h.random.IntN(100); {
	case n < 25:
		h.publishSome()
	case n < 60:
		if d, ok := h.pick(); ok {
			h.acked[h.place(d)] = true
			h.ack(h.groupOf(d.to), d)
		}
	case n < 70:
		if d, ok := h.pick(); ok {
			h.nack(h.groupOf(d.to), d)
		}
	case n < 78:
		h.joinSome(1 + h.random.IntN(4))
	case n < 84:
		h.leaveSome()
	case n < 94:
		pass(time.Duration(h.random.IntN(4000)) * time.Millisecond)
	case n < 95:
		h.begin((*rig).crash)
	case n < 96:
		h.begin((*rig).restart)
	case n < 98:
		h.busy = !h.busy
		h.lane.set(func() {
			if h.lane.err = nil; h.busy {
				h.lane.err = kite.Busy
			}
		})
	default:
		h.route(h.routesOf(h.random.IntN(2) == 0)...)
	}
	h.watch(before)
}

func (h *history) publishSome() {
	topic := []string{"trade", "trade", "fee"}[h.random.IntN(3)]
	m := message{kind: []string{"pay", "refund", "other"}[h.random.IntN(3)], limit: []uint8{1, 2, 3, 5, 100}[h.random.IntN(5)]}
	if h.random.IntN(4) == 0 {
		m.expire = time.Duration(1+h.random.IntN(60)) * time.Second
	}
	n := 1 + h.random.IntN(5)
	for i := range n {
		h.messages = append(h.messages, kite.Record{Topic: topic, Seq: h.heads[topic] + kite.Seq(i) + 1, Type: []byte(m.kind), Limit: m.limit})
	}
	h.publish(topic, n, m)
}

func (h *history) joinSome(credit int) {
	group := []string{"s-a", "s-b", "s-c", "s-v"}[h.random.IntN(4)]
	h.members = append(h.members, h.join(group, group, credit))
}

func (h *history) leaveSome() {
	if len(h.members) == 0 {
		return
	}
	i := h.random.IntN(len(h.members))
	m := h.members[i]
	h.members = slices.Delete(h.members, i, i+1)
	h.out = slices.DeleteFunc(h.out, func(d delivery) bool { return d.to == m })
	h.leave(h.groupOf(m), m)
}

// begin starts another life; what was sent in this one cannot be answered in that.
func (h *history) begin(restart func(*rig)) {
	h.lives++
	h.out, h.members = nil, nil
	restart(h.rig)
}

func (h *history) place(d delivery) place {
	topic := "trade"
	if d.body[0] == 'f' {
		topic = "fee"
	}
	return place{h.groupOf(d.to), topic, d.seq}
}

// recorded is what the durable groups have settled for good.
func (h *history) recorded() map[flowKey]*kite.Standing {
	all := map[flowKey]*kite.Standing{}
	for _, r := range h.routesOf(true) {
		if s := h.lane.standing(r.Topic, r.Group); s != nil && r.Durable() {
			all[flowKey{r.Topic, r.Group}] = s
		}
	}
	return all
}

// watch checks what the last step sent.
func (h *history) watch(before map[flowKey]*kite.Standing) {
	h.t.Helper()
	sent := h.take()
	for _, d := range sent {
		p := h.place(d)
		i := slices.IndexFunc(h.messages, func(m kite.Record) bool { return m.Topic == p.topic && m.Seq == p.seq })
		if i < 0 || !wants(p.group, string(h.messages[i].Type)) {
			h.t.Errorf("%+v was sent and is not wanted", p)
		}
		if s := before[flowKey{p.topic, p.group}]; s != nil && s.Contains(p.seq) {
			h.t.Errorf("%+v was sent after its end was recorded", p)
		}
		if h.sends[p]++; h.sends[p] > int(h.messages[i].Limit)*(h.lives+1) {
			h.t.Errorf("%+v was sent %d times in %d lives, its limit is %d", p, h.sends[p], h.lives+1, h.messages[i].Limit)
		}
	}
	h.out = append(h.out, sent...)
}

// rest lets everything come to its end: fresh members that acknowledge whatever they get.
func (h *history) rest() {
	watched := func(do func()) {
		before := h.recorded()
		do()
		h.watch(before)
	}
	h.lane.set(func() { h.lane.err = nil })
	watched(func() { h.route(h.routesOf(true)...) })
	for len(h.members) > 0 {
		watched(h.leaveSome)
	}
	for _, group := range []string{"s-a", "s-b", "s-c", "s-v"} {
		watched(func() { h.members = append(h.members, h.join(group, group, 50)) })
	}
	for range 600 {
		watched(func() {
			for d, ok := h.pick(); ok; d, ok = h.pick() {
				h.acked[h.place(d)] = true
				h.ack(h.groupOf(d.to), d)
			}
			pass(time.Second)
		})
	}
}

func (h *history) verify() {
	h.t.Helper()
	for _, m := range h.members {
		if n := m.holds(); n != 0 {
			h.t.Errorf("a member of %s holds %d credits at rest", m.name, n)
		}
	}
	dead := map[place]int{}
	for _, l := range h.lane.letters {
		topic := "trade"
		if l.Payload[0] == 'f' {
			topic = "fee"
		}
		p := place{l.group, topic, l.Seq}
		if dead[p]++; dead[p] > 1 || l.Reason == "" {
			h.t.Errorf("%+v has %d dead letters, reason %q", p, dead[p], l.Reason)
		}
	}
	for _, route := range h.routesOf(true) {
		if !route.Durable() {
			continue
		}
		for _, m := range h.messages {
			p := place{route.Group, route.Topic, m.Seq}
			if m.Topic == route.Topic && wants(route.Group, string(m.Type)) && !h.acked[p] && dead[p] == 0 {
				h.t.Errorf("%+v was lost: neither acknowledged nor dead", p)
			}
		}
		if s := h.lane.standing(route.Topic, route.Group); h.heads[route.Topic] > 0 && (s == nil || s.Floor() != h.heads[route.Topic]+1 || len(s.Retries) > 0) {
			h.t.Errorf("%s of %s stands at %+v, the head is %d", route.Topic, route.Group, s, h.heads[route.Topic])
		}
	}
}
