package server

import (
	"slices"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// TestLetters pages through dead letters of which one in the middle is discarded, and refuses what cannot be.
func TestLetters(t *testing.T) {
	t.Parallel()
	s, _ := start(t, testConfig(), Control{})
	ctx, note := t.Context(), kite.Note{By: "operator ann", Reason: "why"}
	for n := range 4 {
		body := kite.AppendDeadLetter(nil, &kite.DeadLetter{Seq: kite.Seq(n + 1), Attempts: 3, Reason: "expired", Payload: []byte("no message")})
		done, err := s.lane.Do(ctx, kite.Item{Record: kite.Record{
			Kind: kite.KindDead, ID: kite.MessageID{1, byte(n)}, Topic: "trade", Group: []byte("s-a"), Type: []byte("paid"), Body: body,
		}})
		if err != nil || done.Verdict != kite.OK {
			t.Fatal(done.Verdict, err)
		}
	}
	if l, err := s.Dispose(ctx, "trade", "s-a", 2, false, note); err != nil || l.State != operate.Discarded {
		t.Fatalf("%+v, %v", l, err)
	}
	if l, err := s.Dispose(ctx, "trade", "s-a", 4, true, note); err != nil || l.State != operate.Requeued {
		t.Fatalf("%+v, %v", l, err)
	}
	var listed []uint64
	f := operate.Filter{Topic: "trade", Group: "s-a", Limit: 1}
	for range 9 {
		page, err := s.Letters(ctx, f, true)
		if err != nil || len(page.Letters) > 1 {
			t.Fatalf("%+v, %v", page, err)
		}
		for _, l := range page.Letters {
			listed = append(listed, l.N)
			if string(l.Body) != "no message" || l.Header != nil || l.Reason != "expired" || l.Seq != l.N {
				t.Errorf("%+v", l)
			}
		}
		if f.After = page.Next; f.After == "" {
			break
		}
	}
	if !slices.Equal(listed, []uint64{1, 3, 4}) {
		t.Errorf("listed %v, want 1, 3 and 4", listed)
	}
	for name, code := range map[string]kite.Code{"2": kite.TxConflict, "5": kite.NotServed} {
		if _, err := s.Dispose(ctx, "trade", "s-a", kite.Seq(name[0]-'0'), true, note); kite.CodeOf(err) != code {
			t.Errorf("requeue of %s: %v, want code %v", name, err, code)
		}
	}
	if _, err := s.Letters(ctx, operate.Filter{Topic: "trade", Group: "s-a", After: "x", Limit: 1}, false); kite.CodeOf(err) != kite.Invalid {
		t.Errorf("after x: %v", err)
	}
	groups, err := s.Groups(ctx, operate.Filter{Group: "s-a"})
	if err != nil || len(groups.Groups) != 1 || groups.Groups[0].Dead != 3 || groups.Groups[0].Bound {
		t.Errorf("%+v, %v", groups, err)
	}
}
