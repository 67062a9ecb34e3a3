package deliver

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

func toEach(topic, group string) kite.Route {
	r := fanout(topic, group)
	r.Bindings[0].Broadcast = true
	return r
}

// to returns the Seqs that the member was sent.
func to(m *member, sent []delivery) (all []kite.Seq) {
	for _, d := range sent {
		if d.to == m {
			all = append(all, d.seq)
		}
	}
	return all
}

func (r *rig) expectEach(why string, sent []delivery, m *member, want ...kite.Seq) {
	r.t.Helper()
	if got := to(m, sent); !slices.Equal(got, want) {
		r.t.Errorf("%s: %s was sent %v, want %v", why, m.name, got, want)
	}
}

// TestBroadcast sends each message to everybody who is there, and again only to whom it failed at.
func TestBroadcast(t *testing.T) {
	t.Parallel()
	run(t, Options{AckTimeout: 2 * time.Second}, func(t *testing.T, r *rig) {
		r.route(toEach("trade", "s-a"))
		r.publish("trade", 1, message{})
		r.expect("nobody is there")
		a1 := r.join("s-a", "a1", 10)
		waited := r.expect("what waited", 1)
		a2 := r.join("s-a", "a2", 10)
		r.expect("only what comes after it")
		r.publish("trade", 1, message{})
		sent := r.expect("to both", 2, 2)
		r.ack("s-a", waited...)
		r.settled("s-a", 2)
		r.nack("s-a", sent[1])
		again := r.expect("again to one", 2)
		r.ack("s-a", sent[0])
		r.settled("s-a", 2)
		pass(2 * time.Second)
		late := r.take()
		r.expectEach("a timeout", late, again[0].to, 2)
		r.ack("s-a", again...) // late, and the repeat is out
		r.settled("s-a", 3)
		r.nack("s-a", late...)
		r.expect("settled")
		r.publish("trade", 1, message{})
		sent = r.expect("to both", 3, 3)
		r.leave("s-a", a2)
		if sent[0].to == a2 {
			sent[0], sent[1] = sent[1], sent[0]
		}
		r.ack("s-a", sent[0])
		r.settled("s-a", 4)
		r.publish("trade", 1, message{})
		r.expect("a1 alone", 4)
		r.leave("s-a", a1)
		r.settled("s-a", 4)
		r.join("s-a", "a3", 10)
		r.ack("s-a", r.expect("all left without an ack", 4)...)
		r.settled("s-a", 5)
	})
}

// TestBroadcastJoin gives a member everything that is published after it joined, however late the flow is.
func TestBroadcastJoin(t *testing.T) {
	t.Parallel()
	run(t, Options{Window: 2}, func(t *testing.T, r *rig) {
		r.route(toEach("trade", "s-a"))
		a1 := r.join("s-a", "a1", 1)
		r.publish("trade", 4, message{})
		a2 := r.join("s-a", "a2", 10)
		r.publish("trade", 2, message{})
		var all []delivery
		for sent := r.take(); len(sent) > 0; sent = r.take() {
			all = append(all, sent...)
			r.ack("s-a", sent...)
		}
		r.expectEach("from the first on", all, a1, 1, 2, 3, 4, 5, 6)
		r.expectEach("since it joined", all, a2, 5, 6)
		r.settled("s-a", 7)
	})
}

// TestBroadcastDead counts each member's attempts, and makes one dead letter of a message that failed somewhere.
func TestBroadcastDead(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(toEach("trade", "s-a"))
		a1, a2 := r.join("s-a", "a1", 10), r.join("s-a", "a2", 10)
		a2.most = 7
		r.publish("trade", 1, message{limit: 2})
		r.publish("trade", 9, message{limit: 2, expire: time.Minute})
		sent := r.take()
		r.expectEach("all", sent, a1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
		r.expectEach("the small ones", sent, a2, 1, 2, 3, 4, 5, 6, 7, 8, 9)
		r.lane.set(func() { r.lane.err = kite.Busy })
		for _, d := range sent {
			if d.seq == 1 || d.to == a1 {
				r.nack("s-a", d)
			}
		}
		for _, d := range r.take() {
			if d.seq == 1 {
				r.nack("s-a", d)
			} else {
				r.ack("s-a", d)
			}
		}
		r.lane.set(func() { r.lane.err = nil })
		pass(3 * time.Second)
		r.dead("s-a 10 after 0: failed at 1 of 2 members: payload of 8 bytes, a2 takes 7",
			"s-a 1 after 2: failed at 2 of 2 members: deliver limit 2 reached, last: nack: no")
	})
}

