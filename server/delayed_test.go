package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// TestDelayed pages through messages that wait, of several minutes and topics, plain and prepared ones, cancels some,
// and refuses to cancel what cannot be.
func TestDelayed(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.Topics = []string{"trade", "fee"}
	s, _ := start(t, c, Control{})
	ctx, note := t.Context(), kite.Note{By: "operator ann", Reason: "sold out"}
	begin := time.Now()
	due := begin.Add(time.Hour).Truncate(time.Minute)
	do := func(kind kite.Kind, n int, topic string, at time.Time) kite.Item {
		t.Helper()
		done, err := s.lane.Do(ctx, kite.Item{Record: kite.Record{
			Kind: kind, ID: kite.MessageID{1, byte(n)}, Topic: topic, Type: []byte("paid"), Group: []byte("p-till"), Limit: 100, DueMs: kite.UnixMs(at),
			Body: []byte("body"),
		}})
		if err != nil || done.Verdict != kite.OK {
			t.Fatal(done.Verdict, err)
		}
		return done
	}
	for n := range 9 {
		do(kite.KindMessage, n, []string{"trade", "fee"}[n%2], due.Add(time.Duration(n/3)*time.Hour))
	}
	do(kite.KindPrepared, 9, "trade", due)
	if done, err := s.lane.Do(ctx, kite.Item{Record: kite.Record{Kind: kite.KindCommit, ID: kite.MessageID{1, 9}, Body: kite.AppendNote(nil, "x", "")}}); err != nil || done.Kind != kite.KindDelayed {
		t.Fatal(done.Kind, err)
	}
	list := func(f operate.Filter) (ids []byte) {
		t.Helper()
		for range 30 {
			page, err := s.Delayed(ctx, f)
			if err != nil || len(page.Delayed) > f.Limit {
				t.Fatalf("%+v, %v", page, err)
			}
			for _, p := range page.Delayed {
				id, _ := kite.ParseMessageID(p.ID)
				ids = append(ids, id[1])
				if p.Type != "paid" || p.Group != "p-till" || p.State != operate.Waits || p.DueMs < kite.UnixMs(due) || p.DecidedMs < kite.UnixMs(begin) {
					t.Errorf("%+v", p)
				}
			}
			if f.After = page.Next; f.After == "" {
				return ids
			}
		}
		t.Fatal("the list does not end")
		return nil
	}
	for limit := 1; limit < 12; limit++ {
		if ids := list(operate.Filter{Limit: limit}); !slices.Equal(ids, []byte{0, 1, 2, 9, 3, 4, 5, 6, 7, 8}) {
			t.Errorf("limit %d: %v", limit, ids)
		}
	}
	p, err := s.Cancel(ctx, kite.MessageID{1, 4}, note)
	if err != nil || p.State != operate.Cancelled || p.By != note.By || p.Reason != note.Reason || p.Topic != "trade" || p.CancelledMs < kite.UnixMs(begin) || p.Repeat {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err = s.Cancel(ctx, kite.MessageID{1, 4}, kite.Note{By: "operator bob"}); err != nil || !p.Repeat || p.By != note.By || p.DueMs != kite.UnixMs(due.Add(time.Hour)) {
		t.Errorf("again: %+v, %v", p, err)
	}
	expectTold(t, s, kite.MessageID{1, 9}, operate.Delayed, "committed by x; delivered from")
	if tx, err := s.Transaction(ctx, kite.MessageID{1, 9}); err != nil || tx.State != operate.Committed || tx.By != "x" {
		t.Errorf("%+v, %v", tx, err)
	}
	if p, err = s.Cancel(ctx, kite.MessageID{1, 9}, note); err != nil || p.Type != "paid" || p.Group != "p-till" {
		t.Errorf("of a transaction: %+v, %v", p, err)
	}
	if ids := list(operate.Filter{Limit: 2, Topic: "trade"}); !slices.Equal(ids, []byte{0, 2, 6, 8}) {
		t.Errorf("of trade: %v", ids)
	}
	expectTold(t, s, kite.MessageID{1, 4}, operate.Cancelled, "by operator ann: sold out; it is never delivered")
	now := do(kite.KindMessage, 20, "trade", time.Now().Add(5*time.Millisecond))
	if now.Kind == kite.KindDelayed {
		expectTold(t, s, now.ID, operate.Stored, "its time has come")
		if _, err := s.Cancel(ctx, now.ID, note); kite.CodeOf(err) != kite.TxConflict || !strings.Contains(err.Error(), "seq 1 ") {
			t.Errorf("too late: %v", err)
		}
	}
	if _, err := s.Cancel(ctx, kite.MessageID{7}, note); kite.CodeOf(err) != kite.TxUnknown {
		t.Errorf("of nothing: %v", err)
	}
	for _, after := range []string{"x", "1", "1-", "-1-1", "1-x"} {
		if _, err := s.Delayed(ctx, operate.Filter{After: after, Limit: 1}); kite.CodeOf(err) != kite.Invalid {
			t.Errorf("after %s: %v", after, err)
		}
	}
	page, err := s.Delayed(ctx, operate.Filter{Limit: 1, After: fmt.Sprintf("%d-0", int64(1)<<40)})
	if err != nil || len(page.Delayed) != 0 || page.Waiting != 8 {
		t.Errorf("behind the end: %+v, %v", page, err)
	}
	counters, err := s.Counters(ctx)
	if err != nil || counters.Delayed != 8 || counters.DelayedMinutes == 0 {
		t.Errorf("%+v, %v", counters, err)
	}
}
