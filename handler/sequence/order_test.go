package sequence

import (
	"context"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

func order(action kite.Action, topic, group string, seq kite.Seq) kite.Item {
	o := kite.Order{Action: action, Note: kite.Note{By: "operator ann", Reason: "test"}}
	return kite.Item{Record: kite.Record{
		Kind: kite.KindOrder, Topic: topic, Group: []byte(group), Seq: seq, Body: kite.AppendOrder(nil, &o),
	}}
}

func about(n int, o kite.Item) kite.Item {
	o.ID = id(n)
	return o
}

// TestOrders gives each order in each situation, and again over a crash and a stop: the first changes the
// state, the second is a repeat, and neither is lost.
func TestOrders(t *testing.T) {
	t.Parallel()
	const topic, group = "trade", "s-a"
	for name, c := range map[string]struct {
		order  kite.Item
		want   kite.Code
		repeat bool // at the first time
		again  kite.Code
		check  func(*kite.Standing) bool
	}{
		"pause":            {order: order(kite.ActionPause, topic, group, 0), check: func(s *kite.Standing) bool { return s.Paused }},
		"resume":           {order: order(kite.ActionResume, topic, group, 0), repeat: true, check: func(s *kite.Standing) bool { return !s.Paused }},
		"discard":          {order: order(kite.ActionDiscard, topic, group, 1), check: func(s *kite.Standing) bool { return s.Letters.Floor() == 2 }},
		"requeue":          {order: order(kite.ActionRequeue, topic, group, 2), check: func(s *kite.Standing) bool { return s.IsRequeued(2) }},
		"discard none":     {order: order(kite.ActionDiscard, topic, group, 3), want: kite.Invalid, again: kite.Invalid},
		"discard zero":     {order: order(kite.ActionDiscard, topic, group, 0), want: kite.Invalid, again: kite.Invalid},
		"requeue of other": {order: order(kite.ActionRequeue, topic, "s-b", 1), want: kite.Invalid, again: kite.Invalid},
		"seek beyond":      {order: order(kite.ActionSeek, topic, group, 7), want: kite.Invalid, again: kite.Invalid},
		"recheck of none":  {order: about(99, order(kite.ActionRecheck, "", "", 0)), want: kite.TxUnknown, again: kite.TxUnknown},
		"recheck of open":  {order: about(8, order(kite.ActionRecheck, "", "", 0)), repeat: true},
		"recheck":          {order: about(9, order(kite.ActionRecheck, "", "", 0))},
		"unknown":          {order: order(77, topic, group, 0), want: kite.Invalid, again: kite.Invalid},
		"malformed":        {order: kite.Item{Record: kite.Record{Kind: kite.KindOrder}}, want: kite.Invalid, again: kite.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newMMapRig(t, Options{})
			for n := range 5 {
				r.turn(item(message, topic, n+1))
			}
			r.turn(dead(topic, group, 1), dead(topic, group, 2), item(prepared, topic, 8), item(prepared, topic, 9))
			r.turn(item(park, topic, 9))
			if got := r.turn(c.order)[0]; got.Verdict != c.want || got.Repeat != c.repeat {
				t.Fatalf("verdict %v, repeat %v; want %v, %v", got.Verdict, got.Repeat, c.want, c.repeat)
			}
			for _, then := range []func(){func() {}, r.crash, r.reopen, r.crash} {
				then()
				if got := r.turn(c.order)[0]; got.Verdict != c.again || got.Repeat != (c.again == kite.OK) {
					t.Errorf("again: verdict %v, repeat %v; want %v", got.Verdict, got.Repeat, c.again)
				}
				if standing := r.Recovered().Standing(topic, group); c.check != nil && !c.check(standing) {
					t.Errorf("the standing is %+v", standing)
				}
			}
			if name == "recheck" && r.state.open[id(9)].ParkedMs != 0 {
				t.Error("still parked")
			}
		})
	}
}

