package sequence

import (
	"context"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestStandings asks the lane where groups stand: what was ordered before is in the answer, and the answer is
// the asker's own.
func TestStandings(t *testing.T) {
	t.Parallel()
	r := newMMapRig(t, Options{})
	if _, err := r.Standings(cancelled(t), "", ""); kite.CodeOf(err) != kite.Unavailable {
		t.Errorf("nobody answers: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	for _, group := range []string{"s-a", "s-b"} {
		if _, err := r.Do(t.Context(), order(kite.ActionPause, "trade", group, 0)); err != nil {
			t.Fatal(err)
		}
	}
	mine, err := r.Standings(t.Context(), "trade", "s-a")
	if err != nil || len(mine) != 1 || mine[0].Topic != "trade" || mine[0].Group != "s-a" || !mine[0].Paused {
		t.Fatalf("%+v, %v", mine, err)
	}
	mine[0].Seek(77) // a copy: the lane must not notice
	if again, err := r.Standings(t.Context(), "", "s-a"); err != nil || len(again) != 1 || again[0].Turn != 0 {
		t.Errorf("%+v, %v", again, err)
	}
	if all, err := r.Standings(t.Context(), "", ""); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	if none, err := r.Standings(t.Context(), "fee", ""); err != nil || len(none) != 0 {
		t.Errorf("%+v, %v", none, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := r.Standings(t.Context(), "", ""); kite.CodeOf(err) != kite.Unavailable {
		t.Errorf("after the end: %v", err)
	}
}
