package memory

import (
	"strings"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

const (
	slotBits   = 10
	chunkSlots = 1 << slotBits
	arenaBytes = 256 << 10
)

// chunk is the unit that Trim removes: up to chunkSlots records and the bytes they point to. A
// record and its bytes are written once, before readers learn of them, and never after; a chunk that
// left the journal lives as long as a reader looks at it.
type chunk struct {
	number   uint64
	slots    []kite.Record
	older    []kite.Position // of each slot: the record before it with the same id
	arena    []byte          // the free rest of the newest piece
	bytes    int64           // what the records of this chunk count
	messages int
	newestMs int64
	sealed   bool
	holds    map[*stream]kite.Seq // the highest Seq whose bytes lie here
}

func newChunk(number uint64) *chunk {
	return &chunk{number: number, slots: make([]kite.Record, 0, chunkSlots), holds: map[*stream]kite.Seq{}}
}

func (c *chunk) full() bool { return c.sealed || len(c.slots) == cap(c.slots) }

// position gives records their places: chunk numbers begin at 1, so no position is 0.
func (c *chunk) position(slot int) kite.Position {
	return kite.Position(c.number<<slotBits + uint64(slot))
}

// put copies the record into the next slot.
func (c *chunk) put(r *kite.Record, topic string) *kite.Record {
	c.slots = append(c.slots, *r)
	slot := &c.slots[len(c.slots)-1]
	slot.Topic = topic
	slot.Type, slot.Group, slot.Body = c.copy(r.Type), c.copy(r.Group), c.copy(r.Body)
	slot.Position = c.position(len(c.slots) - 1)
	c.bytes += cost(r)
	if r.Published() {
		c.messages++
	}
	c.newestMs = max(c.newestMs, r.TimeMs)
	return slot
}

func (c *chunk) copy(b []byte) []byte {
	n := len(b)
	if n > arenaBytes/8 {
		return append(make([]byte, 0, n), b...)
	}
	if n > len(c.arena) {
		c.arena = make([]byte, arenaBytes)
	}
	piece := c.arena[:n:n]
	c.arena = c.arena[n:]
	copy(piece, b)
	return piece
}

func (c *chunk) keep(st *stream, seq kite.Seq) { c.holds[st] = max(c.holds[st], seq) }

func (c *chunk) needed(needs store.Needs) bool {
	for st, newest := range c.holds {
		if floor, ok := needs.Floors[st.name]; ok && newest >= floor {
			return true
		}
	}
	for _, pos := range needs.Open {
		if uint64(pos)>>slotBits == c.number {
			return true
		}
	}
	return false
}

// recordBytes is what a record counts beside its type, group and body.
const recordBytes = 272

func cost(r *kite.Record) int64 {
	return recordBytes + int64(len(r.Type)+len(r.Group)+len(r.Body))
}

// hasBytesElsewhere tells whether the message of the record lies at its Ref.
func hasBytesElsewhere(r *kite.Record) bool {
	return r.Kind == kite.KindCommit || r.Kind == kite.KindDelayed && r.Ref != 0
}

// stream is where the records of one topic, of one group's dead letters, or of one minute's delayed messages
// lie.
type stream struct {
	name   string
	first  kite.Seq // of places
	next   kite.Seq // 0 when the stream never had a record
	places []kite.Position

	// Of Append: the Seq after those that batch number turn has given so far.
	turn    uint64
	pending kite.Seq
}

func newStream(name string) *stream {
	return &stream{name: strings.Clone(name)}
}

func (s *stream) add(r *kite.Record) {
	if len(s.places) == 0 {
		s.first = r.Seq
	}
	s.places = append(s.places, r.Position)
	s.next = r.Seq + 1
}

// from returns the places of the stream from seq on, with the Seq of the first.
func (s *stream) from(seq kite.Seq) ([]kite.Position, kite.Seq) {
	seq = max(seq, s.first)
	if seq >= s.first+kite.Seq(len(s.places)) {
		return nil, seq
	}
	return s.places[seq-s.first:], seq
}
