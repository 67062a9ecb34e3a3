package deliver

import (
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestFirst begins a new group at the first message that was stored when it was bound, or a little before.
func TestFirst(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		since time.Duration // after the first message; one comes every 10s
		want  []kite.Seq
	}{
		{"before everything", -time.Hour, []kite.Seq{1, 2, 3, 4}},
		{"with the first", 0, []kite.Seq{1, 2, 3, 4}},
		{"in between", 15 * time.Second, []kite.Seq{3, 4}},
		{"with a message", 20 * time.Second, []kite.Seq{3, 4}},
		{"within the skew of a message", 22 * time.Second, []kite.Seq{3, 4}},
		{"after the skew of a message", 22*time.Second + time.Millisecond, []kite.Seq{4}},
		{"after everything", time.Hour, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			run(t, Options{BindSkew: 2 * time.Second}, func(t *testing.T, r *rig) {
				first := time.Now()
				for range 4 {
					r.publish("trade", 1, message{})
					pass(10 * time.Second)
				}
				r.join("s-a", "a1", 10)
				route := fanout("trade", "s-a")
				route.SinceMs = kite.UnixMs(first.Add(c.since))
				r.route(route)
				r.expect("old ones", c.want...)
				r.publish("trade", 1, message{})
				r.expect("the next", 5)
			})
		})
	}
}

// TestVolatile passes over what came while nobody of a non-durable group was connected.
func TestVolatile(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.publish("trade", 2, message{})
		r.route(volatile(fanout("trade", "s-v")))
		r.publish("trade", 2, message{})
		m := r.join("s-v", "v1", 2)
		r.expect("nothing from before")
		r.publish("trade", 3, message{})
		r.expect("while connected", 5, 6)
		r.leave("s-v", m) // blocked: its credit was used up
		r.publish("trade", 2, message{})
		r.join("s-v", "v2", 9)
		r.expect("nothing from while it was away")
		r.publish("trade", 1, message{})
		r.expect("connected again", 10)
		pass(time.Second)
		if got := r.lane.standing("trade", "s-v"); got != nil {
			t.Errorf("progress of a non-durable group is recorded: %+v", got)
		}
	})
}

// TestMatching sends a group what one of its bindings takes, once, and settles the rest.
func TestMatching(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		bindings []kite.Binding
		want     []kite.Seq
	}{
		{"direct", []kite.Binding{kite.Direct("s-a", "trade", "pay-card")}, []kite.Seq{1, 4}},
		{"regx is not anchored", []kite.Binding{kite.Regx("s-a", "trade", "pay")}, []kite.Seq{1, 2, 4}},
		{"fanout", []kite.Binding{kite.Fanout("s-a", "trade")}, []kite.Seq{1, 2, 3, 4}},
		{"several bindings, one delivery", []kite.Binding{kite.Direct("s-a", "trade", "pay-card"), kite.Regx("s-a", "trade", "^pay")}, []kite.Seq{1, 2, 4}},
		{"a bad binding stops nobody", []kite.Binding{{Group: "s-a", Topic: "trade", MessageType: "(", Type: kite.BindRegx, Durable: true}, kite.Direct("s-a", "trade", "refund")}, []kite.Seq{3}},
		{"nothing matches", []kite.Binding{kite.Direct("s-a", "trade", "pay")}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			run(t, Options{}, func(t *testing.T, r *rig) {
				r.route(kite.Route{Topic: "trade", Group: "s-a", Bindings: c.bindings})
				r.join("s-a", "a1", 10)
				for _, kind := range []string{"pay-card", "pay-cash", "refund", "pay-card"} {
					r.publish("trade", 1, message{kind: kind})
				}
				r.publish("fee", 1, message{kind: "pay-card"})
				sent := r.expect("matched", c.want...)
				r.ack("s-a", sent...)
				r.settled("s-a", 5)
			})
		})
	}
}

