package deliver

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// look returns what is said about the message in the group.
func (r *rig) look(group string, seq kite.Seq) GroupSight {
	r.t.Helper()
	all, err := r.d.Look(r.t.Context(), "trade", seq, kite.MessageID{})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, g := range all {
		if g.Group == group {
			return g
		}
	}
	r.t.Fatalf("nothing about %s in %+v", group, all)
	return GroupSight{}
}

// waits expects a stage and the causes.
func (r *rig) waits(group string, seq kite.Seq, stage Stage, causes ...Wait) {
	r.t.Helper()
	if g := r.look(group, seq); g.Stage != stage || !slices.Equal(g.Waits, causes) {
		r.t.Errorf("%s %d is %s for %+v, want %s for %+v", group, seq, g.Stage, g.Waits, stage, causes)
	}
}

// TestLookStages follows a message through everything that can become of it in a group.
func TestLookStages(t *testing.T) {
	t.Parallel()
	run(t, Options{Shards: 2}, func(t *testing.T, r *rig) {
		other := kite.Route{Topic: "trade", Group: "s-b", Bindings: []kite.Binding{
			kite.Direct("s-b", "trade", "refund"), kite.Direct("s-b", "trade", "pay-slip"), kite.Direct("s-b", "trade", "x"),
		}}
		r.route(fanout("trade", "s-a"), other)
		a1 := r.join("s-a", "a1", 9)
		r.join("s-b", "b1", 9)
		at := kite.UnixMs(time.Now())
		r.publish("trade", 2, message{kind: "pay-ship", limit: 4})
		if g := r.look("s-b", 1); g.Stage != StageUnmatched || g.Nearest != 1 || len(g.Bindings) != 3 || len(g.Waits) != 0 {
			t.Errorf("not matched: %+v", g)
		}
		sent := r.take()
		g := r.look("s-a", 1)
		if g.Stage != StageInFlight || g.Attempts != 1 || !slices.Equal(g.Sent, []Attempt{{Number: 1, Member: "a1", SentMs: at}}) {
			t.Errorf("in flight: %+v", g)
		}
		r.ack("s-a", sent[1])
		if g := r.look("s-a", 2); g.Stage != StageSettled || g.Failed != nil {
			t.Errorf("settled: %+v", g)
		}
		pass(6 * time.Second) // late, and sent again at once
		g = r.look("s-a", 1)
		if g.Stage != StageInFlight || g.Attempts != 2 || len(g.Sent) != 2 || !g.Sent[0].Late && !g.Sent[1].Late {
			t.Errorf("late: %+v", g)
		}
		r.nack("s-a", r.take()...)
		r.leave("s-a", a1)
		r.join("s-a", "a3", 9)
		g = r.look("s-a", 1)
		if g.Stage != StageInFlight || len(g.Failed) != 3 || g.Failed[0].Feedback != "no answer within 5s" ||
			g.Failed[1].Feedback != "nack: no" || g.Failed[1].Member != "a1" || g.Failed[2].Feedback != "the connection was lost" {
			t.Errorf("failed three times: %+v", g)
		}
		r.lane.set(func() { r.lane.lost = true })
		r.nack("s-a", r.take()...)
		if g := r.look("s-a", 1); g.Stage != StageDying || g.Attempts != 4 || g.Feedback != "nack: no" {
			t.Errorf("dying: %+v", g)
		}
		r.restart()
		if g := r.look("s-a", 1); g.Stage != StageWaiting || len(g.Failed) != 0 {
			t.Errorf("after a crash: %+v", g)
		}
	})
}

// TestLookDead shows a dead letter, that it is requeued, how that goes, and that it is done with.
func TestLookDead(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 9)
		r.dies(1)
		g := r.look("s-a", 1)
		if g.Stage != StageDead || g.Letter != 1 || g.Feedback != "nack: no" || g.Reason == "" || g.Requeued || g.Discarded {
			t.Errorf("dead: %+v", g)
		}
		r.order(kite.ActionRequeue, "s-a", 1)
		if g := r.look("s-a", 1); g.Stage != StageInFlight || !g.Requeued || len(g.Sent) != 1 {
			t.Errorf("requeued: %+v", g)
		}
		r.ack("s-a", r.take()...)
		if g := r.look("s-a", 1); g.Stage != StageDead || g.Requeued || !g.Discarded {
			t.Errorf("delivered: %+v", g)
		}
		r.routes = nil
		r.restart()
		if g := r.look("s-a", 1); g.Stage != StageDead || g.Bound || g.Letter != 1 {
			t.Errorf("without a flow: %+v", g)
		}
		if all, err := r.d.Look(t.Context(), "trade", 0, kite.MessageID{0, 1}); err != nil || len(all) != 1 || all[0].Seq != 1 {
			t.Errorf("by its id: %+v, %v", all, err)
		}
	})
}

