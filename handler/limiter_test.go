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
			if got := l.take(s.take, at(s.ms)); got != s.want {
				t.Errorf("%s: step %d took %d, want %d", test.name, i, got, s.want)
			}
		}
	}
	l := newLimiter(10, clock)
	l.put(100)
	if got := l.take(100, clock); got != 5 {
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
				got[i] += l.take(3, clock)
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
