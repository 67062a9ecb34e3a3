package txn

import (
	"container/heap"

	"github.com/kiteq/kiteq/internal/kite"
)

// pending is one undecided transaction: one that is asked about, or a parked one. There may be very many,
// so it is kept small: names are shared, and the group's list runs through it.
type pending struct {
	id         kite.MessageID
	group      *producers
	topic      string
	position   kite.Position
	preparedMs int64
	dueMs      int64 // the next check, or of a parked one the end
	expiresMs  int64
	askedMs    int64
	answeredMs int64
	asked      string // who got the last check
	answered   string // who answered one with "unknown"
	checks     int32
	index      int32 // in the queue
	parked     bool

	next, before *pending // in the group
}

// producers is a group that has undecided transactions.
type producers struct {
	name  string
	first *pending
}

// book finds the undecided transactions by id, by group and by time.
type book struct {
	queue  queue
	open   map[kite.MessageID]*pending
	groups map[string]*producers
	parked int
}

func newBook() book {
	return book{open: map[kite.MessageID]*pending{}, groups: map[string]*producers{}}
}

// add enters p, whose group is named by what may be a view.
func (b *book) add(p *pending, group []byte) {
	g := b.groups[string(group)]
	if g == nil {
		g = &producers{name: string(group)}
		b.groups[g.name] = g
	}
	p.group = g
	if p.next = g.first; p.next != nil {
		p.next.before = p
	}
	g.first = p
	b.open[p.id] = p
	if p.parked {
		b.parked++
	}
	heap.Push(&b.queue, p)
}

func (b *book) remove(p *pending) {
	delete(b.open, p.id)
	if p.next != nil {
		p.next.before = p.before
	}
	if p.before != nil {
		p.before.next = p.next
	} else if p.group.first = p.next; p.next == nil {
		delete(b.groups, p.group.name)
	}
	if p.parked {
		b.parked--
	}
	heap.Remove(&b.queue, int(p.index))
}

// move gives p another time.
func (b *book) move(p *pending, dueMs int64) {
	p.dueMs = dueMs
	heap.Fix(&b.queue, int(p.index))
}

func (b *book) park(p *pending, parked bool) {
	if p.parked != parked {
		p.parked = parked
		if parked {
			b.parked++
		} else {
			b.parked--
		}
	}
}

// queue has what is due first at the front.
type queue []*pending

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].dueMs < q[j].dueMs }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = int32(i), int32(j)
}

func (q *queue) Push(x any) {
	p := x.(*pending)
	p.index = int32(len(*q))
	*q = append(*q, p)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return p
}
