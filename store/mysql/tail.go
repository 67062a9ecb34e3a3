package mysql

import (
	"github.com/kiteq/kiteq/internal/kite"
)

// tail is the newest records of a journal: groups that keep up read what was just written, and go on with it
// while the database is away. It is guarded by Journal.mu; what its records point to never changes, so readers
// keep that without a lock, also when it has left the tail.
type tail struct {
	blocks []*block // oldest first
	bases  map[kite.Position]*kite.Record
	bytes  int64
	limit  int64
}

// block is the copy of one batch.
type block struct {
	records []kite.Record // those with the bytes of a message: commits as Read shows them
	streams []*stream     // of each; nil for a message that has no Seq yet
	bytes   int64
}

// recentRecord is what a record in memory costs beside its bytes.
const recentRecord = 200

// copyBatch makes the block of a batch. A commit of something that is not in memory is not in it, so its stream
// goes on behind it (see follow).
func (t *tail) copyBatch(batch []*kite.Record, plan []*stream) *block {
	b := &block{}
	size := 0
	for _, r := range batch {
		size += len(r.Type) + len(r.Group) + len(r.Body)
	}
	arena := make([]byte, 0, size)
	keep := func(p []byte) []byte {
		if len(p) > cap(arena)-len(arena) { // of a commit, whose bytes were not counted
			return append([]byte(nil), p...)
		}
		n := len(arena)
		arena = append(arena, p...)
		return arena[n:len(arena):len(arena)]
	}
	for i, r := range batch {
		whole, st := r, plan[i]
		var c kite.Record
		switch r.Kind {
		case kite.KindMessage:
		case kite.KindPrepared:
			st = nil
		case kite.KindDelayed:
			if r.Ref != 0 {
				continue
			}
			st = nil
		case kite.KindCommit:
			base := t.bases[r.Ref]
			if base == nil {
				continue
			}
			c = shown(*r, base)
			whole = &c
		default:
			continue
		}
		kept := *whole
		if st != nil {
			kept.Topic = st.topic
		} else {
			kept.Topic = string([]byte(r.Topic))
		}
		kept.Type, kept.Group, kept.Body = keep(whole.Type), keep(whole.Group), keep(whole.Body)
		b.records, b.streams = append(b.records, kept), append(b.streams, st)
		b.bytes += recentRecord + int64(len(kept.Type)+len(kept.Group)+len(kept.Body))
	}
	return b
}

// push adds the block, and drops the oldest ones over the limit.
func (t *tail) push(b *block) {
	if len(b.records) == 0 {
		return
	}
	t.blocks = append(t.blocks, b)
	t.bytes += b.bytes
	for i := range b.records {
		r := &b.records[i]
		if st := b.streams[i]; st != nil {
			st.follow(r)
		} else {
			t.bases[r.Position] = r
		}
	}
	for t.bytes > t.limit && len(t.blocks) > 0 {
		t.dropFirst()
	}
}

func (t *tail) dropFirst() {
	b := t.blocks[0]
	t.blocks[0], t.blocks = nil, t.blocks[1:]
	t.bytes -= b.bytes
	for i := range b.records {
		r := &b.records[i]
		if st := b.streams[i]; st == nil {
			delete(t.bases, r.Position)
		} else if len(st.recent) > 0 && st.recent[0].Seq <= r.Seq {
			st.recent[0], st.recent = nil, st.recent[1:]
		}
	}
}

// follow adds a record to the stream's newest, which follow each other without a gap.
func (s *stream) follow(r *kite.Record) {
	if n := len(s.recent); n > 0 && s.recent[n-1].Seq+1 != r.Seq {
		s.recent = s.recent[:0:0]
	}
	s.recent = append(s.recent, r)
}

// recall copies the stream's records from first to below next that are in memory, at most so many. When the
// first is not there it returns none, and up to where there are none.
func (s *stream) recall(dst []kite.Record, first, next kite.Seq, most int) (_ []kite.Record, none kite.Seq) {
	if len(s.recent) == 0 {
		return dst, next
	}
	from := s.recent[0].Seq
	if first < from {
		return dst, min(from, next)
	}
	// The newest may be missing: a commit of something that is not in memory.
	for _, r := range s.recent[min(int(first-from), len(s.recent)):] {
		if r.Seq >= next || len(dst) == most {
			break
		}
		dst = append(dst, *r)
	}
	return dst, next
}