// TestLookWaits names every cause for which a message is not sent.
func TestLookWaits(t *testing.T) {
	t.Parallel()
	pauses := map[string][]time.Duration{"s-a": {time.Minute}}
	for name, test := range map[string]func(t *testing.T, r *rig, nowMs int64){
		"offline": func(t *testing.T, r *rig, nowMs int64) {
			a1 := r.join("s-a", "a1", 9)
			pass(time.Hour)
			r.leave("s-a", a1)
			pass(time.Hour)
			r.publish("trade", 1, message{})
			r.waits("s-a", 1, StageWaiting, Wait{Cause: CauseOffline, SinceMs: nowMs + 3_600_000})
		},
		"paused": func(t *testing.T, r *rig, nowMs int64) {
			r.join("s-a", "a1", 9)
			r.order(kite.ActionPause, "s-a", 0)
			r.publish("trade", 1, message{})
			r.waits("s-a", 1, StageWaiting, Wait{Cause: CausePaused, SinceMs: nowMs})
		},
		"credit": func(t *testing.T, r *rig, nowMs int64) {
			r.join("s-a", "a1", 1)
			r.publish("trade", 2, message{})
			r.waits("s-a", 2, StageWaiting, Wait{Cause: CauseNoCredit})
		},
		"window": func(t *testing.T, r *rig, nowMs int64) {
			r.join("s-a", "a1", 9)
			r.publish("trade", 5, message{})
			r.waits("s-a", 5, StageWaiting, Wait{Cause: CauseWindow})
		},
		"watermark": func(t *testing.T, r *rig, nowMs int64) {
			route := fanout("trade", "s-a")
			route.Bindings[0].Watermark = 1
			r.route(route)
			r.join("s-a", "a1", 9)
			r.publish("trade", 2, message{})
			r.waits("s-a", 2, StageWaiting, Wait{Cause: CauseWatermark, UntilMs: nowMs + 1000})
		},
		"held": func(t *testing.T, r *rig, nowMs int64) {
			route := fanout("trade", "s-a")
			route.Bindings[0].Order = kite.OrderByTopic
			r.route(route)
			r.join("s-a", "a1", 9)
			r.publish("trade", 3, message{})
			r.waits("s-a", 3, StageWaiting, Wait{Cause: CauseHeld, Seq: 1})
		},
		"held by key": func(t *testing.T, r *rig, nowMs int64) {
			route := fanout("trade", "s-a")
			route.Bindings[0].Order, route.Bindings[0].OrderKey = kite.OrderByKey, "key"
			r.route(route)
			r.join("s-a", "a1", 9)
			r.publish("trade", 1, message{key: "x"})
			r.publish("trade", 1, message{key: "y"})
			r.publish("trade", 1, message{key: "y"})
			r.waits("s-a", 3, StageWaiting, Wait{Cause: CauseHeld, Seq: 2, Property: "key"})
		},
		"unbound": func(t *testing.T, r *rig, nowMs int64) {
			r.route(fanout("trade", "s-b"))
			r.join("s-a", "a1", 9)
			r.publish("trade", 1, message{})
			r.waits("s-a", 1, StageWaiting, Wait{Cause: CauseUnbound})
		},
		"retry": func(t *testing.T, r *rig, nowMs int64) {
			r.join("s-a", "a1", 9)
			r.publish("trade", 1, message{})
			r.nack("s-a", r.take()...)
			if g := r.look("s-a", 1); g.Stage != StageArmed || g.DueMs != nowMs+60_000 || g.Attempts != 1 || len(g.Waits) != 0 {
				t.Errorf("%+v", g)
			}
		},
		"breaker": func(t *testing.T, r *rig, nowMs int64) {
			r.join("s-a", "a1", 1)
			r.publish("trade", 9, message{})
			for range 3 {
				r.nack("s-a", r.take()...)
				pass(2500 * time.Millisecond)
			}
			r.nack("s-a", r.take()...)
			if g := r.look("s-a", 9); len(g.Waits) == 0 || g.Waits[0].Cause != CauseBreaker || g.Waits[0].UntilMs == 0 {
				t.Errorf("%+v", g)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, Options{Window: 4, Retry: pauses, BreakerAfter: 3}, func(t *testing.T, r *rig) {
				r.route(fanout("trade", "s-a"))
				test(t, r, kite.UnixMs(time.Now()))
			})
		})
	}
}

// TestLookErrors: what is not there cannot be looked at, and nobody waits for shards that are gone.
func TestLookErrors(t *testing.T) {
	t.Parallel()
	run(t, Options{}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.publish("trade", 1, message{})
		for _, id := range []kite.MessageID{{}, {9}} {
			if _, err := r.d.Look(t.Context(), "trade", 0, id); !errors.Is(err, kite.Invalid) {
				t.Errorf("no sequence: %v", err)
			}
		}
		if _, err := r.d.Look(t.Context(), "trade", 1, kite.MessageID{9}); !errors.Is(err, kite.Invalid) {
			t.Errorf("another id: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r.stop()
		r.stop = func() {}
		if _, err := r.d.Look(t.Context(), "trade", 1, kite.MessageID{}); !errors.Is(err, kite.Unavailable) {
			t.Errorf("stopped: %v", err)
		}
		if _, err := r.d.Look(ctx, "trade", 1, kite.MessageID{}); err == nil {
			t.Error("ctx is over")
		}
	})
}
