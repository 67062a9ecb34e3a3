package page

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/operate"
)

// TestPicture puts each event on the lane of its group, in the column of its moment.
func TestPicture(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	ms := now.UnixMilli()
	p := draw([]operate.Event{
		{AtMs: ms - 3000, What: operate.Stored, Text: "stored as seq 1"},
		{AtMs: ms - 2000, What: operate.Failed, Group: "s-a", Text: "attempt 1"},
		{AtMs: ms - 2000, What: operate.InFlight, Group: "s-a", Text: "attempt 2"},
		{What: operate.Settled, Group: "s-b", Text: "answered"},
		{AtMs: ms + 48*3600_000, What: operate.Expires, Text: "delivered no more"},
	}, now)
	var got []string
	for _, c := range p.Columns {
		got = append(got, strings.TrimSpace(c.When+" "+c.Clock+" "+c.Gap))
	}
	if want := "past 15:04:02.000, past 15:04:03.000 + 1.0 s, now now, later Jan 4 15:04 + 2 days"; strings.Join(got, ", ") != want {
		t.Errorf("columns %q\nwant %q", strings.Join(got, ", "), want)
	}
	got = nil
	for _, m := range p.Marks {
		got = append(got, fmt.Sprintf("%s/%d %s %s %s", p.Lanes[(m.Y-pictureTop)/laneHeight].Name, (m.X-laneName)/columnWidth, m.Level, m.Glyph, m.Word))
	}
	if want := "the message/0 ok ✓ stored, s-a/1 bad ✕ failed …, s-b/2 ok ✓ settled, the message/3 dim – expires"; strings.Join(got, ", ") != want {
		t.Errorf("marks %q\nwant %q", strings.Join(got, ", "), want)
	}
	if m := p.Marks[1]; m.Text != "attempt 1\nattempt 2" {
		t.Errorf("two in one place: %q", m.Text)
	}
	if l := p.Lanes[0]; l.From != p.Marks[0].X || l.To != p.Marks[3].X || p.Width != laneName+4*columnWidth || p.Height != pictureTop+3*laneHeight {
		t.Errorf("%+v of %d x %d", l, p.Width, p.Height)
	}
}

// TestPictureIsBounded draws the newest moments and the first groups of a long story.
func TestPictureIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	var events []operate.Event
	for i := range 1000 {
		events = append(events, operate.Event{AtMs: now.UnixMilli() - int64(2000-i), What: operate.Failed, Group: "s-a"})
	}
	for i := range 1000 {
		events = append(events, operate.Event{What: operate.Settled, Group: fmt.Sprint("s-", i)})
	}
	p := draw(events, now)
	if len(p.Columns) != maxColumns || len(p.Lanes) != maxLanes || p.Columns[maxColumns-1].When != "now" || p.Columns[0].X != laneName+columnWidth/2 {
		t.Errorf("%d columns from %d, %d lanes", len(p.Columns), p.Columns[0].X, len(p.Lanes))
	}
	if want := 1001 - maxColumns + 1001 - maxLanes; p.More != want {
		t.Errorf("%d more, want %d", p.More, want)
	}
	if got := draw(nil, now); len(got.Marks) != 0 || len(got.Columns) != 1 {
		t.Errorf("of nothing: %+v", got)
	}
}
