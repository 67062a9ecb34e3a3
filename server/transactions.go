package server

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kiteq/kiteq/handler/txn"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
	"github.com/kiteq/kiteq/server/admin"
)

var _ admin.Operator = (*Server)(nil)

// Transactions implements admin.Operator. The list comes from the checker, which knows every undecided one.
func (s *Server) Transactions(_ context.Context, f operate.Filter) (operate.Transactions, error) {
	after, err := parsePlace(f.After)
	if err != nil {
		return operate.Transactions{}, err
	}
	keep := func(e *txn.Entry) bool {
		return (f.Topic == "" || e.Topic == f.Topic) && (f.Group == "" || e.Group == f.Group) &&
			(f.State == "" || e.Parked == (f.State == operate.Parked))
	}
	entries, more := s.checker.List(after, f.Limit, keep)
	stats, hooks := s.checker.Stats(), s.hooks.Stats()
	all := operate.Transactions{
		Transactions: make([]operate.Transaction, len(entries)), Open: stats.Open, Parked: stats.Parked,
		OldestMs: stats.OldestMs, ChecksSent: stats.Sent, Conflicts: s.lane.Conflicts(),
		WebhookChecks: hooks.Requests, WebhookFailures: hooks.Failures,
	}
	for i, e := range entries {
		all.Transactions[i] = operate.Transaction{ID: e.ID.String(), Topic: e.Topic, Group: e.Group, PreparedMs: e.PreparedMs}
		seen(&all.Transactions[i], e.Sight)
	}
	if more {
		last := entries[len(entries)-1]
		all.Next = fmt.Sprintf("%d-%s", last.PreparedMs, last.ID)
	}
	return all, nil
}

// parsePlace reads the Next of an earlier page.
func parsePlace(text string) (p txn.Place, err error) {
	if text == "" {
		return p, nil
	}
	ms, id, _ := strings.Cut(text, "-")
	var ok bool
	if p.PreparedMs, err = strconv.ParseInt(ms, 10, 64); err == nil {
		p.ID, ok = kite.ParseMessageID(id)
	}
	if !ok {
		return p, kite.Errorf(kite.Invalid, "after %.80q: give the next of the page before", text)
	}
	return p, nil
}

// seen adds what the checker has seen.
func seen(t *operate.Transaction, s txn.Sight) {
	t.State = operate.Open
	if s.Parked {
		t.State = operate.Parked
	}
	t.Checks, t.Asked, t.AskedMs = s.Checks, s.Asked, s.AskedMs
	t.Answered, t.AnsweredMs, t.NextMs = s.Answered, s.AnsweredMs, s.NextMs
}

// Transaction implements admin.Operator.
func (s *Server) Transaction(_ context.Context, id kite.MessageID) (operate.Transaction, error) {
	facts, err := s.facts(id)
	if err != nil {
		return operate.Transaction{}, err
	}
	t := operate.Transaction{ID: id.String()}
	for i := range facts {
		f := &facts[i]
		switch f.Kind {
		case kite.KindPrepared:
			t.Topic, t.Group, t.PreparedMs, t.State = f.Topic, string(f.Group), f.TimeMs, operate.Open
		case kite.KindCommit:
			if f.DueMs == 0 { // else its time came, and it was committed before
				decided(&t, operate.Committed, f)
			}
			t.Seq = uint64(f.Seq)
		case kite.KindDelayed:
			if t.State != "" { // else it never was a transaction
				decided(&t, operate.Committed, f)
			}
		case kite.KindRollback:
			decided(&t, operate.RolledBack, f)
		case kite.KindPark:
			decided(&t, operate.Parked, f)
		}
	}
	if sight, ok := s.checker.Look(id); ok {
		seen(&t, sight)
	}
	if t.State == "" {
		return t, kite.Errorf(kite.TxUnknown, "transaction %s: this broker knows none of that id", id)
	}
	return t, nil
}

// decided adds who decided, or parked.
func decided(t *operate.Transaction, state string, f *fact) {
	t.State, t.DecidedMs, t.By, t.Reason = state, f.TimeMs, f.note.By, f.note.Reason
}

// Decide implements admin.Operator.
func (s *Server) Decide(ctx context.Context, id kite.MessageID, d admin.Decision, note kite.Note) (operate.Transaction, error) {
	item := kite.Item{Record: kite.Record{ID: id, Body: kite.AppendNote(nil, note.By, note.Reason)}}
	switch d {
	case admin.Commit:
		item.Kind = kite.KindCommit
	case admin.Rollback:
		item.Kind = kite.KindRollback
	case admin.Check:
		item.Kind = kite.KindOrder
		item.Body = kite.AppendOrder(nil, &kite.Order{Action: kite.ActionRecheck, Note: note})
	}
	done, err := s.lane.Do(ctx, item)
	switch {
	case err != nil:
		return operate.Transaction{}, err
	case done.Verdict == kite.TxUnknown && d == admin.Check:
		return operate.Transaction{}, kite.Errorf(kite.TxUnknown, "transaction %s: it is not undecided here", id)
	case done.Verdict == kite.TxUnknown:
		return operate.Transaction{}, kite.Errorf(kite.TxUnknown, "transaction %s: this broker knows none of that id", id)
	case done.Verdict == kite.TxConflict:
		was := kite.DecodeNote(done.Body)
		return operate.Transaction{}, kite.Errorf(kite.TxConflict, "transaction %s: it was %s at %s%s: the first decision stands",
			id, done.Outcome, time.UnixMilli(done.TimeMs).UTC().Format(time.RFC3339), by(was))
	case done.Verdict != kite.OK:
		return operate.Transaction{}, kite.Errorf(done.Verdict, "transaction %s: %s: see the broker's log", id, done.Verdict)
	}
	if d == admin.Check && done.Repeat { // it is open: nothing to change, only to hurry
		done.Repeat = !s.checker.CheckNow(id)
	}
	t, err := s.Transaction(ctx, id)
	t.Repeat = done.Repeat
	return t, err
}

// by says who did it and why, "" when nobody said.
func by(n kite.Note) string {
	text := ""
	if n.By != "" {
		text = " by " + n.By
	}
	if n.Reason != "" {
		text += ": " + n.Reason
	}
	return text
}
