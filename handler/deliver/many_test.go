package deliver

import (
	"fmt"
	"testing"

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
