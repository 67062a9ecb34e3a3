package page

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
)

// topicRow is a topic at one moment.
type topicRow struct {
	Name    string
	Class   string
	In, Out float64 // messages a second
	Groups  int     // that are bound
	Backlog int64   // of the group that is furthest behind
	Dead    int64   // dead letters of all its groups
	Level   string  // of the group that does worst
	State   string
}

// severity orders levels.
var severity = map[string]int{fine: 0, dim: 1, warn: 2, bad: 3}

// topicRows returns every topic that is served, by name.
func (p *Page) topicRows(r *http.Request) ([]topicRow, error) {
	now, _ := p.history.latest()
	rows := make([]topicRow, len(now.counters.Topics))
	byName := make(map[string]*topicRow, len(rows))
	for i, name := range now.counters.Topics {
		f := now.now[subject{topic: name}]
		rows[i] = topicRow{Name: name, Class: string(now.counters.Classes.Of(name)), In: f.In, Out: f.Out, Level: dim, State: "no group"}
		byName[name] = &rows[i]
	}
	_, err := p.groupRows(r.Context(), func(g *groupRow) bool {
		if t := byName[g.Topic]; t != nil {
			t.add(g)
		}
		return false
	})
	slices.SortFunc(rows, func(a, b topicRow) int { return cmp.Compare(a.Name, b.Name) })
	return rows, err
}

// add counts a group in.
func (t *topicRow) add(g *groupRow) {
	t.Dead += g.Dead
	if g.Bound {
		t.Groups++
		t.Backlog = max(t.Backlog, g.Unsettled)
	}
	if level := g.Level; level != dim && (t.Level == dim || severity[level] > severity[t.Level]) {
		t.Level, t.State = level, g.State
		if level != fine {
			t.State = g.Group.Group + ": " + g.State
		}
	} else if t.Level == dim && g.Bound {
		t.State = g.State
	}
}

// topicOrders sort rows; what is the most comes first.
var topicOrders = map[string]func(a, b *topicRow) int{
	"in":      func(a, b *topicRow) int { return cmp.Compare(b.In, a.In) },
	"out":     func(a, b *topicRow) int { return cmp.Compare(b.Out, a.Out) },
	"groups":  func(a, b *topicRow) int { return cmp.Compare(b.Groups, a.Groups) },
	"backlog": func(a, b *topicRow) int { return cmp.Compare(b.Backlog, a.Backlog) },
	"dead":    func(a, b *topicRow) int { return cmp.Compare(b.Dead, a.Dead) },
}

func sortTopics(rows []topicRow, by string) {
	if order := topicOrders[by]; order != nil {
		slices.SortStableFunc(rows, func(a, b topicRow) int { return order(&a, &b) })
	}
}

// topicList is the body of the page with all topics.
type topicList struct {
	listing
	Rows []topicRow
}

func (p *Page) topics(r *http.Request) (sheet, error) {
	l := topicList{listing: newListing(r)}
	rows, err := p.topicRows(r)
	if err != nil {
		return sheet{}, err
	}
	rows = slices.DeleteFunc(rows, func(t topicRow) bool { return !l.finds(t.Name) })
	sortTopics(rows, l.Sort)
	from, to := l.cut(len(rows))
	l.Rows = rows[from:to]
	return sheet{Title: "Topics", Section: "topics", Live: true, Body: l}, nil
}

// topicSheet is the body of the page of one topic.
type topicSheet struct {
	listing
	Topic topicRow
	Rows  []*groupRow
}

func (p *Page) topic(r *http.Request) (sheet, error) {
	name := r.PathValue("topic")
	rows, err := p.topicRows(r)
	if err != nil {
		return sheet{}, err
	}
	i := slices.IndexFunc(rows, func(t topicRow) bool { return t.Name == name })
	if i < 0 {
		return sheet{}, kite.Errorf(kite.NotServed, "topic %q: it is not served by this broker", name)
	}
	t := topicSheet{listing: newListing(r), Topic: rows[i]}
	groups, err := p.groupRows(r.Context(), func(g *groupRow) bool { return g.Topic == name && t.finds(g.Group.Group) })
	if err != nil {
		return sheet{}, err
	}
	sortGroups(groups, t.Sort)
	from, to := t.cut(len(groups))
	t.Rows = groups[from:to]
	return sheet{Title: name, Section: "topics", Live: true, Plots: &subject{topic: name}, Body: t}, nil
}
