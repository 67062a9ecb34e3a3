package deliver

import (
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestDelay is the table of the interop contract §7.4.
func TestDelay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to uint8
		want     time.Duration
	}{
		{0, 3, 0}, {4, 9, 5 * time.Second}, {10, 19, 10 * time.Second}, {20, 29, 20 * time.Second},
		{30, 39, 40 * time.Second}, {40, 49, 80 * time.Second}, {50, 255, 160 * time.Second},
	} {
		for n := int(c.from); n <= int(c.to); n++ {
			if got := time.Duration(delayMs(uint8(n))) * time.Millisecond; got != c.want {
				t.Errorf("after %d attempts: %v, want %v", n, got, c.want)
			}
		}
	}
}

// TestSchedule sends a message that is always refused at the times of the table, until its limit.
func TestSchedule(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 10)
		begin := time.Now()
		r.publish("trade", 1, message{limit: 12})
		var at []time.Duration
		for range 200 {
			sent := r.take()
			for _, d := range sent {
				at = append(at, d.at.Sub(begin).Round(100*time.Millisecond))
			}
			if len(sent) > 0 {
				r.nack("s-a", sent...)
				continue
			}
			pass(time.Second)
		}
		want := []time.Duration{0, 0, 0, 0}
		for len(want) < 10 {
			want = append(want, want[len(want)-1]+5*time.Second)
		}
		want = append(want, want[9]+10*time.Second, want[9]+20*time.Second)
		if !slices.Equal(at, want) {
			t.Errorf("attempts at %v, want %v", at, want)
		}
		r.dead("s-a 1 after 12: deliver limit 12 reached, last: nack: no")
	})
}

// TestAgain re-arms what failed in every way that an attempt can fail.
func TestAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		fail func(r *rig, d delivery)
		last string
	}{
		{"nack", func(r *rig, d delivery) { r.nack("s-a", d) }, "nack: no"},
		{"timeout", func(*rig, delivery) { pass(5 * time.Second) }, "no answer within 5s"},
		{"lost", func(r *rig, d delivery) { r.leave("s-a", d.to); r.join("s-a", "next", 1) }, "the connection was lost"},
	} {
		for _, limit := range []uint8{1, 2, 5} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				run(t, Options{AckTimeout: 5 * time.Second}, func(t *testing.T, r *rig) {
					r.route(fanout("trade", "s-a"), fanout("trade", "s-b"))
					r.join("s-a", "a1", 10)
					b1 := r.join("s-b", "b1", 10)
					r.publish("trade", 1, message{limit: limit})
					attempts := 0
					for range 60 {
						sent := r.take()
						toB := func(d delivery) bool { return d.to == b1 }
						if i := slices.IndexFunc(sent, toB); i >= 0 {
							r.ack("s-b", sent[i])
						}
						for _, d := range slices.DeleteFunc(sent, toB) {
							attempts++
							c.fail(r, d)
						}
						pass(time.Second)
					}
					if attempts != int(limit) {
						t.Errorf("%d attempts, want %d", attempts, limit)
					}
					n := map[uint8]string{1: "1", 2: "2", 5: "5"}[limit]
					r.dead("s-a 1 after " + n + ": deliver limit " + n + " reached, last: " + c.last)
					r.settled("s-a", 2)
					r.publish("trade", 1, message{})
					if len(r.take()) != 2 {
						t.Error("the next message does not come through")
					}
				})
			})
		}
	}
}

// TestLateAck settles a message whose answer comes after the timeout, before or while it is tried again.
func TestLateAck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		wait  time.Duration // after the fourth attempt, which is followed by a pause of 5s
		again bool          // it was sent again by then
		place time.Duration // after the ack, until the window has room
	}{
		{"while armed", 2 * time.Second, false, 4 * time.Second},
		{"while in flight again", 6 * time.Second, true, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			run(t, Options{AckTimeout: time.Second, Window: 1}, func(t *testing.T, r *rig) {
				r.route(fanout("trade", "s-a"))
				m := r.join("s-a", "a1", 10)
				r.publish("trade", 2, message{})
				first := r.expect("first", 1)[0]
				for range 3 {
					pass(time.Second)
					r.expect("again", 1)
				}
				pass(c.wait)
				if c.again {
					r.expect("again", 1)
				}
				r.ack("s-a", first)
				pass(c.place) // the attempt that is armed or in flight holds its place until its own end
				r.expect("settled: the next one's turn", 2)
				r.settled("s-a", 2)
				pass(time.Minute)
				for _, d := range r.take() {
					if d.seq == 1 {
						t.Error("sent again after its ack")
					}
				}
				if m.holds() > 10 {
					t.Errorf("%d credits held", m.holds())
				}
			})
		})
	}
}

