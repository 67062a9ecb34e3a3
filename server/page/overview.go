package page

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/kiteq/kiteq/internal/operate"
)

// The rows of each table, and the groups in trouble, that the overview has.
const (
	overviewRows   = 8
	overviewAlarms = 8
)

// undecidedAfter is how old an undecided transaction may be before somebody should look.
const undecidedAfter = 10 * time.Minute

// alarm is something that an operator should look at.
type alarm struct{ Level, Text, Link string }

// overview is the body of the first page.
type overview struct {
	Alarms       []alarm
	MoreAlarms   int
	All          flow
	Acked, Sent  latency // in the last minute
	InFlight     int
	Delayed      int64
	Connections  int
	Dead         int64
	Transactions operate.Transactions
	Topics       []topicRow
	TopicCount   int
	Groups       []*groupRow
	GroupCount   int
	Brokers      []operate.Broker
	BrokersError string
}

func (p *Page) overview(r *http.Request) (sheet, error) {
	now, _ := p.history.latest()
	o := overview{
		All: now.now[subject{}], InFlight: now.counters.InFlight, Delayed: now.counters.Delayed,
		Connections: now.counters.Connections,
	}
	o.Acked, o.Sent = p.history.recent()
	var err error
	if o.Transactions, err = p.broker.Transactions(r.Context(), operate.Filter{Limit: 1}); err != nil {
		return sheet{}, err
	}
	if o.Topics, err = p.topicRows(r); err != nil {
		return sheet{}, err
	}
	if o.Groups, err = p.groupRows(r.Context(), func(*groupRow) bool { return true }); err != nil {
		return sheet{}, err
	}
	for i := range o.Groups {
		o.Dead += o.Groups[i].Dead
	}
	all, err := p.census.take(r.Context())
	if err != nil {
		return sheet{}, err
	}
	brokers, err := p.broker.Brokers(r.Context())
	if o.Brokers = brokers.Brokers; err != nil {
		o.BrokersError = err.Error()
	}
	o.raise(now, all.Bad)
	o.TopicCount, o.GroupCount = len(o.Topics), len(o.Groups)
	slices.SortStableFunc(o.Topics, func(a, b topicRow) int { return cmp.Compare(b.In+b.Out, a.In+a.Out) })
	o.Topics = o.Topics[:min(len(o.Topics), overviewRows)]
	sortGroups(o.Groups, "backlog")
	o.Groups = o.Groups[:min(len(o.Groups), overviewRows)]
	return sheet{Title: "Overview", Section: "overview", Live: true, Plots: &subject{}, Body: o}, nil
}

// raise lists what needs attention, the worst first.
func (o *overview) raise(now *sample, badBindings []operate.BadBinding) {
	add := func(level, link, format string, args ...any) {
		o.Alarms = append(o.Alarms, alarm{Level: level, Text: fmt.Sprintf(format, args...), Link: link})
	}
	tx := &o.Transactions
	if tx.Parked > 0 {
		add(bad, path("transactions")+"?state=parked", "%s: the broker has stopped asking, and nobody is told until you decide.", plural(tx.Parked, "parked transaction"))
	}
	if age := now.at.Sub(time.UnixMilli(tx.OldestMs)); tx.Open > 0 && tx.OldestMs > 0 && age > undecidedAfter {
		add(warn, path("transactions"), "The oldest undecided transaction waits for %s: is its producer connected, and does it answer checks?", span(age))
	}
	if c := &now.counters; c.WaitingMax > 0 && c.Waiting > c.WaitingMax/2 {
		add(bad, path("topics"), "%s of at most %s requests wait for the journal: the disk is slow. At the bound publishes are refused.", count(c.Waiting), count(c.WaitingMax))
	}
	o.raiseGroups(add)
	if o.Dead > 0 {
		add(warn, path("deadletters"), "%s: what could not be delivered is there to be requeued or discarded.", plural(o.Dead, "dead letter"))
	}
	for i, b := range badBindings {
		if i == 3 {
			add(warn, path("groups"), "%s more are left out.", plural(len(badBindings)-i, "binding"))
			break
		}
		add(warn, path("groups"), "A binding of group %s on topic %s is left out: %s", b.Group, b.Topic, b.Error)
	}
}

// raiseGroups adds the groups that do worst. Dead letters are told for all groups together.
func (o *overview) raiseGroups(add func(level, link, format string, args ...any)) {
	var worst []*groupRow
	for _, g := range o.Groups {
		if severity[g.Level] >= severity[warn] && g.State != "dead letters" {
			worst = append(worst, g)
		}
	}
	slices.SortFunc(worst, func(a, b *groupRow) int {
		return cmp.Or(cmp.Compare(severity[b.Level], severity[a.Level]), cmp.Compare(b.Unsettled, a.Unsettled), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Group.Group, b.Group.Group))
	})
	shown := min(len(worst), overviewAlarms)
	for _, g := range worst[:shown] {
		add(g.Level, path("groups", g.Topic, g.Group.Group), "Group %s on topic %s is %s. %s", g.Group.Group, g.Topic, g.State, g.Why())
	}
	o.MoreAlarms = len(worst) - shown
}

// GroupHeads are the columns of its table of groups, which is short and not sorted.
func (o overview) GroupHeads() []head {
	heads := make([]head, len(groupHeads))
	for i, h := range groupHeads {
		heads[i].Name = h.name
	}
	return heads
}
