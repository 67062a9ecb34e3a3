package sequence

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store/memory"
)

const (
	message  = kite.KindMessage
	prepared = kite.KindPrepared
	commit   = kite.KindCommit
	rollback = kite.KindRollback
	park     = kite.KindPark
)

// decision is what becomes of a late item about an id.
type decision struct {
	verdict kite.Code
	repeat  bool
	outcome kite.Outcome
	records []kite.Kind // that the late item adds to the journal
}

func accepted(outcome kite.Outcome, kind kite.Kind) decision {
	return decision{outcome: outcome, records: []kite.Kind{kind}}
}

func repeated(outcome kite.Outcome) decision { return decision{repeat: true, outcome: outcome} }

func refused(verdict kite.Code, outcome kite.Outcome) decision {
	return decision{verdict: verdict, outcome: outcome}
}

// noted is the refusal of a decision whose opposite stands.
func noted(outcome kite.Outcome) decision {
	return decision{verdict: kite.TxConflict, outcome: outcome, records: []kite.Kind{kite.KindOrder}}
}

// decisions is the table of the lane: the ways an id can have come, and what then becomes of each item.
func decisions() []struct {
	state string
	items []kite.Kind
	late  map[kite.Kind]decision
} {
	const (
		unknown    = kite.OutcomeUnknown
		committed  = kite.OutcomeCommitted
		rolledBack = kite.OutcomeRolledBack
		parked     = kite.OutcomeParked
	)
	return []struct {
		state string
		items []kite.Kind
		late  map[kite.Kind]decision
	}{
		{"unknown", nil, map[kite.Kind]decision{
			prepared: accepted(unknown, prepared),
			message:  accepted(committed, message),
			commit:   refused(kite.TxUnknown, unknown),
			rollback: refused(kite.TxUnknown, unknown),
			park:     refused(kite.TxUnknown, unknown),
		}},
		{"prepared", []kite.Kind{prepared}, map[kite.Kind]decision{
			prepared: repeated(unknown),
			message:  refused(kite.TxConflict, unknown),
			commit:   accepted(committed, commit),
			rollback: accepted(rolledBack, rollback),
			park:     accepted(parked, park),
		}},
		{"committed", []kite.Kind{prepared, commit}, map[kite.Kind]decision{
			prepared: repeated(committed),
			message:  repeated(committed),
			commit:   repeated(committed),
			rollback: noted(committed),
			park:     refused(kite.TxUnknown, unknown),
		}},
		{"rolled back", []kite.Kind{prepared, rollback}, map[kite.Kind]decision{
			prepared: refused(kite.TxConflict, rolledBack),
			message:  refused(kite.TxConflict, rolledBack),
			commit:   noted(rolledBack),
			rollback: repeated(rolledBack),
			park:     refused(kite.TxUnknown, unknown),
		}},
		{"parked", []kite.Kind{prepared, park}, map[kite.Kind]decision{
			prepared: repeated(parked),
			message:  refused(kite.TxConflict, parked),
			commit:   accepted(committed, commit),
			rollback: accepted(rolledBack, rollback),
			park:     repeated(parked),
		}},
		{"plain", []kite.Kind{message}, map[kite.Kind]decision{
			prepared: repeated(committed),
			message:  repeated(committed),
			commit:   repeated(committed),
			rollback: noted(committed),
			park:     refused(kite.TxUnknown, unknown),
		}},
	}
}

// again is what becomes of the same item once more, on a lane that was opened since.
func (d decision) again() decision {
	if d.verdict == kite.OK {
		return repeated(d.outcome)
	}
	return d
}

// pause is what comes between the step at and the next one.
type pause struct {
	name string
	at   int
	do   func(*rig)
}

// pauses are those between so many first steps and the late one. A crash may be anywhere.
func pauses(on storage, steps int) []pause {
	all := []pause{{"nothing", steps, nil}}
	if on.crash == nil {
		return all // nothing outlives the process
	}
	all = append(all, pause{"stop", steps, (*rig).reopen}, pause{"checkpoint and crash", steps, func(r *rig) { r.checkpoint(0); r.crash() }})
	for at := range steps + 1 {
		all = append(all, pause{"crash", at, (*rig).crash})
	}
	return all
}

// TestDecisions goes through the whole table on every store: with the late item in the turn of the first
// ones, and in a turn of its own, with a crash between any two steps or a stop before it. Where there was one,
// another follows, and the late item comes once more: as its sender, who has had no answer, does it. The topic has
// other messages, so that a wrong Seq shows.
func TestDecisions(t *testing.T) {
	t.Parallel()
	for name, prepare := range storages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			on := prepare(t)
			for _, row := range decisions() {
				for kind, want := range row.late {
					tryDecision(t, on, row.state+"/"+kind.String(), row.items, kind, want)
				}
			}
		})
	}
}

func tryDecision(t *testing.T, on storage, name string, first []kite.Kind, late kite.Kind, want decision) {
	t.Helper()
	t.Run(name+"/one turn", func(t *testing.T) {
		t.Parallel()
		decideAtOnce(t, newRigOn(t, on, Options{}), first, late, want)
	})
	for _, p := range pauses(on, len(first)) {
		t.Run(fmt.Sprintf("%s/%s after step %d", name, p.name, p.at), func(t *testing.T) {
			t.Parallel()
			r := newRigOn(t, on, Options{})
			decide(t, r, first, late, want, p)
			if p.do != nil {
				p.do(r)
				r.late(first, late, want.again(), want)
			}
		})
	}
}

