package delay

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// entry is a message that waits, 40 bytes. Of its name and time there is what its minute does not know.
type entry struct {
	id    kite.MessageID
	ref   kite.Position // of the bytes
	place uint32        // in the minute
	topic uint32        // in minute.names
	due   uint16        // ms of the minute
}

// key orders the entries of a minute, with nothing between two of them left to chance.
func (e *entry) key() uint64 { return uint64(e.due)<<32 | uint64(e.place) }

// minute is the messages that are due in one minute, as far as they are in memory.
//
// It is read in sweeps over its stream. One sweep is enough unless more messages are found than limit: then
// the latest of them are left where they are (bound, rest), and when the others are nearly gone the next sweep
// begins at the first that was left. It knows by visited and done which it meets again. So each sweep takes the
// next slice of time, however many messages are due in the same millisecond.
type minute struct {
	number int64
	limit  int

	next   kite.Seq  // the sweep goes on here
	unread bool      // there is something from next on
	broken time.Time // it could not be read, and is not tried again before
	bound  uint64    // key: later ones stay in the journal
	rest   kite.Seq  // the first of those; 0: none

	visited kite.Seq // up to here, the sweeps before have taken
	done    uint64   // whatever has a key up to this

	queue  queue
	flying int // entries that the lane has
	names  []string
	topics map[string]uint32
}

func newMinute(number int64, from kite.Seq, limit int) *minute {
	return &minute{number: number, limit: limit, next: from, unread: true, bound: math.MaxUint64, topics: map[string]uint32{}}
}

// piece is how many records are read at once: what is due must not wait for a long reading.
const piece = 8192

// read takes the next piece of the stream.
func (m *minute) read(journal Reader) error {
	n := 0
	err := journal.Read(kite.DelayStream(m.number), m.next, func(r *kite.Record) bool {
		m.take(r)
		m.next = r.Seq + 1
		n++
		return n < piece
	})
	if err == nil {
		m.unread = n == piece
	}
	return err
}

func (m *minute) take(r *kite.Record) {
	e := entry{id: r.ID, ref: r.Ref, place: uint32(r.Seq), due: uint16(r.DueMs % 60_000)}
	if e.ref == 0 {
		e.ref = r.Position
	}
	switch key := e.key(); {
	case r.Seq <= m.visited && key <= m.done:
	case key > m.bound:
		m.leave(&e)
	default:
		e.topic = m.topic(r.Topic)
		heap.Push(&m.queue, e)
		if len(m.queue) > m.limit {
			m.shrink()
		}
	}
}

func (m *minute) topic(name string) uint32 {
	number, ok := m.topics[name]
	if !ok {
		number = uint32(len(m.names))
		m.names = append(m.names, name)
		m.topics[name] = number
	}
	return number
}

// shrink leaves the later quarter in the journal.
func (m *minute) shrink() {
	slices.SortFunc(m.queue, func(a, b entry) int { return cmp.Compare(a.key(), b.key()) }) // a heap, too
	keep := m.limit - m.limit/4
	for i := range m.queue[keep:] {
		m.leave(&m.queue[keep+i])
	}
	m.queue = m.queue[:keep]
	m.bound = m.queue[keep-1].key()
}

func (m *minute) leave(e *entry) {
	if place := kite.Seq(e.place); m.rest == 0 || place < m.rest {
		m.rest = place
	}
}

// sweep begins the next sweep when the queue has room for what was left.
func (m *minute) sweep() {
	if m.rest == 0 || m.unread || len(m.queue) > m.limit/4 {
		return
	}
	m.visited, m.done = m.next-1, m.bound
	m.next, m.bound = m.rest, math.MaxUint64
	m.rest, m.unread = 0, true
}

// dueMs returns when the first entry is due; ok is false when there is none.
func (m *minute) dueMs() (ms int64, ok bool) {
	if len(m.queue) == 0 {
		return 0, false
	}
	return m.number*60_000 + int64(m.queue[0].due), true
}

// idle tells whether nothing of the minute is left.
func (m *minute) idle() bool {
	return len(m.queue) == 0 && m.flying == 0 && !m.unread && m.rest == 0
}

// queue is a heap with the first that is due at the front.
type queue []entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].key() < q[j].key() }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(entry)) }

func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	*q = (*q)[:last]
	return e
}
