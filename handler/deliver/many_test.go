package deliver

import (
	"fmt"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestManyFlows has a group with many topics and little credit: a credit that comes back is no reason to look
// at all of them, and none of them waits for ever.
func TestManyFlows(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		const topics, each = 300, 3
		var routes []kite.Route
		for n := range topics {
			routes = append(routes, fanout(fmt.Sprint("topic-", n), "s-a"))
		}
		r.route(routes...)
		for n := range topics {
			r.publish(fmt.Sprint("topic-", n), each, message{})
		}
		r.join("s-a", "one", 4)
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
		if most := 4 * topics * each; r.hub.asked > most {
			t.Errorf("asked for a member %d times, want %d at most", r.hub.asked, most)
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
