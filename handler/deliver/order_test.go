package deliver

import (
	"fmt"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// ordered is a group that wants the order of the property "key".
func ordered(topic, group string) kite.Route {
	r := fanout(topic, group)
	r.Bindings[0].Order, r.Bindings[0].OrderKey = kite.OrderByKey, "key"
	return r
}

func byTopic(topic, group string) kite.Route {
	r := fanout(topic, group)
	r.Bindings[0].Order = kite.OrderByTopic
	return r
}

// keyed publishes a message for each letter, which is its key.
func (r *rig) keyed(keys string) {
	r.t.Helper()
	for _, key := range keys {
		r.publish("trade", 1, message{key: string(key)})
	}
}

// TestOrderByKey sends one message of a key at a time, in order, whatever becomes of it.
func TestOrderByKey(t *testing.T) {
	t.Parallel()
	run(t, Options{AckTimeout: 2 * time.Second}, func(t *testing.T, r *rig) {
		r.route(ordered("trade", "s-a"))
		a1 := r.join("s-a", "a1", 10)
		r.keyed("abaab")
		sent := r.expect("the first of each key", 1, 2)
		r.ack("s-a", sent[0])
		third := r.expect("acknowledged: the next of a", 3)
		r.nack("s-a", third...)
		r.expect("a nack keeps the turn", 3)
		pass(2 * time.Second)
		r.expect("so does a timeout", 2, 3)
		r.leave("s-a", a1)
		r.join("s-a", "a2", 10)
		lost := r.take()
		if len(lost) != 2 {
			t.Fatalf("after the loss %v", seqs(lost))
		}
		for _, d := range lost {
			r.ack("s-a", d)
		}
		last := r.take()
		if len(last) != 2 {
			t.Fatalf("at the end %v, want 4 and 5", seqs(last))
		}
		r.ack("s-a", last...)
		r.settled("s-a", 6)
	})
}

// TestOrderByTopic sends one message at a time.
func TestOrderByTopic(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(byTopic("trade", "s-a"))
		r.join("s-a", "a1", 10)
		r.join("s-a", "a2", 10)
		r.publish("trade", 3, message{})
		for seq := range kite.Seq(3) {
			r.ack("s-a", r.expect("one after the other", seq+1)...)
		}
		r.settled("s-a", 4)
	})
}

// TestOrderLateAck holds the next message until no repeat of the acknowledged one is out.
func TestOrderLateAck(t *testing.T) {
	t.Parallel()
	run(t, Options{AckTimeout: 2 * time.Second}, func(t *testing.T, r *rig) {
		r.route(ordered("trade", "s-a"))
		r.join("s-a", "a1", 10)
		r.keyed("aaa")
		first := r.expect("the first", 1)
		pass(2 * time.Second)
		repeat := r.expect("its repeat", 1)
		r.ack("s-a", first...)
		r.expect("settled by a late answer, and the repeat is out")
		if at, ok := r.d.shards[0].flows[flowKey{"trade", "s-a"}].heldBehind(3); at != 1 || !ok {
			t.Errorf("3 is held behind %d, %v; want 1", at, ok)
		}
		r.nack("s-a", repeat...)
		second := r.expect("the repeat came back", 2)
		for range 4 {
			r.nack("s-a", second...)
			second = r.take()
		}
		if len(second) != 0 {
			t.Fatalf("after four attempts %v at once", seqs(second))
		}
		pass(5 * time.Second)
		late := r.expect("the fifth", 2)
		pass(2 * time.Second)
		r.expect("waits for its sixth")
		r.ack("s-a", late...)
		r.ack("s-a", r.expect("a late ack while nobody has it", 3)...)
		pass(10 * time.Second)
		r.settled("s-a", 4)
	})
}

// TestOrderDead goes on when the dead letter is recorded, and not before.
func TestOrderDead(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(ordered("trade", "s-a"))
		r.join("s-a", "a1", 10)
		r.publish("trade", 1, message{key: "a", limit: 1})
		r.keyed("a")
		r.publish("trade", 1, message{key: "a", expire: time.Second})
		r.keyed("a")
		r.lane.set(func() { r.lane.err = kite.Busy })
		r.nack("s-a", r.expect("the first", 1)...)
		r.expect("its letter is not recorded")
		r.lane.set(func() { r.lane.err = nil })
		pass(3 * time.Second)
		r.ack("s-a", r.expect("now it is", 2)...)
		r.ack("s-a", r.expect("the third expired", 4)...)
		r.dead("s-a 1 after 1: deliver limit 1 reached, last: nack: no", "s-a 3 after 0: expired")
		r.settled("s-a", 5)
	})
}