// TestBroadcastSlowMember goes on until the window is full, and again when the slow one has taken its share.
func TestBroadcastSlowMember(t *testing.T) {
	t.Parallel()
	run(t, Options{Window: 3}, func(t *testing.T, r *rig) {
		r.route(toEach("trade", "s-a"))
		quick, slow := r.join("s-a", "quick", 10), r.join("s-a", "slow", 1)
		r.publish("trade", 6, message{})
		sent := r.take()
		r.expectEach("the window", sent, quick, 1, 2, 3)
		r.expectEach("one credit", sent, slow, 1)
		r.ack("s-a", sent...)
		sent = r.take()
		r.expectEach("one settled", sent, quick, 4)
		r.expectEach("the next", sent, slow, 2)
		r.ack("s-a", sent...)
		r.expect("the next, and 2 is settled", 3, 5)
		r.leave("s-a", slow)
		r.expect("nobody is slow any more", 6)
	})
}

// TestBroadcastCopies stops at the bound of copies.
func TestBroadcastCopies(t *testing.T) {
	t.Parallel()
	run(t, Options{Window: 1 << 16, Watermark: 1 << 30}, func(t *testing.T, r *rig) {
		r.route(toEach("trade", "s-a"))
		for _, name := range []string{"a1", "a2", "a3", "a4"} {
			r.join("s-a", name, 0)
		}
		r.publish("trade", copiesMost/4+1, message{})
		f := r.d.shards[0].flows[flowKey{"trade", "s-a"}]
		if f.broadcast.copies != copiesMost || f.cursor != copiesMost/4+1 {
			t.Errorf("%d copies, the cursor at %d", f.broadcast.copies, f.cursor)
		}
	})
}

// TestBroadcastFly sends messages that are not journaled to everybody who can take them, and again to the
// same member while it is there.
func TestBroadcastFly(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(toEach("trade", "s-a"))
		a1, a2 := r.join("s-a", "a1", 1), r.join("s-a", "a2", 2)
		r.fly("one", time.Hour)
		r.fly("two", time.Hour)
		sent := r.take()
		if len(to(a1, sent)) != 1 || len(to(a2, sent)) != 2 || r.dropped() != 1 {
			t.Errorf("a1 got %d, a2 %d, dropped %d", len(to(a1, sent)), len(to(a2, sent)), r.dropped())
		}
		r.nack("s-a", sent[0])
		if again := r.take(); len(again) != 1 || again[0].to != sent[0].to {
			t.Errorf("again %v", again)
		}
		r.leave("s-a", a2)
		if again := r.take(); len(again) != 0 || r.dropped() != 3 {
			t.Errorf("after it left %v, dropped %d", again, r.dropped())
		}
	})
}

// TestBroadcastOffline passes over what comes while nobody of a non-durable group is connected.
func TestBroadcastOffline(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(volatile(toEach("trade", "s-a")))
		r.publish("trade", 1, message{})
		m := r.join("s-a", "a1", 1)
		r.publish("trade", 3, message{})
		r.expect("one credit", 2)
		r.hub.set(func() { r.hub.groups = map[string][]*member{} })
		r.leave("s-a", m)
		r.publish("trade", 1, message{})
		r.join("s-a", "a2", 5)
		r.publish("trade", 1, message{})
		r.ack("s-a", r.expect("since it is there", 6)...)
		if f := r.d.shards[0].flows[flowKey{"trade", "s-a"}]; f.pending != 0 || f.broadcast.copies != 0 {
			t.Errorf("at rest %d pending, %d copies", f.pending, f.broadcast.copies)
		}
	})
}