// TestLateNack changes nothing: the timeout has re-armed the message.
func TestLateNack(t *testing.T) {
	t.Parallel()
	run(t, Options{AckTimeout: time.Second}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		m := r.join("s-a", "a1", 10)
		r.publish("trade", 1, message{limit: 2})
		first := r.expect("first", 1)[0]
		pass(time.Second)
		second := r.expect("second", 1)[0]
		r.nack("s-a", first)
		r.dead()
		if m.holds() != 1 {
			t.Errorf("%d credits held, want 1", m.holds())
		}
		r.ack("s-a", second)
		r.settled("s-a", 2)
		if m.holds() != 0 {
			t.Errorf("%d credits held after all answers", m.holds())
		}
	})
}

// TestStrayAnswers takes an answer only from the member that was sent the delivery, and only once.
func TestStrayAnswers(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		a1 := r.join("s-a", "a1", 1)
		a2 := r.join("s-a", "a2", 1)
		r.publish("trade", 2, message{})
		sent := r.expect("both", 1, 2)
		stolen := sent[0]
		if stolen.to == a1 {
			stolen.to = a2
		} else {
			stolen.to = a1
		}
		r.ack("s-a", stolen)
		r.settled("s-a", 1)
		r.ack("s-a", sent[0], sent[0], sent[0])
		r.settled("s-a", 2)
		for _, opaque := range []uint32{0, 1, 0xffffffff, sent[1].opaque &^ deliveryBit, sent[1].opaque | 1<<30, sent[1].opaque + 1<<slotBits} {
			r.ack("s-a", delivery{to: sent[1].to, opaque: opaque})
		}
		r.settled("s-a", 2)
		r.leave("s-a", sent[1].to)
		r.ack("s-a", sent[1])
		r.settled("s-a", 2)
	})
}

// TestExpiry buries what is too old: before its first attempt, between attempts, and of a group that is away.
func TestExpiry(t *testing.T) {
	t.Parallel()
	run(t, Options{AckTimeout: time.Hour}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"), fanout("trade", "s-off"))
		r.join("s-a", "a1", 10)
		r.publish("trade", 1, message{expire: 30 * time.Second})
		r.publish("trade", 1, message{expire: time.Hour})
		sent := r.expect("both", 1, 2)
		r.ack("s-a", sent[1])
		for range 12 {
			r.nack("s-a", sent[0])
			pass(5 * time.Second)
			sent = append(r.take(), delivery{})
		}
		r.dead("s-a 1 after 6: expired", "s-off 1 after 0: expired")
		pass(time.Hour)
		r.dead("s-a 1 after 6: expired", "s-off 1 after 0: expired", "s-off 2 after 0: expired")
		r.settled("s-a", 3)
		r.settled("s-off", 3)
	})
}

// TestTooLarge buries what the group's clients cannot take at all.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		m := r.join("s-a", "a1", 10)
		r.hub.set(func() { m.most = 7 })
		r.publish("trade", 10, message{})
		r.expect("those that fit", 1, 2, 3, 4, 5, 6, 7, 8, 9)
		r.dead("s-a 10 after 0: payload of 8 bytes, a1 takes 7")
		if m.holds() != 9 {
			t.Errorf("%d credits held, want 9", m.holds())
		}
	})
}