// TestGroups sends every group its own copy and shares a group's among its members.
func TestGroups(t *testing.T) {
	t.Parallel()
	run(t, Options{Shards: 4}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"), fanout("trade", "s-b"), fanout("fee", "s-b"))
		a1, a2, b1 := r.join("s-a", "a1", 10), r.join("s-a", "a2", 10), r.join("s-b", "b1", 10)
		r.publish("trade", 4, message{})
		r.publish("fee", 1, message{})
		got := map[*member]int{}
		for _, d := range r.take() {
			got[d.to]++
		}
		if got[a1] != 2 || got[a2] != 2 || got[b1] != 5 {
			t.Errorf("a1 %d, a2 %d, b1 %d deliveries; want 2, 2, 5", got[a1], got[a2], got[b1])
		}
	})
}

// TestProgress records the floor in order of the messages, not of the answers, and never what is open.
func TestProgress(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 10)
		r.publish("trade", 6, message{})
		sent := r.expect("in order", 1, 2, 3, 4, 5, 6)
		r.settled("s-a", 1)
		r.ack("s-a", sent[1], sent[2], sent[4])
		r.settled("s-a", 1, kite.Range{From: 2, To: 4}, kite.Range{From: 5, To: 6})
		r.ack("s-a", sent[0])
		r.settled("s-a", 4, kite.Range{From: 5, To: 6})
		saves := 0
		r.lane.set(func() { saves = r.lane.saves })
		pass(time.Hour)
		r.ack("s-a", sent[3], sent[5])
		r.settled("s-a", 7)
		r.lane.set(func() { saves = r.lane.saves - saves })
		if saves > 200 { // the re-arming of an hour without answers, and one
			t.Errorf("%d records of progress", saves)
		}
	})
}

// TestWindow holds at most Window messages that are not settled.
func TestWindow(t *testing.T) {
	t.Parallel()
	run(t, Options{Window: 3}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 100)
		r.publish("trade", 10, message{})
		sent := r.expect("a window", 1, 2, 3)
		r.ack("s-a", sent[1])
		r.expect("one settled, one more", 4)
		r.nack("s-a", sent[0]) // is sent again, and makes no room
		r.expect("the same again", 1)
		r.ack("s-a", sent[2])
		r.expect("one settled, one more", 5)
	})
}

// TestCredit gives a member no more than it takes, and waits without a member.
func TestCredit(t *testing.T) {
	t.Parallel()
	run(t, Options{AckTimeout: time.Minute}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"), fanout("fee", "s-a"))
		r.publish("trade", 3, message{})
		r.publish("fee", 1, message{})
		pass(time.Hour)
		r.expect("nobody is there")
		a1 := r.join("s-a", "a1", 2)
		sent := r.take()
		if len(sent) != 2 {
			t.Fatalf("%d deliveries, want 2 as the credit says", len(sent))
		}
		r.ack("s-a", sent[0])
		more := r.take()
		if len(more) != 1 {
			t.Fatalf("%d deliveries after one answer, want 1", len(more))
		}
		r.join("s-a", "a2", 5)
		rest := r.take()
		if len(rest) != 1 || rest[0].to.name != "a2" {
			t.Fatalf("a new member does not take over the rest: %v", rest)
		}
		pass(2 * time.Minute) // no answer: what a1 holds it may still be working on
		if a1.holds() != 2 {
			t.Errorf("a1 holds %d, want 2: a timeout gives no credit back", a1.holds())
		}
	})
}

// TestProbe tries again by itself while the group's members are there but none is chosen.
func TestProbe(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.hub.set(func() { r.hub.cold = true })
		m := r.join("s-a", "a1", 1)
		r.publish("trade", 1, message{})
		r.expect("warming up")
		pass(time.Second)
		r.hub.set(func() { r.hub.cold = false })
		pass(150 * time.Millisecond)
		r.expect("warm", 1)
		r.leave("s-a", m)
		r.hub.sends()
		pass(10 * time.Minute) // offline: only the sweep asks
		if n := r.hub.sends(); n > 20 {
			t.Errorf("an offline group is asked for %d times in 10 minutes", n)
		}
	})
}

