package page

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/operate"
)

// TestConditions: the worst that can be said of a group is said.
func TestConditions(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	old := now.Add(-behindAfter - time.Second).UnixMilli()
	for _, test := range []struct {
		group              operate.Group
		state, level, tell string
	}{
		{operate.Group{Members: []string{"m"}}, "fine", fine, "takes what it is sent"},
		{operate.Group{Members: []string{"m"}, Unsettled: 9, OldestMs: now.UnixMilli()}, "fine", fine, ""},
		{operate.Group{Members: []string{"m"}, Dead: 1}, "dead letters", warn, "1 message could not"},
		{operate.Group{Members: []string{"m"}, Unsettled: 9, OldestMs: old, Dead: 1}, "behind", warn, "waits for 5 min, and 9 messages"},
		{operate.Group{Durable: true}, "away", dim, "nothing waits"},
		{operate.Group{Durable: true, Unsettled: 1, OldestMs: old}, "away", bad, "connected, and 1 message waits. Start"},
		{operate.Group{Durable: true, Unsettled: 2, OfflineMs: old}, "away", bad, "since 2027-01-15 07:54:59 UTC, and 2 messages wait"},
		{operate.Group{Unsettled: 2}, "away", dim, "misses"},
		{operate.Group{Durable: true, Unsettled: 2, Paused: true}, "paused", warn, "An operator"},
		{operate.Group{Members: []string{"m"}, Paused: true, BreakerOpen: true}, "failing", bad, "first success"},
	} {
		test.group.Bound = true
		g := newGroupRow(&sample{at: now}, &test.group)
		if g.State != test.state || g.Level != test.level || !strings.Contains(g.Why(), test.tell) || !slices.Contains(groupStates, g.State) {
			t.Errorf("%+v: %s %s: %s; want %s %s: %s", test.group, g.Level, g.State, g.Why(), test.level, test.state, test.tell)
		}
	}
	if g := newGroupRow(&sample{at: now}, &operate.Group{BreakerOpen: true}); g.State != "not bound" || g.Level != dim || !slices.Contains(groupStates, g.State) {
		t.Errorf("%+v", g)
	}
}
