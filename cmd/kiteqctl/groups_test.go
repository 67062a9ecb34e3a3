package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/operate"
)

// TestMergeGroups adds brokers up: sums, the oldest of all, offline only when nobody is connected anywhere.
func TestMergeGroups(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_100_000)
	row := func(broker string, g operate.Group) placed[operate.Group] {
		g.Topic, g.Bound, g.Durable = "trade", true, true
		return placed[operate.Group]{broker, g}
	}
	before := []placed[operate.Group]{
		row("a", operate.Group{Group: "s-books", Head: 10, Unsettled: 5, Delivered: 100}),
		row("b", operate.Group{Group: "s-books", Head: 10, Unsettled: 5, Delivered: 100}), // starts anew
	}
	rows := []placed[operate.Group]{
		row("b", operate.Group{Group: "s-books", Head: 10, Unsettled: 7, Lag: 6, OldestMs: now.UnixMilli() - 2000, Delivered: 6, OfflineMs: 5}),
		row("a", operate.Group{Group: "s-books", Head: 30, Unsettled: 5, Lag: 1, OldestMs: now.UnixMilli() - 90_000, Delivered: 120, InFlight: 3, Armed: 1, Dead: 2, Members: []string{"x", "y"}}),
		row("a", operate.Group{Group: "s-audit", OfflineMs: 5, Paused: true}),
	}
	all := merge(rows, before, 2*time.Second, now)
	if len(all) != 2 || all[0].Group != "s-audit" || all[1].Group != "s-books" {
		t.Fatalf("%+v", all)
	}
	w := all[1]
	if w.Members != 2 || w.Lag != 7 || w.Unsettled != 12 || w.BehindMs != 90_000 || w.InFlight != 3 || w.Armed != 1 || w.Dead != 2 ||
		w.OfflineMs != 0 || len(w.Brokers) != 2 || w.state() != "ok" {
		t.Errorf("%+v, %s", w, w.state())
	}
	if *w.DeliveredPerS != 13 || *w.SettledPerS != 10 { // (20 + 6) / 2 s, 20 / 2 s
		t.Errorf("delivered %v, settled %v a second", *w.DeliveredPerS, *w.SettledPerS)
	}
	if s := all[0].state(); !strings.HasPrefix(s, "paused, offline since ") || all[0].DeliveredPerS != nil {
		t.Errorf("state %q, rates %v", s, all[0].DeliveredPerS)
	}
}

// TestGroups looks twice for the rates.
func TestGroups(t *testing.T) {
	t.Parallel()
	o := newOffice(t, map[string]any{"GET /groups": operate.Groups{Groups: []operate.Group{{Topic: "trade", Group: "s-books", Bound: true, Unsettled: 7}}}})
	out := setup(t).run("", "groups", "--interval", "1ms", "-o", "json", "--admin", o.addr()).mustOK(t).out
	var w whole
	if err := json.Unmarshal([]byte(out), &w); err != nil || w.Unsettled != 7 || w.DeliveredPerS == nil || len(o.asked) != 2 {
		t.Errorf("%s, asked %v: %v", out, o.asked, err)
	}
}
