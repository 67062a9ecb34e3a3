package sequence

import (
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

// TestDecisions goes through the whole table, with the late item in the turn of the first ones, in a later
// turn, after a stop and after a crash. The topic has other messages, so that a wrong Seq shows.
func TestDecisions(t *testing.T) {
	t.Parallel()
	mysqlRig := mysqlRigs(t)
	for _, when := range []struct {
		name string
		rig  func(*testing.T) *rig
		then func(*rig) // nil: the same turn
	}{
		{"memory same turn", memoryRig, nil},
		{"memory later turn", memoryRig, func(*rig) {}},
		{"mmap same turn", mmapRig, nil},
		{"mmap later turn", mmapRig, func(*rig) {}},
		{"mmap after stop", mmapRig, (*rig).reopen},
		{"mmap after crash", mmapRig, (*rig).crash},
		{"mmap after checkpoint and crash", mmapRig, func(r *rig) { r.checkpoint(0); r.crash() }},
		{"mysql same turn", mysqlRig, nil},
		{"mysql after stop", mysqlRig, (*rig).reopen},
		{"mysql after takeover", mysqlRig, (*rig).crash},
		{"mysql after checkpoint and takeover", mysqlRig, func(r *rig) { r.checkpoint(0); r.crash() }},
	} {
		if when.rig == nil {
			t.Logf("%s is left out: no MySQL to test against: run ./build.sh test, or set %s to a data source name", when.name, mysqlVariable)
			continue
		}
		for _, row := range decisions() {
			for kind, want := range row.late {
				t.Run(when.name+"/"+row.state+"/"+kind.String(), func(t *testing.T) {
					t.Parallel()
					r := when.rig(t)
					decide(t, r, row.items, kind, want, when.then)
				})
			}
		}
	}
}

func memoryRig(t *testing.T) *rig { return newRig(t, mustMemory(t, memory.Options{}), Options{}) }
func mmapRig(t *testing.T) *rig   { return newMMapRig(t, Options{}) }

func decide(t *testing.T, r *rig, first []kite.Kind, late kite.Kind, want decision, then func(*rig)) {
	t.Helper()
	r.turn(item(message, "trade", 100))
	var items []kite.Item
	for _, kind := range first {
		items = append(items, item(kind, "trade", 1))
	}
	items = append(items, item(message, "trade", 101))
	known := 1 + len(items)
	if then != nil {
		r.turn(items...)
		r.clock = r.clock.Add(time.Second)
		then(r)
		items = nil
	}
	items = r.turn(append(items, item(late, "trade", 1))...)

	got := items[len(items)-1]
	if got.Verdict != want.verdict || got.Repeat != want.repeat || got.Outcome != want.outcome {
		t.Errorf("verdict %v, repeat %v, outcome %v; want %v, %v, %v", got.Verdict, got.Repeat, got.Outcome, want.verdict, want.repeat, want.outcome)
	}
	if added := r.spy.appended[known:]; !slices.Equal(added, want.records) {
		t.Errorf("the journal got %v, want %v", added, want.records)
	}
	// A promise that was made is kept: what was committed, before or now, can be read, and nothing else.
	committed := slices.Contains(first, message) || slices.Contains(first, commit) || want.verdict == kite.OK && (late == message || late == commit)
	if found := slices.Contains(r.read("trade"), id(1)); found != committed {
		t.Errorf("message found %v, want %v", found, committed)
	}
	wantOpen := want.verdict == kite.OK && (late == prepared || late == park) && !want.repeat ||
		slices.Contains(first, prepared) && !slices.Contains(first, commit) && !slices.Contains(first, rollback) &&
			(len(want.records) == 0 || late == park)
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
