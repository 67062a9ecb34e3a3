package mysql

import (
	"github.com/kiteq/kiteq/internal/kite"
)

// recent is the newest records of all streams, in memory: a flow that has caught up reads what was appended a
// moment ago, and asks the database nothing. The oldest go when there are too many. What a visitor was handed
// stays as it is: nothing here is written twice.
//
// It belongs to Journal.mu.
type recent struct {
	limit  int // bytes
	bytes  int
	chunks []*recentChunk                 // oldest first; the last one is being filled
	bases  map[kite.Position]*kite.Record // what has the bytes of commits to come
}

// recentChunk is what goes at once.
type recentChunk struct {
	arena   []byte
	records []kite.Record
	bytes   int
	streams []*stream // of the records, each once
	bases   []kite.Position
}

const (
	recentChunkBytes   = 256 << 10
	recentChunkRecords = 512
	leastRecent        = 1 << 20 // below this nothing is kept
)

// add copies a record that was committed; st is its stream, nil when it has none.
func (c *recent) add(st *stream, r *kite.Record) {
	if c.limit < leastRecent {
		return
	}
	switch r.Kind {
	case kite.KindPrepared:
		own, chunk := c.keep(r)
		c.base(chunk, own)
	case kite.KindMessage, kite.KindDead:
		own, chunk := c.keep(r)
		st.keep(chunk, own)
	case kite.KindDelayed:
		own, chunk := c.keep(r)
		st.keep(chunk, own)
		if r.Ref == 0 {
			c.base(chunk, own)
		}
	case kite.KindCommit:
		base := c.bases[r.Ref]
		if base == nil {
			st.recent = st.recent[:0] // what comes later begins a new run
			return
		}
		message := shown(*r, base)
		message.Topic = st.name
		own, chunk := c.keep(&message)
		st.keep(chunk, own)
	}
}

func (c *recent) base(chunk *recentChunk, r *kite.Record) {
	if c.bases == nil {
		c.bases = map[kite.Position]*kite.Record{}
	}
	c.bases[r.Position] = r
	chunk.bases = append(chunk.bases, r.Position)
}

// keep returns a copy of the record that does not change, and the chunk that it goes with.
func (c *recent) keep(r *kite.Record) (*kite.Record, *recentChunk) {
	need := len(r.Type) + len(r.Group) + len(r.Body)
	last := len(c.chunks) - 1
	if last < 0 || len(c.chunks[last].records) == recentChunkRecords || cap(c.chunks[last].arena)-len(c.chunks[last].arena) < need {
		c.chunks = append(c.chunks, &recentChunk{
			arena: make([]byte, 0, max(recentChunkBytes, need)), records: make([]kite.Record, 0, recentChunkRecords),
		})
		last++
	}
	chunk := c.chunks[last]
	copied := func(b []byte) []byte {
		at := len(chunk.arena)
		chunk.arena = append(chunk.arena, b...)
		return chunk.arena[at:len(chunk.arena):len(chunk.arena)]
	}
	own := *r
	own.Type, own.Group, own.Body = copied(r.Type), copied(r.Group), copied(r.Body)
	chunk.records = append(chunk.records, own)
	size := need + rowBytes
	chunk.bytes += size
	c.bytes += size
	return &chunk.records[len(chunk.records)-1], chunk
}

// shrink lets the oldest go until the rest fits, and those up to a position that was trimmed.
func (c *recent) shrink(trimmed kite.Position) {
	for len(c.chunks) > 0 && (c.bytes > c.limit && len(c.chunks) > 1 || c.chunks[0].records[0].Position <= trimmed) {
		oldest := c.chunks[0]
		c.chunks[0] = nil
		c.chunks = c.chunks[1:]
		c.bytes -= oldest.bytes
		last := oldest.records[len(oldest.records)-1].Position
		for _, st := range oldest.streams {
			st.dropRecent(last)
		}
		for _, pos := range oldest.bases {
			delete(c.bases, pos)
		}
	}
}

// keep adds the record to the stream's run.
func (s *stream) keep(chunk *recentChunk, r *kite.Record) {
	if n := len(chunk.streams); n == 0 || s.chunk != chunk {
		chunk.streams, s.chunk = append(chunk.streams, s), chunk
	}
	if n := len(s.recent); n > 0 && s.recent[n-1].Seq+1 != r.Seq {
		s.recent = s.recent[:0]
	}
	s.recent = append(s.recent, r)
}

// dropRecent forgets what lies up to the position.
func (s *stream) dropRecent(last kite.Position) {
	n := 0
	for n < len(s.recent) && s.recent[n].Position <= last {
		n++
	}
	clear(s.recent[:n])
	s.recent = s.recent[n:]
}

// run copies what there is from a Seq on, at most cap(into) records. It returns where the run begins, 0 when
// there is none.
func (s *stream) run(into []kite.Record, from kite.Seq) (_ []kite.Record, begins kite.Seq) {
	if s == nil || len(s.recent) == 0 {
		return into, 0
	}
	begins = s.recent[0].Seq
	if from < begins || from > s.recent[len(s.recent)-1].Seq {
		return into, begins
	}
	for _, r := range s.recent[from-begins:] {
		if len(into) == cap(into) {
			break
		}
		into = append(into, *r)
	}
	return into, begins
}
