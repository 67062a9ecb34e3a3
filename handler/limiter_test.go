package handler

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/protocol"
)

func TestLimiter(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return clock.Add(time.Duration(ms) * time.Millisecond) }
	type step struct{ ms, take, want int }
	for _, test := range []struct {
		name  string
		rate  int
		steps []step
	}{
		{"half at once", 100, []step{{0, 30, 30}, {0, 30, 20}, {0, 1, 0}}},
		{"refilled by time", 100, []step{{0, 50, 50}, {100, 50, 10}, {105, 1, 0}, {110, 1, 1}}},
		{"never over half", 100, []step{{60_000, 100, 50}}},
		{"one at least", 1, []step{{0, 5, 1}, {999, 1, 0}, {1000, 1, 1}}},
		{"a slow clock reading", 100, []step{{100, 50, 50}, {50, 10, 0}, {110, 10, 1}}},
		{"the largest", 1<<31 - 1, []step{{0, 1 << 30, 1<<30 - 1}, {0, 1, 0}, {1, 1 << 30, 2147484}}},
	} {
		l := newLimiter(test.rate, clock)
		for i, s := range test.steps {
			if got := l.take(nil, s.take, at(s.ms)); got != s.want {
				t.Errorf("%s: step %d took %d, want %d", test.name, i, got, s.want)
			}
		}
	}
	l := newLimiter(10, clock)
	l.put(nil, 100)
	if got := l.take(nil, 100, clock); got != 5 {
		t.Errorf("after giving back too much: %d, want 5", got)
	}
}

// TestLimiterShared lets many loops take at once: together they get what there is.
func TestLimiterShared(t *testing.T) {
	t.Parallel()
	l := newLimiter(20_000, clock)
	var wait sync.WaitGroup
	got := make([]int, 8)
	for i := range got {
		wait.Go(func() {
			for range 1000 {
				got[i] += l.take(nil, 3, clock)
			}
		})
	}
	wait.Wait()
	sum := 0
	for _, n := range got {
		sum += n
	}
	if sum != 10_000 {
		t.Errorf("%d were let through, want 10000", sum)
	}
}

// TestAccept refuses what is over the limit before it looks at anything else.
func TestAccept(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Limit(6)
	now := clock
	r.now = func() time.Time { return now }
	s, _ := r.member(protocol.FramingG, "p-trade")
	frames := func(n int, topic string) (raw [][]byte) {
		for i := range n {
			raw = append(raw, publish(protocol.FramingG, uint32(i+1), header(func(h *protocol.Header) {
				h.Topic, h.MessageID = topic, fmt.Sprintf("%032x", i)
			})))
		}
		return raw
	}
	refused := func(n, id int) string {
		return fmt.Sprintf("storeAck %d %032x false Store Result KiteQ OverFlow [%s]", n, id, address)
	}
	got, err := r.say(s, frames(5, "trade")...)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, got, refused(4, 3), refused(5, 4))
	if n := len(r.items()); n != 3 {
		t.Errorf("%d messages for the lane, want 3", n)
	}
	// Heartbeats are free, a malformed publish gives its permit back, an unknown topic does not.
	now = now.Add(time.Second)
	ping := protocol.AppendHeartbeat(nil, protocol.FramingG, 9, 9)
	malformed := protocol.FramingG.AppendFrame(nil, 8, protocol.CmdBytesMessage, []byte{0xff})
	got, err = r.say(s, append(frames(1, "unknown"), malformed, ping)...)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, got, fmt.Sprintf("storeAck 1 %032x false %s", 0, protocol.FeedbackTopic), "heartbeat 9 9")
	got, err = r.say(s, frames(3, "trade")...)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, got, refused(3, 2))

	stats := r.Stats()
	if stats.Accepted != 6 || stats.Received["trade"] != 5 || stats.Received["message"] != 0 || len(stats.Received) != 2 {
		t.Errorf("%+v, want 6 accepted, 5 for trade and none for message", stats)
	}
}

// TestStats counts by topic, whatever the order in a read, and keeps the counters of topics that stay.
func TestStats(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, _ := r.member(protocol.FramingL, "p-trade")
	var raw [][]byte
	for i, topic := range []string{"trade", "trade", "message", "none", "trade", "message"} {
		raw = append(raw, publish(protocol.FramingL, uint32(i+1), header(func(h *protocol.Header) { h.Topic = topic })))
	}
	if _, err := r.say(s, raw...); err != nil {
		t.Fatal(err)
	}
	r.SetTopics([]string{"trade", "fee"})
	stats := r.Stats()
	if stats.Accepted != 6 || stats.Received["trade"] != 3 || len(stats.Received) != 2 || stats.Received["fee"] != 0 {
		t.Errorf("%+v, want 6 accepted, 3 for trade, 0 for fee", stats)
	}
	r.SetTopics([]string{"trade", "message"})
	if stats = r.Stats(); stats.Received["trade"] != 3 || stats.Received["message"] != 0 {
		t.Errorf("%+v: trade stayed, message is new", stats)
	}
}

// TestLimiterShares: a topic that floods the broker leaves to each other topic what that asks for, up to an equal
// part, and gets the rest.
func TestLimiterShares(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		wants []int // publishes in 10 ms of each topic
		least []int // of each in a second, of 1000
		most  []int
	}{
		{"alone", []int{50}, []int{1000}, []int{1000}},
		{"two floods", []int{50, 50}, []int{450, 450}, []int{550, 550}},
		{"a flood and a little", []int{500, 1}, []int{850, 95}, []int{905, 100}},
		{"a flood and many", []int{500, 1, 2, 3}, []int{350, 95, 195, 225}, []int{460, 100, 200, 300}},
		{"below the limit", []int{3, 3}, []int{300, 300}, []int{300, 300}},
	} {
		l := newLimiter(1000, clock)
		topics, got := make([]*topic, len(test.wants)), make([]int, len(test.wants))
		for i := range topics {
			topics[i] = &topic{}
		}
		now := clock
		for round := range 500 {
			if round == 200 {
				clear(got) // claims are known, and what the bucket had at first is gone
			}
			for i, n := range test.wants { // the flood always comes first
				got[i] += l.take(topics[i], n, now)
			}
			now = now.Add(10 * time.Millisecond)
		}
		for i, n := range got {
			if n /= 3; n < test.least[i] || n > test.most[i] {
				t.Errorf("%s: topic %d got %d a second, want %d to %d", test.name, i, n, test.least[i], test.most[i])
			}
		}
	}
	l := newLimiter(1000, clock)
	gone, here := &topic{}, &topic{}
	l.take(gone, 1000, clock)
	for s := range 3 { // nobody keeps a claim who does not come
		for ms := 0; ms < 1000; ms += 100 {
			l.take(here, 1000, clock.Add(time.Second*time.Duration(s+1)+time.Duration(ms)*time.Millisecond))
		}
	}
	if len(l.shares) != 1 || l.shares[0].topic != here {
		t.Errorf("%d shares", len(l.shares))
	}
}