// TestOrderKeyMissing makes dead letters of messages without the property, and of nothing else.
func TestOrderKeyMissing(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(ordered("trade", "s-a"), fanout("trade", "s-b"))
		r.join("s-a", "a1", 10)
		r.lane.set(func() { r.lane.verdict = kite.Busy }) // taken, and then refused
		r.publish("trade", 1, message{})
		r.keyed("a")
		r.ack("s-a", r.expect("the other", 2)...)
		r.lane.set(func() { r.lane.verdict = kite.OK })
		pass(3 * time.Second)
		r.expect("nothing more")
		r.dead("s-a 1 after 0: order key missing: property key, by which group s-a is ordered")
		r.settled("s-a", 3)
	})
}

// TestOrderSticks keeps a key's member, others joining, through idleness, and waits for its credit while
// other keys go on. Only when it leaves is there another.
func TestOrderSticks(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(ordered("trade", "s-a"))
		a1 := r.join("s-a", "a1", 3)
		r.keyed("abc")
		held := r.expect("one member", 1, 2, 3)
		a2 := r.join("s-a", "a2", 10)
		r.keyed("abcdefgh")
		others := r.take()
		for _, d := range others {
			if d.to != a2 || d.key < "d" {
				t.Errorf("%d of key %s went to %s", d.seq, d.key, d.to.name)
			}
		}
		r.ack("s-a", held...)
		again := r.take()
		if len(others)+len(again) < 6 {
			t.Errorf("sent %v and %v", seqs(others), seqs(again))
		}
		stuck := map[string]bool{}
		for _, d := range again {
			if d.key <= "c" && d.to != a1 {
				t.Errorf("%d of key %s went to %s while a1 was there", d.seq, d.key, d.to.name)
			}
			stuck[d.key] = true
		}
		r.ack("s-a", again...)
		for rest := r.take(); len(rest) > 0; rest = r.take() {
			r.ack("s-a", rest...)
		}
		r.ack("s-a", others...)
		r.keyed("a")
		if d := r.expect("after a pause", 12); d[0].to != a1 {
			t.Errorf("key a went to %s after it was idle", d[0].to.name)
		}
		r.leave("s-a", a1)
		if d := r.expect("its member left", 12); d[0].to != a2 {
			t.Errorf("key a went to %s, who left", d[0].to.name)
		}
	})
}

// TestOrderStuckKey goes on with other keys while one is stuck, until the bound of what is held.
func TestOrderStuckKey(t *testing.T) {
	t.Parallel()
	run(t, Options{Window: 2}, func(t *testing.T, r *rig) {
		r.route(ordered("trade", "s-a"))
		r.join("s-a", "a1", 2)
		r.keyed("a")
		stuck := r.expect("never answered", 1)
		r.publish("trade", heldMost-1, message{key: "a"})
		r.keyed("b")
		r.ack("s-a", r.expect("another key", heldMost+1)...)
		r.keyed("ab")
		f := r.d.shards[0].flows[flowKey{"trade", "s-a"}]
		r.expect("the bound is reached")
		if f.order.held != heldMost || f.cursor != heldMost+3 {
			t.Errorf("%d held, the cursor at %d", f.order.held, f.cursor)
		}
		r.ack("s-a", stuck...)
		r.expect("a place is free", 2, heldMost+3)
	})
}

// TestOrderForgetsIdle remembers the members of a bounded number of idle keys.
func TestOrderForgetsIdle(t *testing.T) {
	t.Parallel()
	o := newOrder(mode{order: kite.OrderByKey})
	for key := range uint64(idleMost + 10) {
		for _, key := range []uint64{key, 0} { // key 0 is used again and again
			t := o.turn(key)
			t.seq = 1
			o.busy++
			o.rest(t)
		}
	}
	if len(o.keys) != idleMost || o.ring.len() != idleMost || o.busy != 0 {
		t.Errorf("%d keys, %d in the ring, %d busy; want %d", len(o.keys), o.ring.len(), o.busy, idleMost)
	}
	if o.keys[0] == nil || o.keys[1] != nil || o.keys[idleMost] == nil {
		t.Error("not the longest idle were forgotten")
	}
}

// TestOrderRestart goes on in order after a crash, with what was tried before and with what was settled.
func TestOrderRestart(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(ordered("trade", "s-a"))
		r.join("s-a", "a1", 10)
		r.keyed("abab")
		sent := r.expect("the first of each", 1, 2)
		r.ack("s-a", sent[1])
		r.expect("the next of b", 4)
		for range 4 { // from the fourth on it waits 5 s
			r.nack("s-a", sent[0])
			if again := r.take(); len(again) > 0 {
				sent[0] = again[0]
			}
		}
		pass(time.Second)
		r.crash()
		r.join("s-a", "a1", 10)
		r.expect("4 again, and not 3", 4)
		pass(5 * time.Second)
		first := r.take()
		if len(first) == 0 || first[0].seq != 1 {
			t.Fatalf("sent %v, want 1", seqs(first))
		}
		r.ack("s-a", first...)
		r.ack("s-a", r.expect("after it", 3)...)
	})
}

