package server

import (
	"slices"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/handler/deliver"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// line is an event that is expected: a part of its text.
type line struct{ what, part string }

// expectLines compares events in their order.
func expectLines(t *testing.T, name string, events []operate.Event, want ...line) {
	t.Helper()
	if len(events) != len(want) {
		t.Errorf("%s: %+v, want %d lines", name, events, len(want))
		return
	}
	for i, w := range want {
		if events[i].What != w.what || !strings.Contains(events[i].Text, w.part) {
			t.Errorf("%s: line %d is %+v, want %+v", name, i, events[i], w)
		}
	}
}

// TestTellFacts tells every record of the journal, and what of the message follows from them.
func TestTellFacts(t *testing.T) {
	t.Parallel()
	record := func(kind kite.Kind, atMs int64, seq kite.Seq) kite.Record {
		return kite.Record{Kind: kind, TimeMs: atMs, Seq: seq, Topic: "trade", Group: []byte("s-a")}
	}
	prepared := record(kite.KindPrepared, 1, 0)
	prepared.Group, prepared.Type, prepared.ExpiresMs = []byte("p-till"), []byte("paid"), 99
	delayed := record(kite.KindDelayed, 2, 3)
	delayed.Ref, delayed.DueMs = 7, 1000
	old := delayed // before there were notes
	own := record(kite.KindDelayed, 2, 3)
	own.DueMs = 1000
	due := record(kite.KindCommit, 3, 5)
	due.DueMs = 1000
	note := kite.Note{By: "operator ann", Reason: "why"}
	for name, c := range map[string]struct {
		facts []fact
		want  []line
		seq   kite.Seq
	}{
		"undecided": {[]fact{{Record: prepared}}, []line{{operate.Prepared, "p-till"}}, 0},
		"committed": {
			[]fact{{Record: prepared}, {Record: record(kite.KindCommit, 2, 17), note: note}},
			[]line{{operate.Prepared, ""}, {operate.Committed, "seq 17 by operator ann: why"}, {operate.Expires, ""}}, 17,
		},
		"by nobody known": {[]fact{{Record: record(kite.KindCommit, 2, 17)}}, []line{{operate.Committed, "somebody unknown"}}, 17},
		"rolled back":     {[]fact{{Record: prepared}, {Record: record(kite.KindRollback, 2, 0), note: note}}, []line{{operate.Prepared, ""}, {operate.RolledBack, "by operator ann: why"}}, 0},
		"parked": {
			[]fact{{Record: prepared}, {Record: record(kite.KindPark, 2, 0), note: kite.Note{By: "broker", Reason: "undecided after the last check"}}},
			[]line{{operate.Prepared, ""}, {operate.Parked, "by broker: undecided after the last check"}}, 0,
		},
		"delayed": {
			[]fact{{Record: prepared}, {Record: delayed, note: note}, {Record: due}},
			[]line{{operate.Prepared, ""}, {operate.Delayed, "committed by operator ann: why; delivered from 1970-01-01T00:00:01Z"}, {operate.Stored, "seq 5"}, {operate.Expires, ""}}, 5,
		},
		"delayed by nobody known":       {[]fact{{Record: old}}, []line{{operate.Delayed, "committed by somebody unknown; delivered"}}, 0},
		"delayed without a transaction": {[]fact{{Record: own}}, []line{{operate.Delayed, "stored; delivered from"}}, 0},
		"cancelled": {
			[]fact{{Record: own}, {Record: record(kite.KindOrder, 3, 3), order: kite.Order{Action: kite.ActionCancel, Note: note}}},
			[]line{{operate.Delayed, ""}, {operate.Cancelled, "cancelled by operator ann: why; it is never delivered"}}, 0,
		},
		"refused": {
			[]fact{{Record: record(kite.KindOrder, 2, 0), order: kite.Order{Action: kite.ActionRefuse, Outcome: kite.OutcomeRolledBack, Note: note}}},
			[]line{{operate.Refused, "rollback by operator ann: why, refused"}}, 0,
		},
		"rechecked": {
			[]fact{{Record: record(kite.KindOrder, 2, 0), order: kite.Order{Action: kite.ActionRecheck, Note: note}}},
			[]line{{operate.Rechecked, "by operator ann"}}, 0,
		},
		"dead letter": {
			[]fact{
				{Record: record(kite.KindDead, 2, 4), letter: kite.DeadLetter{Attempts: 3, Reason: "deliver limit 3 reached", Feedback: "nack: full"}},
				{Record: record(kite.KindOrder, 3, 4), order: kite.Order{Action: kite.ActionRequeue, Note: note}},
				{Record: record(kite.KindOrder, 4, 4), order: kite.Order{Action: kite.ActionDiscard, Note: note}},
			},
			[]line{{operate.Dead, "dead letter 4 after 3 attempts: deliver limit 3 reached; the last attempt: nack: full"}, {operate.Requeued, "letter 4"}, {operate.Discarded, "letter 4"}}, 0,
		},
		"a ghost":       {[]fact{{Record: kite.Record{Kind: kite.KindMessage, TimeMs: 1}}}, []line{{operate.Stored, "removed since"}}, 0},
		"of the future": {[]fact{{Record: kite.Record{Kind: 99, TimeMs: 1}}}, []line{{operate.Unknown, "kind 99"}}, 0},
	} {
		var story operate.Story
		m := tellFacts(&story, c.facts)
		expectLines(t, name, story.Events, c.want...)
		if m.seq != c.seq || story.Seq != uint64(c.seq) {
			t.Errorf("%s: seq %d", name, m.seq)
		}
	}
}

// TestTellSight tells every stage and every cause of a wait.
func TestTellSight(t *testing.T) {
	t.Parallel()
	const sinceMs, since = 1_000_000, "1970-01-01T00:16:40Z"
	failed := []deliver.Attempt{{Number: 2, Member: "10.0.0.1:7", SentMs: sinceMs, EndedMs: 2_000_000, Feedback: "nack: no room"}}
	waits := func(w deliver.Wait) deliver.GroupSight {
		return deliver.GroupSight{Stage: deliver.StageWaiting, Cursor: 12, Waits: []deliver.Wait{w}}
	}
	for name, c := range map[string]struct {
		sight deliver.GroupSight
		want  []line
	}{
		"not matched": {
			deliver.GroupSight{Stage: deliver.StageUnmatched, Nearest: 1, Bindings: []kite.Binding{kite.Direct("s", "t", "refund"), kite.Direct("s", "t", "paix")}},
			[]line{{operate.Unmatched, `no binding of the group takes the type "paid"; the nearest is direct "paix"`}},
		},
		"no binding is near": {deliver.GroupSight{Stage: deliver.StageUnmatched, Nearest: -1}, []line{{operate.Unmatched, `"paid"`}}},
		"in flight": {
			deliver.GroupSight{Stage: deliver.StageInFlight, Attempts: 3, Failed: failed, Sent: []deliver.Attempt{{Number: 3, Member: "10.0.0.2:7", SentMs: 3_000_000}}},
			[]line{{operate.Failed, "attempt 2, sent to 10.0.0.1:7 at " + since + ": nack: no room"}, {operate.InFlight, "attempt 3 sent to 10.0.0.2:7, not answered yet"}, {operate.Unknown, "1 attempts before"}},
		},
		"late": {
			deliver.GroupSight{Stage: deliver.StageInFlight, Attempts: 1, Sent: []deliver.Attempt{{Number: 1, SentMs: 1, Late: true}}},
			[]line{{operate.InFlight, "a member that is not known any more, not answered in time, and the member still has it"}},
		},
		"armed":             {deliver.GroupSight{Stage: deliver.StageArmed, Attempts: 1, Failed: failed, DueMs: 9}, []line{{operate.Failed, "no room"}, {operate.Armed, "1 attempts failed"}}},
		"dying":             {deliver.GroupSight{Stage: deliver.StageDying, Reason: "expired"}, []line{{operate.Dying, "expired"}}},
		"dead":              {deliver.GroupSight{Stage: deliver.StageDead, Letter: 4, Reason: "expired"}, []line{{operate.Dead, "dead letter 4: expired"}}},
		"requeued":          {deliver.GroupSight{Stage: deliver.StageDead, Letter: 4, Requeued: true, Reason: "expired"}, []line{{operate.Dead, "dead letter 4, being delivered again: expired"}}},
		"settled":           {deliver.GroupSight{Stage: deliver.StageSettled}, []line{{operate.Settled, "answered"}}},
		"unknown":           {deliver.GroupSight{Stage: deliver.StageUnknown}, []line{{operate.Unknown, "removed"}}},
		"about to be sent":  {deliver.GroupSight{Stage: deliver.StageWaiting}, []line{{operate.Waiting, "about"}}},
		"offline":           {waits(deliver.Wait{Cause: deliver.CauseOffline, SinceMs: sinceMs}), []line{{operate.Waiting, "nobody of the group is connected, since " + since}}},
		"watermark":         {waits(deliver.Wait{Cause: deliver.CauseWatermark, UntilMs: sinceMs}), []line{{operate.Waiting, "watermark of deliveries a second, until " + since}}},
		"held":              {waits(deliver.Wait{Cause: deliver.CauseHeld, Seq: 7, Property: "kiteq-key"}), []line{{operate.Waiting, "held behind seq 7, which has the same kiteq-key"}}},
		"held by the topic": {waits(deliver.Wait{Cause: deliver.CauseHeld, Seq: 7}), []line{{operate.Waiting, "held behind seq 7: the group takes the topic in order"}}},
		"changing":          {waits(deliver.Wait{Cause: deliver.CauseChanging}), []line{{operate.Waiting, "order of the group changed"}}},
		"breaker":           {waits(deliver.Wait{Cause: deliver.CauseBreaker}), []line{{operate.Waiting, "one probe is on its way"}}},
		"paused":            {waits(deliver.Wait{Cause: deliver.CausePaused}), []line{{operate.Waiting, "paused"}}},
		"unbound":           {waits(deliver.Wait{Cause: deliver.CauseUnbound}), []line{{operate.Waiting, "binding is gone"}}},
		"unreadable":        {waits(deliver.Wait{Cause: deliver.CauseRead}), []line{{operate.Waiting, "the log says where"}}},
		"journal":           {waits(deliver.Wait{Cause: deliver.CauseJournal}), []line{{operate.Waiting, "no dead letter now"}}},
		"window":            {waits(deliver.Wait{Cause: deliver.CauseWindow}), []line{{operate.Waiting, "window is full"}}},
		"no credit":         {waits(deliver.Wait{Cause: deliver.CauseNoCredit}), []line{{operate.Waiting, "no member can take more"}}},
		"behind":            {waits(deliver.Wait{Cause: deliver.CauseBehind}), []line{{operate.Waiting, "has come to seq 12"}}},
		"a new cause":       {waits(deliver.Wait{Cause: "moon"}), []line{{operate.Waiting, "moon"}}},
	} {
		expectLines(t, name, tellSight(&c.sight, told{messageType: "paid"}), c.want...)
	}
}

// TestTellRecorded tells of groups without a flow what they had recorded, and of a topic to which nobody is bound.
func TestTellRecorded(t *testing.T) {
	t.Parallel()
	s, _ := start(t, testConfig(), Control{})
	settled, other := kite.Progress{Floor: 9}, kite.Progress{Floor: 2}
	for group, p := range map[string]*kite.Progress{"s-settled": &settled, "s-other": &other, "s-seen": &settled} {
		done, err := s.lane.Do(t.Context(), kite.Item{Record: kite.Record{
			Kind: kite.KindProgress, Topic: "trade", Group: []byte(group), Body: kite.AppendProgress(nil, p),
		}})
		if err != nil || done.Verdict != kite.OK {
			t.Fatal(done.Verdict, err)
		}
	}
	tell := func(seen ...string) []operate.Event {
		t.Helper()
		known := map[string]bool{}
		for _, group := range seen {
			known[group] = true
		}
		events, err := s.tellRecorded(t.Context(), told{topic: "trade", seq: 5}, known)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(events, func(a, b operate.Event) int { return strings.Compare(a.Group, b.Group) })
		return events
	}
	expectLines(t, "unbound", tell("s-seen"), line{operate.Unrouted, "no group is bound to topic trade"},
		line{operate.Unknown, "no longer bound; it had not answered"}, line{operate.Unknown, "no longer bound; it had answered or passed over"})
	s.exchange.Swap([]string{"trade", "fee"}, []kite.Route{
		{Topic: "trade", Group: "s-new", Bindings: []kite.Binding{kite.Fanout("s-new", "trade")}},
		{Topic: "trade", Group: "s-seen", Bindings: []kite.Binding{kite.Fanout("s-seen", "trade")}},
		{Topic: "fee", Group: "s-fee", Bindings: []kite.Binding{kite.Fanout("s-fee", "fee")}},
	})
	s.bad.Store(&[]operate.BadBinding{{Topic: "trade", Group: "s-bad", Error: "no pattern"}, {Topic: "fee", Group: "s-fee", Error: "none"}})
	expectLines(t, "bound", tell("s-seen", "s-other", "s-settled"), line{operate.BadBound, "left out: no pattern"}, line{operate.Waiting, "bound a moment ago"})
}
