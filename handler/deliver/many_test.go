package deliver

import (
	"fmt"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestManyFlows has a group with many topics, each with more than its member has credit for: answers that come
// back are no reason to look at a flow each, as the first takes what they freed, and none waits for ever.
func TestManyFlows(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		const topics, each, credit = 300, 20, 10
		var routes []kite.Route
		for n := range topics {
			routes = append(routes, fanout(fmt.Sprint("topic-", n), "s-a"))
		}
		r.route(routes...)
		for n := range topics {
			r.publish(fmt.Sprint("topic-", n), each, message{})
		}
		r.join("s-a", "one", credit)
		delivered := map[string]bool{}
		for sent := r.take(); len(sent) > 0; sent = r.take() {
			for _, d := range sent {
				delivered[d.body] = true
			}
			r.ack("s-a", sent...)
		}
		if len(delivered) != topics*each {
			t.Errorf("%d of %d messages delivered", len(delivered), topics*each)
		}
		r.hub.mu.Lock()
		defer r.hub.mu.Unlock()
		// One look in vain for each turn's answers, and for each flow as its topic grew while nobody was there.
		if most := topics*each + topics*each/credit + 2*topics; r.hub.asked > most {
			t.Errorf("asked for a member %d times, want %d at most", r.hub.asked, most)
		}
	})
}

// TestBlockedAside has flows whose messages only the member without credit could take: they hold nobody up
// whose messages the other one takes.
func TestBlockedAside(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("large-1", "s-a"), fanout("large-2", "s-a"), fanout("small", "s-a"))
		old, young := r.join("s-a", "old", 0), r.join("s-a", "young", 1)
		r.hub.set(func() { old.most = len("small 1") })
		r.publish("large-1", 2, message{}) // young has the first
		r.publish("large-2", 1, message{})
		r.hub.set(func() { old.credit = 1 })
		r.publish("small", 2, message{})
		sent := r.take()
		if len(sent) != 2 || sent[0].to != young || sent[1].to != old {
			t.Fatalf("sent %v", sent)
		}
		r.ack("s-a", sent[1])
		if sent = r.take(); len(sent) != 1 || sent[0].body != "small 2" {
			t.Errorf("sent %v, want small 2 behind the two that wait for another member", sent)
		}
	})
}

// TestSaveLessOften records the progress of many flows less often than that of few.
func TestSaveLessOften(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		every time.Duration
		flows int
		want  int64
	}{
		{50 * time.Millisecond, 0, 50},
		{50 * time.Millisecond, 64, 50},
		{50 * time.Millisecond, 128, 100},
		{50 * time.Millisecond, 100_000, 1000},
		{10 * time.Second, 100_000, 10_000},
	} {
		if got := (Options{ProgressEvery: c.every}).saveMs(c.flows); got != c.want {
			t.Errorf("%d flows, every %v: after %d ms, want %d", c.flows, c.every, got, c.want)
		}
	}
}