// TestSeek moves a group back and forth, and takes no progress of before.
func TestSeek(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{})
	for n := range 9 {
		r.turn(item(message, "trade", n+1))
	}
	r.turn(progress("trade", "s-a", kite.Progress{Floor: 8}))
	standing := func() *kite.Standing { return r.Recovered().Standing("trade", "s-a") }
	for turn, seq := range []kite.Seq{3, 10, 1} {
		if got := r.turn(order(kite.ActionSeek, "trade", "s-a", seq))[0]; got.Verdict != kite.OK {
			t.Fatalf("seek %d: %v", seq, got.Verdict)
		}
		r.turn(progress("trade", "s-a", kite.Progress{Floor: 8})) // it was on its way when the order came
		for _, then := range []func(){func() {}, r.crash, r.reopen} {
			then()
			if s := standing(); s.Floor() != seq || s.Turn != uint64(turn+1) {
				t.Errorf("after seek %d the floor is %d, the turn %d", seq, s.Floor(), s.Turn)
			}
		}
	}
	now := progress("trade", "s-a", kite.Progress{Floor: 5})
	now.Seq = 3
	r.turn(now)
	if s := standing(); s.Floor() != 5 {
		t.Errorf("progress of this turn is not taken: floor %d", s.Floor())
	}
}

// TestDecidedBy tells who repeats or contradicts a decision by whom it was made, and when, also after a
// restart. A contradiction is noted once.
func TestDecidedBy(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{})
	decide := func(kind kite.Kind, n int, by string) kite.Item {
		i := item(kind, "trade", n)
		i.Body = kite.AppendNote(nil, by, "why")
		return r.turn(i)[0]
	}
	r.turn(item(prepared, "trade", 1), item(prepared, "trade", 2))
	decide(commit, 1, "10.0.0.1:5")
	decide(rollback, 2, "operator ann")
	decidedMs := kite.UnixMs(r.clock)
	for _, then := range []func(){func() {}, r.crash, r.reopen} {
		then()
		r.clock = r.clock.Add(time.Second)
		for _, c := range []struct {
			kind    kite.Kind
			n       int
			verdict kite.Code
			by      string
		}{
			{commit, 1, kite.OK, "10.0.0.1:5"}, {rollback, 1, kite.TxConflict, "10.0.0.1:5"},
			{commit, 2, kite.TxConflict, "operator ann"}, {rollback, 2, kite.OK, "operator ann"},
		} {
			got := decide(c.kind, c.n, "10.0.0.9:9")
			if note := kite.DecodeNote(got.Body); got.Verdict != c.verdict || note.By != c.by || got.TimeMs != decidedMs {
				t.Errorf("%v of %d: verdict %v, decided by %q at %d; want %v, %q at %d", c.kind, c.n, got.Verdict, note.By, got.TimeMs, c.verdict, c.by, decidedMs)
			}
		}
	}
	notes := 0
	err := r.spy.Find(id(1), 0, func(m *kite.Record) bool {
		if m.Kind != kite.KindOrder {
			return true
		}
		notes++
		o, err := kite.DecodeOrder(m.Body)
		if err != nil || o.Action != kite.ActionRefuse || o.Outcome != kite.OutcomeRolledBack || o.By != "10.0.0.9:9" || m.Topic != "trade" {
			t.Errorf("noted on %s: %+v, %v", m.Topic, o, err)
		}
		return true
	})
	if err != nil || notes == 0 || notes > 3 { // once in each life of the broker
		t.Errorf("%d refusals noted, %v", notes, err)
	}
	if r.Conflicts() != 2 {
		t.Errorf("%d conflicts counted since the restart, want 2", r.Conflicts())
	}
}

// TestMaxOpen answers busy when too many are undecided, and takes more when some are decided.
func TestMaxOpen(t *testing.T) {
	t.Parallel()
	r := newRig(t, mustMMap(t, t.TempDir()), Options{MaxOpen: 3})
	items := r.turn(item(prepared, "trade", 1), item(message, "trade", 9), item(prepared, "trade", 2), item(prepared, "trade", 3), item(prepared, "trade", 4))
	if items[3].Verdict != kite.OK || items[4].Verdict != kite.Busy {
		t.Fatalf("verdicts %v and %v", items[3].Verdict, items[4].Verdict)
	}
	r.turn(item(rollback, "trade", 2))
	if got := r.turn(item(prepared, "trade", 4))[0]; got.Verdict != kite.OK {
		t.Errorf("after a rollback: %v", got.Verdict)
	}
}

// TestDo waits for one item, or for as long as its caller does.
func TestDo(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{})
	if _, err := r.Do(cancelled(t), item(message, "trade", 1)); kite.CodeOf(err) != kite.Indeterminate {
		t.Errorf("nobody answers: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	got, err := r.Do(t.Context(), item(message, "trade", 2))
	if err != nil || got.Verdict != kite.OK || got.Seq != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := r.Do(t.Context(), item(message, "trade", 3)); kite.CodeOf(err) != kite.Unavailable {
		t.Errorf("after the end: %v", err)
	}
}

func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