// TestLaneBusy keeps a dead letter and progress until the lane takes them.
func TestLaneBusy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		refuse  error
		verdict kite.Code
	}{
		{"full inbox", kite.Busy, kite.OK},
		{"full journal", nil, kite.Busy},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			run(t, Options{Window: 10}, func(t *testing.T, r *rig) {
				r.route(fanout("trade", "s-a"))
				r.join("s-a", "a1", 20)
				r.publish("trade", 1, message{limit: 1})
				r.publish("trade", 3, message{})
				sent := r.expect("all", 1, 2, 3, 4)
				r.lane.set(func() { r.lane.err, r.lane.verdict = c.refuse, c.verdict })
				for next := sent[1:2]; len(next) > 0; next = r.take() { // until the fifth attempt, which waits 5s
					r.nack("s-a", next...)
					pass(100 * time.Millisecond)
				}
				r.ack("s-a", sent[2])
				r.nack("s-a", sent[0])
				pass(1500 * time.Millisecond)
				r.dead()
				if s := r.lane.standing("trade", "s-a"); s != nil && (s.Floor() > 1 || len(s.Retries) > 0) {
					t.Errorf("recorded by a lane that takes nothing: %+v", s)
				}
				r.lane.set(func() { r.lane.err, r.lane.verdict = nil, kite.OK })
				pass(1500 * time.Millisecond)
				r.settled("s-a", 2, kite.Range{From: 3, To: 4})
				if got := r.lane.standing("trade", "s-a").Retries[2].Attempts; got < 4 {
					t.Errorf("%d attempts of message 2 recorded, want 4 or more", got)
				}
				r.dead("s-a 1 after 1: deliver limit 1 reached, last: nack: no")
			})
		})
	}
}

// TestRestart goes on from what was recorded: nothing settled comes again, attempts and due times count on.
func TestRestart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		restart func(*rig)
	}{{"stop", (*rig).restart}, {"crash", (*rig).crash}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			run(t, Options{AckTimeout: time.Hour}, func(t *testing.T, r *rig) {
				r.route(fanout("trade", "s-a"))
				r.join("s-a", "a1", 20)
				r.publish("trade", 1, message{limit: 6})
				r.publish("trade", 4, message{})
				sent := r.expect("all", 1, 2, 3, 4, 5)
				r.ack("s-a", sent[1], sent[4])
				for range 4 {
					r.nack("s-a", sent[0])
					if next := r.take(); len(next) > 0 {
						sent[0] = next[0]
					}
				} // 1 is armed for 5s from now, with 4 attempts
				pass(time.Second)
				c.restart(r)
				r.join("s-a", "a2", 20)
				again := r.expect("what was in flight", 3, 4)
				pass(3900 * time.Millisecond)
				r.expect("not due yet")
				pass(200 * time.Millisecond)
				r.nack("s-a", r.expect("due", 1)...)
				pass(5 * time.Second)
				r.nack("s-a", r.expect("due again", 1)...)
				r.dead("s-a 1 after 6: deliver limit 6 reached, last: nack: no")
				r.ack("s-a", again...)
				r.settled("s-a", 6)
			})
		})
	}
}

// TestRestartSince does not look at SinceMs for a group that stood somewhere.
func TestRestartSince(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.publish("trade", 2, message{})
		m := r.join("s-a", "a1", 1)
		r.ack("s-a", r.expect("one by one", 1)...)
		r.expect("one by one", 2)
		r.leave("s-a", m)
		pass(time.Minute)
		r.routes[0].SinceMs = kite.UnixMs(time.Now()) // the node was deleted and made again
		r.crash()
		r.join("s-a", "a1", 1)
		r.expect("from where it stood", 2)
	})
}

// TestForgive leaves deliveries unanswered: they hold the member's credit for a minute, then it is given
// back, unless the member holds too many; an answer after that is one to nothing.
func TestForgive(t *testing.T) {
	t.Parallel()
	run(t, Options{AckTimeout: time.Second}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "g"))
		m := r.join("g", "m", 2)
		r.publish("trade", 2, message{})
		first := r.expect("two fit the credit", 1, 2)
		pass(2 * time.Second)
		r.expect("the member still holds both")
		if m.holds() != 2 {
			t.Fatalf("%d credits are taken, want 2", m.holds())
		}
		pass(forgiveAfter * time.Millisecond)
		r.expect("forgiven, and sent again", 1, 2)
		r.ack("g", first[0])
		if m.holds() != 2 {
			t.Errorf("an answer to a forgiven delivery changed the credit to %d", m.holds())
		}
		pass(r.options.ProgressEvery)
		if got := r.lane.standing("trade", "g"); got == nil || got.Floor() != 2 {
			t.Errorf("the answer came late, and counts: %+v", got)
		}
		r.hub.set(func() { m.unforgiving = true })
		pass(2 * forgiveAfter * time.Millisecond)
		r.expect("not forgiven")
	})
}
