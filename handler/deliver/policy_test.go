package deliver

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestPolicy sends again after a group's own pauses, of which the last repeats, while the other groups have
// the table. Time offline, over the watermark and paused uses up no attempt.
func TestPolicy(t *testing.T) {
	t.Parallel()
	pauses := []time.Duration{0, time.Second, 10 * time.Second}
	run(t, Options{Retry: map[string][]time.Duration{"s-a": pauses}}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.publish("trade", 1, message{limit: 6})
		pass(24 * time.Hour) // nobody is there
		r.order(kite.ActionPause, "s-a", 0)
		a1 := r.join("s-a", "a1", 1)
		pass(time.Hour)
		r.order(kite.ActionResume, "s-a", 0)
		var at []time.Duration
		begin := time.Now()
		for range 600 {
			for sent := r.take(); len(sent) > 0; sent = r.take() {
				at = append(at, sent[0].at.Sub(begin).Round(100*time.Millisecond))
				r.nack("s-a", sent...)
			}
			pass(100 * time.Millisecond)
		}
		second := time.Second
		if want := []time.Duration{0, 0, second, 11 * second, 21 * second, 31 * second}; !slices.Equal(at, want) {
			t.Errorf("attempts at %v, want %v", at, want)
		}
		r.dead("s-a 1 after 6: deliver limit 6 reached, last: nack: no")
		if a1.holds() != 0 {
			t.Errorf("holds %d", a1.holds())
		}
	})
}

// TestRetryOptions names every policy that cannot be.
func TestRetryOptions(t *testing.T) {
	t.Parallel()
	for want, policies := range map[string]map[string][]time.Duration{
		"":                               {"s-a": {0, 24 * time.Hour}},
		`retry of group "s-a": 0 pauses`: {"s-a": {}},
		`33 pauses, use 1 to 32`:         {"s-a": make([]time.Duration, 33)},
		`pause -1s, use 0s to 24h`:       {"s-a": {-time.Second}},
		`pause 25h0m0s, use 0s to 24h`:   {"s-a": {25 * time.Hour}},
		`group "a/b"`:                    {"a/b": {0}},
	} {
		o := Options{Retry: policies}.WithDefaults()
		err := o.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, o := range []Options{{BreakerAfter: -2}, {BreakerAfter: 1001}, {DeadRetention: time.Second}, {DeadRetention: -1}} {
		if o.WithDefaults().Validate() == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
