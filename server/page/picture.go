package page

import (
	"slices"
	"strings"
	"time"

	"github.com/kiteq/kiteq/internal/operate"
)

// A story is drawn as a grid: a lane for the message and one for each group, a column for each moment at which
// something happened. Moments are as far apart as they need to be read, not as time went: the gap is written
// between them, since a retry may come a millisecond or a day after what it repeats.
const (
	laneName     = 170 // px before the first column
	columnWidth  = 116
	laneHeight   = 58
	pictureTop   = 54
	maxLanes     = 40
	maxColumns   = 40
	longestLabel = 20 // characters of a lane's name
)

// picture is a story with places, in px.
type picture struct {
	Width, Height int
	Lanes         []lane
	Columns       []column
	Marks         []mark
	More          int // lanes and moments that are not drawn
}

type lane struct {
	Name, Label string // Label is Name, or its beginning
	Y, From, To int    // of its line
}

type column struct {
	X     int
	Clock string // the moment, "now", or what is to come
	Gap   string // since the column before
	When  string // past, now, later
}

type mark struct {
	X, Y  int
	Level string
	Glyph string
	Word  string
	Text  string
}

// glyphs tell levels to those who see no colours.
var glyphs = map[string]string{fine: "✓", bad: "✕", warn: "…", dim: "–"}

// cell is what is drawn in one place.
type cell struct{ lane, column int }

// moments gives each event its column: what was, by time; what is so now; what is to come.
func moments(events []operate.Event, now time.Time) (columns []column, at map[int64]int) {
	var past, later []int64
	for _, e := range events {
		switch {
		case e.AtMs > now.UnixMilli():
			later = append(later, e.AtMs)
		case e.AtMs > 0:
			past = append(past, e.AtMs)
		}
	}
	slices.Sort(past)
	slices.Sort(later)
	past, later = slices.Compact(past), slices.Compact(later)
	at = map[int64]int{}
	before := int64(0)
	add := func(ms int64, when, clock string) {
		c := column{X: laneName + columnWidth/2 + len(columns)*columnWidth, Clock: clock, When: when}
		if before > 0 && when != "now" {
			c.Gap = "+ " + span(time.Duration(ms-before)*time.Millisecond)
		}
		at[ms] = len(columns)
		before = ms
		columns = append(columns, c)
	}
	for _, ms := range past {
		add(ms, "past", clock(ms, now))
	}
	add(0, "now", "now")
	before = now.UnixMilli()
	for _, ms := range later {
		add(ms, "later", clock(ms, now))
	}
	return columns, at
}

// clock writes the time of day, and of another day the date.
func clock(ms int64, now time.Time) string {
	t := time.UnixMilli(ms).UTC()
	if t.Format(time.DateOnly) == now.UTC().Format(time.DateOnly) {
		return t.Format("15:04:05.000")
	}
	return t.Format("Jan 2 15:04")
}

// draw places the events. What is too much to draw is in the list below the picture.
func draw(events []operate.Event, now time.Time) picture {
	columns, at := moments(events, now)
	var p picture
	skipped := max(0, len(columns)-maxColumns) // the newest are drawn
	p.Columns = columns[skipped:]
	for i := range p.Columns {
		p.Columns[i].X -= skipped * columnWidth
	}
	lanes, left := map[string]int{}, map[string]bool{}
	marks := map[cell]int{}
	for i := range events {
		e := &events[i]
		l, known := lanes[e.Group]
		if !known {
			if len(lanes) == maxLanes {
				left[e.Group] = true
				continue
			}
			l = len(p.Lanes)
			lanes[e.Group] = l
			p.Lanes = append(p.Lanes, newLane(e.Group, l))
		}
		if c := at[e.AtMs] - skipped; c >= 0 {
			p.mark(marks, cell{l, c}, e)
		}
	}
	p.More = skipped + len(left)
	for i := range p.Marks {
		m := &p.Marks[i]
		l := &p.Lanes[(m.Y-pictureTop)/laneHeight]
		l.From, l.To = min(l.From, m.X), max(l.To, m.X)
	}
	p.Width = laneName + len(p.Columns)*columnWidth
	p.Height = pictureTop + len(p.Lanes)*laneHeight
	return p
}

func newLane(group string, number int) lane {
	l := lane{Name: group, Y: pictureTop + number*laneHeight + laneHeight/2, From: 1 << 20}
	if group == "" {
		l.Name = "the message"
	}
	l.Label = l.Name
	if runes := []rune(l.Name); len(runes) > longestLabel {
		l.Label = string(runes[:longestLabel-1]) + "…"
	}
	return l
}

// mark draws the event; several in one place are one mark, of the worst.
func (p *picture) mark(marks map[cell]int, at cell, e *operate.Event) {
	level := levelOf(e.What)
	i, taken := marks[at]
	if !taken {
		marks[at] = len(p.Marks)
		p.Marks = append(p.Marks, mark{
			X: p.Columns[at.column].X, Y: p.Lanes[at.lane].Y, Level: level, Glyph: glyphs[level], Word: e.What, Text: e.Text,
		})
		return
	}
	m := &p.Marks[i]
	m.Text += "\n" + e.Text
	if severity[level] > severity[m.Level] {
		m.Level, m.Glyph, m.Word = level, glyphs[level], e.What
	}
	if !strings.HasSuffix(m.Word, " …") {
		m.Word += " …"
	}
}