// TestBroadcastHistory goes through random publishes, answers, silences, joins, losses and crashes. At rest
// each message is settled, and who was there since before it acknowledged it, unless it is dead.
func TestBroadcastHistory(t *testing.T) {
	t.Parallel()
	for range 20 {
		seed := rand.Uint64()
		t.Run("", func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 4))
			o := Options{Window: 1 + random.IntN(12), AckTimeout: 2 * time.Second}
			run(t, o, func(t *testing.T, r *rig) {
				h := &broadcastHistory{rig: r, random: random, got: map[*member]map[kite.Seq]bool{}, since: map[*member]kite.Seq{}}
				h.route(toEach("trade", "s-a"))
				for range 300 {
					h.step()
					h.out = append(h.out, h.take()...)
				}
				h.rest()
			})
		})
	}
}

type broadcastHistory struct {
	*rig
	random  *rand.Rand
	members []*member
	joined  int
	out     []delivery
	got     map[*member]map[kite.Seq]bool // acknowledged
	since   map[*member]kite.Seq
}

func (h *broadcastHistory) step() {
	switch n := h.random.IntN(100); {
	case n < 20:
		h.publish("trade", 1+h.random.IntN(4), message{limit: []uint8{1, 3, 100}[h.random.IntN(3)]})
	case n < 65:
		h.answerSome(h.random.IntN(4) > 0)
	case n < 75:
		h.joined++
		m := h.join("s-a", fmt.Sprintf("m%03d", h.joined), 1+h.random.IntN(3))
		h.members, h.got[m], h.since[m] = append(h.members, m), map[kite.Seq]bool{}, h.heads["trade"]+1
	case n < 82:
		h.leaveSome()
	case n < 97:
		pass(time.Duration(h.random.IntN(3000)) * time.Millisecond)
	case n < 98:
		h.members, h.out = nil, nil
		h.crash()
	default:
		pass(20 * time.Second)
	}
}

func (h *broadcastHistory) answerSome(ok bool) {
	if len(h.out) == 0 {
		return
	}
	i := h.random.IntN(len(h.out))
	d := h.out[i]
	h.out = slices.Delete(h.out, i, i+1)
	if d.seq < h.since[d.to] && len(h.members) > 1 && h.random.IntN(2) == 0 {
		ok = false
	}
	if ok {
		h.got[d.to][d.seq] = true
	}
	h.answer("s-a", ok, "no", d)
}

func (h *broadcastHistory) leaveSome() {
	if len(h.members) > 0 {
		i := h.random.IntN(len(h.members))
		m := h.members[i]
		h.members = slices.Delete(h.members, i, i+1)
		h.out = slices.DeleteFunc(h.out, func(d delivery) bool { return d.to == m })
		h.leave("s-a", m)
	}
}

func (h *broadcastHistory) rest() {
	if len(h.members) == 0 {
		h.members = append(h.members, h.join("s-a", "last", 20))
		h.got[h.members[0]], h.since[h.members[0]] = map[kite.Seq]bool{}, h.heads["trade"]+1
	}
	for range 1500 {
		h.out = append(h.out, h.take()...)
		for _, d := range h.out {
			h.got[d.to][d.seq] = true
			h.ack("s-a", d)
		}
		h.out = nil
		pass(time.Second)
	}
	dead := map[kite.Seq]bool{}
	for _, l := range h.lane.letters {
		dead[l.Seq] = true
	}
	for _, m := range h.members {
		for seq := h.since[m]; seq <= h.heads["trade"]; seq++ {
			if !h.got[m][seq] && !dead[seq] {
				h.t.Errorf("%s was there before %d and never had it", m.name, seq)
			}
		}
	}
	f := h.d.shards[0].flows[flowKey{"trade", "s-a"}]
	if f.pending != 0 || f.broadcast.copies != 0 || len(f.broadcast.rounds) != 0 {
		h.t.Errorf("at rest %d pending, %d copies, %d rounds", f.pending, f.broadcast.copies, len(f.broadcast.rounds))
	}
	if s := h.lane.standing("trade", "s-a"); h.heads["trade"] > 0 && (s == nil || s.Floor() != h.heads["trade"]+1) {
		h.t.Errorf("stands at %+v, the head is %d", s, h.heads["trade"])
	}
}