func memoryRig(t *testing.T) *rig { return newRig(t, mustMemory(t, memory.Options{}), Options{}) }

// decideAtOnce has all items in one turn.
func decideAtOnce(t *testing.T, r *rig, first []kite.Kind, late kite.Kind, want decision) {
	t.Helper()
	r.turn(item(message, "trade", 100))
	var items []kite.Item
	for _, kind := range first {
		items = append(items, item(kind, "trade", 1))
	}
	items = r.turn(append(items, item(message, "trade", 101), item(late, "trade", 1))...)
	r.check(first, late, want, want, items[len(items)-1], 2+len(first))
}

// decide has each item in a turn of its own.
func decide(t *testing.T, r *rig, first []kite.Kind, late kite.Kind, want decision, p pause) {
	t.Helper()
	between := func(step int) {
		if step == p.at && p.do != nil {
			p.do(r)
		}
	}
	r.turn(item(message, "trade", 100))
	for step, kind := range first {
		between(step)
		r.turn(item(kind, "trade", 1))
		r.clock = r.clock.Add(time.Second)
	}
	r.turn(item(message, "trade", 101))
	between(len(first))
	r.late(first, late, want, want)
}

// late has the late item in a turn of its own; did is what became of it the first time.
func (r *rig) late(first []kite.Kind, late kite.Kind, want, did decision) {
	r.t.Helper()
	known := len(r.spy.appended)
	r.check(first, late, want, did, r.turn(item(late, "trade", 1))[0], known)
}

// check compares what became of the late item, and keeps the promises: what was committed, before or now, can
// be read, and nothing else.
func (r *rig) check(first []kite.Kind, late kite.Kind, want, did decision, got kite.Item, known int) {
	t := r.t
	t.Helper()
	if got.Verdict != want.verdict || got.Repeat != want.repeat || got.Outcome != want.outcome {
		t.Errorf("verdict %v, repeat %v, outcome %v; want %v, %v, %v", got.Verdict, got.Repeat, got.Outcome, want.verdict, want.repeat, want.outcome)
	}
	if added := r.spy.appended[known:]; !slices.Equal(added, want.records) {
		t.Errorf("the journal got %v, want %v", added, want.records)
	}
	done := did.verdict == kite.OK && !did.repeat
	committed := slices.Contains(first, message) || slices.Contains(first, commit) || done && (late == message || late == commit)
	if found := slices.Contains(r.read("trade"), id(1)); found != committed {
		t.Errorf("message found %v, want %v", found, committed)
	}
	decided := slices.Contains(first, commit) || slices.Contains(first, rollback) || done && (late == commit || late == rollback)
	wantOpen := (slices.Contains(first, prepared) || done && late == prepared) && !decided
	if _, open := r.state.open[id(1)]; open != wantOpen {
		t.Errorf("open %v, want %v", open, wantOpen)
	}
	if head := r.state.heads["trade"]; int(head) != len(r.read("trade")) {
		t.Errorf("head %d of %d messages", head, len(r.read("trade")))
	}
}

// TestLateRollback keeps the promise of a commit against all that comes later.
func TestLateRollback(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{})
	r.turn(item(prepared, "trade", 1))
	r.turn(item(commit, "trade", 1))
	for _, then := range []func(){func() {}, r.crash, r.reopen, func() { r.clock = r.clock.Add(time.Hour) }} {
		then()
		if got := r.turn(item(rollback, "trade", 1))[0]; got.Verdict == kite.OK {
			t.Errorf("a rollback after the commit is accepted: %+v", got)
		}
		if ids := r.read("trade"); len(ids) != 1 || ids[0] != id(1) {
			t.Fatalf("the committed message is gone: %v", ids)
		}
	}
}

// TestTwoDecisionsInOneTurn lets the first win, and the commit record point at a durable place.
func TestTwoDecisionsInOneTurn(t *testing.T) {
	t.Parallel()
	r := memoryRig(t)
	items := r.turn(
		item(prepared, "trade", 1), item(prepared, "trade", 2), item(prepared, "trade", 1),
		item(commit, "trade", 1), item(rollback, "trade", 1), item(rollback, "trade", 2), item(commit, "trade", 2), item(commit, "trade", 1),
	)
	want := []kite.Item{
		{Outcome: kite.OutcomeUnknown}, {Outcome: kite.OutcomeUnknown}, {Repeat: true},
		{Outcome: kite.OutcomeCommitted}, {Verdict: kite.TxConflict, Outcome: kite.OutcomeCommitted},
		{Outcome: kite.OutcomeRolledBack}, {Verdict: kite.TxConflict, Outcome: kite.OutcomeRolledBack}, {Repeat: true, Outcome: kite.OutcomeCommitted},
	}
	for i, got := range items {
		if got.Verdict != want[i].Verdict || got.Repeat != want[i].Repeat || got.Outcome != want[i].Outcome {
			t.Errorf("item %d: verdict %v, repeat %v, outcome %v; want %+v", i, got.Verdict, got.Repeat, got.Outcome, want[i])
		}
	}
	if want := []kite.Kind{prepared, prepared, commit, kite.KindOrder, rollback, kite.KindOrder}; !slices.Equal(r.spy.appended, want) {
		t.Errorf("the journal got %v, want %v", r.spy.appended, want)
	}
}
