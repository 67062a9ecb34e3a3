package page

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// How bad a state is. The templates colour and word by it.
const (
	bad  = "bad"  // messages are not delivered, and nothing will change that by itself
	warn = "warn" // somebody should look
	dim  = "dim"  // nothing is expected to happen
	fine = "ok"
)

// behindAfter is how old a group's oldest message may be before it is said to be behind.
const behindAfter = 5 * time.Minute

// groupRow is a group on a topic, with what the page makes of it.
type groupRow struct {
	operate.Group
	Out   float64 // messages delivered a second
	State string  // one of groupStates
	Level string
	at    time.Time // of the sample
}

func newGroupRow(s *sample, g *operate.Group) *groupRow {
	row := &groupRow{Group: *g, Out: s.now[subject{g.Topic, g.Group}].Out, at: s.at}
	row.State, row.Level = row.condition()
	return row
}

// age is how long its oldest message waits.
func (g *groupRow) age() time.Duration {
	if g.OldestMs == 0 {
		return 0
	}
	return g.at.Sub(time.UnixMilli(g.OldestMs))
}

// condition says how a group does: the worst first.
func (g *groupRow) condition() (state, level string) {
	switch {
	case !g.Bound:
		return "not bound", dim
	case g.BreakerOpen:
		return "failing", bad
	case g.Paused:
		return "paused", warn
	case len(g.Members) == 0 && g.Durable && g.Unsettled > 0:
		return "away", bad
	case len(g.Members) == 0:
		return "away", dim
	case g.age() > behindAfter:
		return "behind", warn
	case g.Dead > 0:
		return "dead letters", warn
	}
	return "fine", fine
}

// Why says in a sentence what its state means, and what to do.
func (g *groupRow) Why() string {
	backlog := plural(g.Unsettled, "message") + " wait"
	if g.Unsettled == 1 {
		backlog += "s"
	}
	switch g.State {
	case "not bound":
		return "Its bindings are gone: it gets nothing. Its place is kept."
	case "failing":
		return "Everything that is delivered to it fails: only a probe is sent now and then. Look into its log. It goes on by itself with the first success."
	case "paused":
		return fmt.Sprintf("An operator has paused it, and %s.", backlog)
	case "away":
		return g.whyAway(backlog)
	case "behind":
		return fmt.Sprintf("Its oldest message waits for %s, and %s in all: its consumers are slow, refuse messages, or are too few.", span(g.age()), backlog)
	case "dead letters":
		return plural(g.Dead, "message") + " could not be delivered to it, and can be requeued or discarded."
	}
	return "It takes what it is sent."
}

func (g *groupRow) whyAway(backlog string) string {
	switch {
	case !g.Durable:
		return "Nobody of it is connected, and it is not durable: it misses what is published meanwhile."
	case g.Unsettled == 0:
		return "Nobody of it is connected, and nothing waits for it."
	case g.OfflineMs == 0:
		return fmt.Sprintf("Nobody of it is connected, and %s. Start its consumers.", backlog)
	}
	since := time.UnixMilli(g.OfflineMs).UTC().Format(time.DateTime)
	return fmt.Sprintf("Nobody of it is connected since %s UTC, and %s. Start its consumers.", since, backlog)
}

// groupStates are what the list can be narrowed to.
var groupStates = []string{"failing", "away", "behind", "paused", "dead letters", "not bound", "fine"}

// groupOrders sort rows; what is the worst comes first.
var groupOrders = map[string]func(a, b *groupRow) int{
	"name":    func(*groupRow, *groupRow) int { return 0 },
	"backlog": func(a, b *groupRow) int { return cmp.Compare(b.Unsettled, a.Unsettled) },
	"oldest": func(a, b *groupRow) int {
		return cmp.Or(cmp.Compare(min(1, b.OldestMs), min(1, a.OldestMs)), cmp.Compare(a.OldestMs, b.OldestMs))
	},
	"flight":  func(a, b *groupRow) int { return cmp.Compare(b.InFlight, a.InFlight) },
	"retries": func(a, b *groupRow) int { return cmp.Compare(b.Armed, a.Armed) },
	"dead":    func(a, b *groupRow) int { return cmp.Compare(b.Dead, a.Dead) },
	"out":     func(a, b *groupRow) int { return cmp.Compare(b.Out, a.Out) },
	"members": func(a, b *groupRow) int { return cmp.Compare(len(b.Members), len(a.Members)) },
}

// sortGroups puts equal rows by their names.
func sortGroups(rows []*groupRow, by string) {
	order := groupOrders[by]
	if order == nil {
		order = groupOrders["backlog"]
	}
	slices.SortFunc(rows, func(a, b *groupRow) int {
		return cmp.Or(order(a, b), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Group.Group, b.Group.Group))
	})
}

// groupRows returns those of the census that keep says.
func (p *Page) groupRows(ctx context.Context, keep func(*groupRow) bool) ([]*groupRow, error) {
	groups, err := p.census.take(ctx)
	if err != nil {
		return nil, err
	}
	now, _ := p.history.latest()
	rows := make([]*groupRow, 0, len(groups.Groups))
	for i := range groups.Groups {
		if row := newGroupRow(now, &groups.Groups[i]); keep(row) {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// groupList is the body of the page with all groups.
type groupList struct {
	listing
	States []string
	Rows   []*groupRow
	Bad    []operate.BadBinding
}

func (p *Page) groups(r *http.Request) (sheet, error) {
	l := groupList{listing: newListing(r), States: groupStates}
	rows, err := p.groupRows(r.Context(), func(row *groupRow) bool {
		return l.finds(row.Topic, row.Group.Group) && (l.State == "" || l.State == row.State)
	})
	if err != nil {
		return sheet{}, err
	}
	sortGroups(rows, l.Sort)
	from, to := l.cut(len(rows))
	l.Rows = rows[from:to]
	all, err := p.census.take(r.Context())
	l.Bad = all.Bad[:min(len(all.Bad), pageSize)]
	return sheet{Title: "Groups", Section: "groups", Live: true, Body: l}, err
}

// groupSheet is the body of the page of one group.
type groupSheet struct {
	*groupRow
	Shown []string // of its members
	More  int      // members that are not shown
}

func (p *Page) group(r *http.Request) (sheet, error) {
	topic, name := r.PathValue("topic"), r.PathValue("group")
	rows, err := p.groupRows(r.Context(), func(row *groupRow) bool { return row.Topic == topic && row.Group.Group == name })
	switch {
	case err != nil:
		return sheet{}, err
	case len(rows) == 0:
		return sheet{}, kite.Errorf(kite.NotServed, "group %q on topic %q: it is not bound here, and never was", name, topic)
	}
	g := groupSheet{groupRow: rows[0]}
	g.Shown = g.Members[:min(len(g.Members), 2*pageSize)]
	g.More = len(g.Members) - len(g.Shown)
	return sheet{Title: name + " on " + topic, Section: "groups", Live: true, Plots: &subject{topic, name}, Body: g}, nil
}