// TestOrderChanges finishes what is under way before a new order counts.
func TestOrderChanges(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 10)
		r.keyed("aab")
		plain := r.expect("none waits", 1, 2, 3)
		r.route(ordered("trade", "s-a"))
		r.keyed("aab")
		r.expect("the old ones are out")
		r.ack("s-a", plain...)
		byKey := r.expect("by key", 4, 6)
		r.route(fanout("trade", "s-a"))
		r.ack("s-a", byKey[1])
		r.expect("one is out")
		r.ack("s-a", byKey[0])
		r.ack("s-a", r.expect("what was held", 5)...)
		r.settled("s-a", 7)
	})
}

// TestOrderOffline drops what a non-durable group held when it went away.
func TestOrderOffline(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(volatile(ordered("trade", "s-a")))
		m := r.join("s-a", "a1", 1)
		r.join("s-a", "a2", 0)
		r.keyed("aab")
		r.expect("one credit", 1)
		r.hub.set(func() { r.hub.groups = map[string][]*member{} })
		r.leave("s-a", m)
		r.keyed("a")
		r.join("s-a", "a3", 5)
		r.keyed("ab")
		r.ack("s-a", r.expect("what came since", 5, 6)...)
		f := r.d.shards[0].flows[flowKey{"trade", "s-a"}]
		if f.pending != 0 || f.order.held != 0 {
			t.Errorf("at rest %d are pending, %d held", f.pending, f.order.held)
		}
	})
}

// TestOrderReadFails tries again, and takes what was trimmed for settled.
func TestOrderReadFails(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		g := &gappy{Reader: r.journal, gone: map[kite.Seq]bool{}}
		r.startReading(g)
		r.route(ordered("trade", "s-a"))
		r.join("s-a", "a1", 5)
		r.keyed("aaa")
		first := r.expect("the first", 1)
		g.lose(2)
		g.fail(true)
		r.ack("s-a", first...)
		r.expect("nothing can be read")
		g.fail(false)
		pass(readAgain * time.Millisecond)
		r.ack("s-a", r.expect("2 is gone", 3)...)
		r.settled("s-a", 4)
	})
}

// TestOrderStalled shares a member's credit among the flows that wait for it, though others have credit.
func TestOrderStalled(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		topics := []string{"trade", "fee", "gain"}
		for _, topic := range topics {
			r.routes = append(r.routes, byTopic(topic, "s-a"))
		}
		r.route(r.routes...)
		a1 := r.join("s-a", "a1", 3)
		for _, topic := range topics {
			r.publish(topic, 4, message{})
		}
		first := r.expect("one of each", 1, 1, 1)
		r.hub.set(func() { a1.credit = 1 })
		r.join("s-a", "a2", 10)
		seen := map[string]int{}
		for out := first; len(out) > 0; out = append(out, r.take()...) {
			seen[out[0].body]++
			r.ack("s-a", out[0])
			out = out[1:]
		}
		if len(seen) != 12 || len(r.take()) != 0 {
			t.Errorf("delivered %v", seen)
		}
		if g := r.d.shards[0].groups["s-a"]; len(g.stalled) != 0 {
			t.Errorf("%d members are waited for at rest", len(g.stalled))
		}
	})
}

// TestOrderTooLarge sends what a key's member cannot take to another one, and the rest to it as before.
func TestOrderTooLarge(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(ordered("trade", "s-a"))
		small := r.join("s-a", "a1", 5)
		r.keyed("a")
		r.ack("s-a", r.expect("to the only one", 1)...)
		large := r.join("s-a", "a2", 5)
		r.hub.set(func() { small.most = 5 })
		r.keyed("aa")
		sent := r.expect("a1 does not take it", 2)
		if sent[0].to != large {
			t.Errorf("sent to %s", sent[0].to.name)
		}
		r.hub.set(func() { small.most = 0 })
		r.ack("s-a", sent...)
		if sent = r.expect("a1 takes this one", 3); sent[0].to != small {
			t.Errorf("sent to %s", sent[0].to.name)
		}
		r.hub.set(func() { small.most, large.most = 5, 5 })
		r.keyed("b")
		r.dead(fmt.Sprintf("s-a 4 after 0: payload of %d bytes, a2 takes 5", len("trade 4 key=b")))
	})
}
