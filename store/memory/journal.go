package memory

import (
	"errors"
	"slices"
	"sync"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// Journal is a journal in memory. New makes it.
//
// Records lie in chunks that are filled one after the other; readers copy a run of pointers under mu
// and visit without it, while the lane writes to slots that nobody knows yet.
type Journal struct {
	o Options

	mu       sync.RWMutex
	chunks   []*chunk // by number; the last one is being filled
	streams  map[string]*stream
	names    names
	bytes    int64
	messages int
	closed   bool

	walks sync.Pool // of *walk, owned by one Read or Load at a time

	// Of the lane.
	topics   map[string]string
	key      []byte
	plan     []*stream
	turn     uint64
	number   uint64        // of the newest chunk
	covered  kite.Position // what the newest checkpoint stands for
	replayed bool
}

var _ store.Journal = (*Journal)(nil)

var errClosed = &kite.Error{Code: kite.Unavailable, Err: errors.New("the journal is closed")}

// New returns an empty journal.
func New(o Options) (*Journal, error) {
	o = o.WithDefaults()
	if err := o.Validate(); err != nil {
		return nil, &kite.Error{Code: kite.Invalid, Op: "make a memory store", Err: err}
	}
	return &Journal{o: o, streams: map[string]*stream{}, names: newNames(), topics: map[string]string{}}, nil
}

// Replay finds nothing: a new journal is empty.
func (j *Journal) Replay(func(*kite.Record) error) error {
	if j.closed {
		return errClosed
	}
	if j.replayed || len(j.chunks) > 0 {
		return kite.Errorf(kite.Invalid, "replay the journal: it is done once, before the first append")
	}
	j.replayed = true
	return nil
}

// Append keeps the batch. It returns store.ErrFull for messages over a bound; records that settle or
// decide are always taken, or a full journal could never be emptied.
func (j *Journal) Append(batch []*kite.Record) error {
	if j.closed {
		return errClosed
	}
	if err := j.prepare(batch); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, r := range batch {
		c := j.room()
		slot := c.put(r, j.topic(r.Topic))
		r.Position = slot.Position
		j.names.add(c, slot)
		j.bytes += cost(r)
		if r.Published() {
			j.messages++
		}
		st := j.plan[i]
		if st == nil {
			continue
		}
		st.add(slot)
		c.keep(st, r.Seq)
		if hasBytesElsewhere(r) {
			j.chunkOf(r.Ref).keep(st, r.Seq)
		}
	}
	return nil
}

// prepare checks the batch before any of it is kept and finds the streams of its records.
func (j *Journal) prepare(batch []*kite.Record) error {
	j.turn++
	j.plan = j.plan[:0]
	bytes, messages := j.bytes, j.messages
	for _, r := range batch {
		if r.Kind == 0 {
			return kite.Errorf(kite.Invalid, "record without a kind")
		}
		st, err := j.place(r)
		if err != nil {
			return err
		}
		j.plan = append(j.plan, st)
		bytes += cost(r)
		if r.Published() {
			messages++
		}
	}
	if messages > j.messages && (bytes > int64(j.o.MaxBytes) || messages > j.o.MaxMessages) {
		return store.ErrFull
	}
	return nil
}

// place checks that r is the next of its stream and returns it, nil for a record of none.
func (j *Journal) place(r *kite.Record) (*stream, error) {
	if hasBytesElsewhere(r) && j.slot(r.Ref) == nil {
		return nil, kite.Errorf(kite.Invalid, "%s of topic %s: no message lies at position %d", r.Kind, r.Topic, r.Ref)
	}
	if r.Kind == kite.KindDelayed && r.DueMs <= 0 {
		return nil, kite.Errorf(kite.Invalid, "delayed record due at %d", r.DueMs)
	}
	j.key = j.key[:0]
	switch r.Kind {
	case kite.KindMessage, kite.KindCommit:
		j.key = append(j.key, r.Topic...)
	case kite.KindDead:
		j.key = append(append(append(j.key, r.Topic...), '/'), r.Group...)
	case kite.KindDelayed:
		j.key = kite.AppendDelayStream(j.key, kite.Minute(r.DueMs))
	}
	if len(j.key) == 0 || r.Seq == 0 {
		return nil, nil
	}
	st := j.streams[string(j.key)]
	if st == nil {
		st = newStream(string(j.key))
		j.mu.Lock()
		j.streams[st.name] = st
		j.mu.Unlock()
	}
	if st.turn != j.turn {
		st.turn, st.pending = j.turn, st.next
	}
	if st.pending != 0 && r.Seq != st.pending {
		return nil, kite.Errorf(kite.Invalid, "append seq %d to %s: the next one is %d", r.Seq, st.name, st.pending)
	}
	st.pending = r.Seq + 1
	return st, nil
}

// room returns the chunk that takes the next record.
func (j *Journal) room() *chunk {
	if n := len(j.chunks); n > 0 && !j.chunks[n-1].full() {
		return j.chunks[n-1]
	}
	j.number++
	c := newChunk(j.number)
	j.chunks = append(j.chunks, c)
	return c
}

// topic returns one string for all records of a topic: the caller's may point into its buffer.
func (j *Journal) topic(name string) string {
	own, ok := j.topics[name]
	if !ok {
		own = string([]byte(name))
		j.topics[own] = own
	}
	return own
}

// chunkOf returns the chunk of the position, nil when it was trimmed. Readers call it under mu.
func (j *Journal) chunkOf(pos kite.Position) *chunk {
	i, ok := slices.BinarySearchFunc(j.chunks, uint64(pos)>>slotBits, func(c *chunk, n uint64) int { return int(c.number) - int(n) })
	if !ok {
		return nil
	}
	return j.chunks[i]
}

// slot returns the record at the position, nil when there is none. Readers call it under mu.
func (j *Journal) slot(pos kite.Position) *kite.Record {
	c := j.chunkOf(pos)
	if i := int(pos & (chunkSlots - 1)); c != nil && i < len(c.slots) {
		return &c.slots[i]
	}
	return nil
}

// Sync has nothing to do for class mem, and no other can be had.
func (j *Journal) Sync(class kite.Class) error {
	if j.closed {
		return errClosed
	}
	if class != kite.ClassMem {
		return kite.Errorf(kite.Invalid, "the memory store cannot make messages %s: use mmap://dir for that", class)
	}
	return nil
}

// Checkpoint keeps no records: there is no Replay to come. It lets Trim remove what precedes it.
func (j *Journal) Checkpoint(state func(yield func(*kite.Record) bool)) error {
	if j.closed {
		return errClosed
	}
	state(func(*kite.Record) bool { return true })
	if n := len(j.chunks); n > 0 {
		j.covered = j.chunks[n-1].position(len(j.chunks[n-1].slots))
	}
	return nil
}

// Trim frees chunks. The newest one, too, is complete when nobody needs any of it.
func (j *Journal) Trim(needs store.Needs) (store.Trimmed, error) {
	var t store.Trimmed
	if j.closed {
		return t, errClosed
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	hurt := map[*stream]bool{}
	j.chunks = slices.DeleteFunc(j.chunks, func(c *chunk) bool {
		over := needs.MaxBytes > 0 && j.bytes > needs.MaxBytes
		if c.newestMs >= needs.BeforeMs && !over || c.position(len(c.slots)) > j.covered || c.needed(needs) {
			return false
		}
		c.sealed = true
		t.Units++
		t.Bytes += c.bytes
		j.bytes -= c.bytes
		j.messages -= c.messages
		for st := range c.holds {
			hurt[st] = true
		}
		j.names.drop(c, needs.SeenMs)
		return true
	})
	for st := range hurt {
		j.shorten(st)
	}
	return t, nil
}

// shorten forgets the places at the stream's front that lead nowhere any more.
func (j *Journal) shorten(st *stream) {
	gone := 0
	for gone < len(st.places) {
		r := j.slot(st.places[gone])
		if r != nil && (r.Kind != kite.KindCommit || j.slot(r.Ref) != nil) {
			break
		}
		gone++
	}
	st.first += kite.Seq(gone)
	st.places = slices.Clone(st.places[gone:]) // the old array would keep its size for ever
	if _, minute := kite.DelayMinute(st.name); minute && len(st.places) == 0 && j.streams[st.name] == st {
		delete(j.streams, st.name) // nobody needs to know where it ended
	}
}

// Class is mem.
func (j *Journal) Class() kite.Class { return kite.ClassMem }

// Err is nil: memory does not fail.
func (j *Journal) Err() error { return nil }

// Close forgets everything.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	j.chunks, j.streams, j.names, j.bytes, j.messages = nil, map[string]*stream{}, newNames(), 0, 0
	return nil
}
