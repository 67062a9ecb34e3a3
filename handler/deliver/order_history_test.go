package deliver

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestOrderHistory goes through random publishes, acks, nacks, silences, late acks, joins, losses, busy
// lanes, stops and crashes. Whenever a message is sent, each earlier one of its key was acknowledged or is
// dead and none is with a member, and it goes to the member that had the key before, if that one is there.
// At rest all are settled.
func TestOrderHistory(t *testing.T) {
	t.Parallel()
	for range 20 {
		seed := rand.Uint64()
		t.Run("", func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 3))
			o := Options{Window: 1 + random.IntN(12), AckTimeout: 2 * time.Second}
			run(t, o, func(t *testing.T, r *rig) {
				h := &orderHistory{rig: r, random: random, group: "s-a", ended: map[kite.Seq]bool{}, of: map[string]*member{}}
				route := ordered("trade", "s-a")
				if h.topic = random.IntN(4) == 0; h.topic {
					route = byTopic("trade", "s-a")
				}
				h.route(route)
				for range 400 {
					h.step()
					h.watch()
				}
				h.rest()
			})
		})
	}
}

// orderHistory is the model: who had which message, and what became of it.
type orderHistory struct {
	*rig
	random  *rand.Rand
	group   string
	topic   bool // one key for all
	keys    []string
	members []*member
	joined  int
	out     []delivery // unanswered, the late ones too
	ended   map[kite.Seq]bool
	of      map[string]*member
	busy    bool
}

func (h *orderHistory) step() {
	switch n := h.random.IntN(100); {
	case n < 25:
		for range 1 + h.random.IntN(5) {
			key := string(rune('a' + h.random.IntN(5)))
			h.keys = append(h.keys, key)
			h.publish("trade", 1, message{key: key, limit: []uint8{1, 2, 5, 100}[h.random.IntN(4)]})
		}
	case n < 55:
		h.answerSome(true)
	case n < 67:
		h.answerSome(false)
	case n < 75:
		h.joined++
		h.members = append(h.members, h.join(h.group, fmt.Sprintf("m%03d", h.joined), 1+h.random.IntN(3)))
	case n < 80:
		h.leaveSome()
	case n < 93:
		pass(time.Duration(h.random.IntN(3000)) * time.Millisecond)
	case n < 94:
		h.begin((*rig).crash)
	case n < 95:
		h.begin((*rig).restart)
	case n < 97:
		h.busy = !h.busy
		h.lane.set(func() {
			if h.lane.err = nil; h.busy {
				h.lane.err = kite.Busy
			}
		})
	default:
		pass(20 * time.Second)
	}
}

func (h *orderHistory) answerSome(ok bool) {
	if len(h.out) == 0 {
		return
	}
	i := h.random.IntN(len(h.out))
	d := h.out[i]
	h.out = slices.Delete(h.out, i, i+1)
	if ok {
		h.ended[d.seq] = true
	}
	h.answer(h.group, ok, "no", d)
}

func (h *orderHistory) leaveSome() {
	if len(h.members) == 0 {
		return
	}
	i := h.random.IntN(len(h.members))
	m := h.members[i]
	h.members = slices.Delete(h.members, i, i+1)
	h.out = slices.DeleteFunc(h.out, func(d delivery) bool { return d.to == m })
	h.leave(h.group, m)
}

func (h *orderHistory) begin(restart func(*rig)) {
	h.out, h.members = nil, nil
	clear(h.of)
	restart(h.rig)
}

func (h *orderHistory) key(seq kite.Seq) string {
	if h.topic {
		return ""
	}
	return h.keys[seq-1]
}

// watch checks what was sent since the last step.
func (h *orderHistory) watch() {
	h.t.Helper()
	h.lane.set(func() {
		for _, l := range h.lane.letters {
			h.ended[l.Seq] = true
		}
	})
	for _, d := range h.take() {
		key := h.key(d.seq)
		for seq := range d.seq {
			if seq > 0 && h.key(seq) == key && !h.ended[seq] {
				h.t.Errorf("%d overtook %d of key %q", d.seq, seq, key)
			}
		}
		for _, other := range h.out {
			if h.key(other.seq) == key && other.seq != d.seq && d.at.Sub(other.at) < h.options.AckTimeout {
				h.t.Errorf("%d was sent while %d of key %q was with %s", d.seq, other.seq, key, other.to.name)
			}
		}
		if m := h.of[key]; m != nil && m != d.to && slices.Contains(h.members, m) {
			h.t.Errorf("%d of key %q went to %s, and %s is there", d.seq, key, d.to.name, m.name)
		}
		h.of[key] = d.to
		h.out = append(h.out, d)
	}
}

// rest lets everything come to its end.
func (h *orderHistory) rest() {
	h.lane.set(func() { h.lane.err = nil })
	for len(h.members) > 0 {
		h.leaveSome()
		h.watch()
	}
	h.members = append(h.members, h.join(h.group, "last", 50))
	h.watch()
	for range 400 {
		for len(h.out) > 0 {
			h.answerSome(true)
		}
		pass(time.Second)
		h.watch()
	}
	f := h.d.shards[0].flows[flowKey{"trade", h.group}]
	if f.pending != 0 || f.order.held != 0 || len(f.order.armed) != 0 || f.order.busy != 0 {
		h.t.Errorf("at rest %d pending, %d held, %d armed, %d keys busy", f.pending, f.order.held, len(f.order.armed), f.order.busy)
	}
	if s := h.lane.standing("trade", h.group); h.heads["trade"] > 0 && (s == nil || s.Floor() != h.heads["trade"]+1) {
		h.t.Errorf("stands at %+v, the head is %d", s, h.heads["trade"])
	}
}