// TestRate holds a group to its watermark, and uses up no attempt by that.
func TestRate(t *testing.T) {
	t.Parallel()
	run(t, Options{BreakerAfter: -1}, func(t *testing.T, r *rig) {
		route := fanout("trade", "s-a")
		route.Bindings[0].Watermark = 10
		r.route(route)
		r.join("s-a", "a1", 1000)
		begin := time.Now()
		r.publish("trade", 100, message{limit: 1})
		if first := r.take(); len(first) != 5 {
			t.Errorf("%d at once, want half a second's worth", len(first))
		}
		pass(time.Second)
		if n := len(r.take()); n < 9 || n > 11 {
			t.Errorf("%d in a second, want about 10", n)
		}
		for sent := 15; sent < 100; sent += len(r.take()) {
			pass(100 * time.Millisecond)
		}
		if took := time.Since(begin); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("100 messages took %v, want 9.5s", took)
		}
		r.lane.mu.Lock()
		defer r.lane.mu.Unlock()
		for _, l := range r.lane.letters { // unanswered ones die; nobody dies of waiting
			if l.Attempts != 1 {
				t.Errorf("seq %d died after %d attempts", l.Seq, l.Attempts)
			}
		}
	})
}

// TestRateUnused takes nothing of the watermark for attempts that nobody could take.
func TestRateUnused(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		route := fanout("trade", "s-a")
		route.Bindings[0].Watermark = 1
		r.route(route)
		r.hub.set(func() { r.hub.cold = true })
		r.join("s-a", "a1", 10)
		r.publish("trade", 1, message{})
		pass(time.Second)
		r.hub.set(func() { r.hub.cold = false })
		pass(probeEvery * time.Millisecond)
		r.expect("the whole watermark is left", 1)
	})
}

// TestLeaveCredit gives a member that leaves all its credit back: its session may join another group.
func TestLeaveCredit(t *testing.T) {
	t.Parallel()
	run(t, Options{AckTimeout: time.Second}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		m := r.join("s-a", "a1", 3)
		r.publish("trade", 1, message{})
		r.d.Fly([]kite.Item{{Record: kite.Record{Topic: "trade", Body: []byte("fly")}}})
		pass(1500 * time.Millisecond) // the first ones are late
		if m.holds() != 3 {
			t.Errorf("%d credits held, want 3", m.holds())
		}
		r.leave("s-a", m)
		if m.holds() != 0 {
			t.Errorf("%d credits held after it left", m.holds())
		}
	})
}

// TestReroute stops what is not bound any more and goes on, where it was, when it is again.
func TestReroute(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"), fanout("trade", "s-b"))
		r.join("s-a", "a1", 10)
		r.publish("trade", 2, message{})
		sent := r.expect("bound", 1, 2)
		r.ack("s-a", sent[0])
		r.route(fanout("trade", "s-b"))
		r.nack("s-a", sent[1])
		r.publish("trade", 2, message{})
		pass(time.Hour)
		r.expect("not bound")
		narrow := kite.Route{Topic: "trade", Group: "s-a", Bindings: []kite.Binding{kite.Direct("s-a", "trade", "pay")}}
		r.route(narrow, fanout("trade", "s-b"))
		r.publish("trade", 1, message{kind: "pay"})
		r.expect("bound more narrowly: the one that was tried, the one that matches", 2, 5)
	})
}

// TestTrimmed passes over what lies before, between and after what the journal still has.
func TestTrimmed(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		gaps := &gappy{Reader: r.journal, gone: map[kite.Seq]bool{1: true, 2: true, 5: true, 8: true}}
		r.startReading(gaps)
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 10)
		r.publish("trade", 8, message{})
		sent := r.expect("what is left", 3, 4, 6, 7)
		gaps.lose(6)
		r.nack("s-a", sent[2])
		r.ack("s-a", sent[0], sent[1], sent[3])
		r.settled("s-a", 9)
	})
}

// TestReadError waits and goes on when reading fails.
func TestReadError(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		gaps := &gappy{Reader: r.journal}
		r.startReading(gaps)
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 10)
		r.publish("trade", 1, message{})
		sent := r.expect("readable", 1)
		gaps.fail(true)
		r.nack("s-a", sent[0])
		r.publish("trade", 1, message{})
		pass(time.Minute)
		r.expect("nothing can be read")
		gaps.fail(false)
		pass(5 * time.Second)
		if got := r.take(); len(got) != 2 {
			t.Errorf("sent %v, want 1 and 2 in some order", seqs(got))
		}
	})
}
