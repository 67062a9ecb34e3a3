package memory

import (
	"github.com/kiteq/kiteq/internal/kite"
)

// names finds records by id. Each id leads to its newest record and each record to the one before it with
// the same id. Of what was trimmed the newest kind and time stay for a while: a publisher may repeat a
// message that was delivered long ago in the eyes of a full store.
type names struct {
	newest map[kite.MessageID]kite.Position
	ghosts map[kite.MessageID]ghost
	queue  []kite.MessageID // of ghosts, oldest first
}

// ghost is what is left of a trimmed record.
type ghost struct {
	kind   kite.Kind
	timeMs int64
}

// maxGhosts bounds what is kept of the trimmed, about 70 bytes each.
const maxGhosts = 1_000_000

func newNames() names {
	return names{newest: map[kite.MessageID]kite.Position{}, ghosts: map[kite.MessageID]ghost{}}
}

// add enters the record, which was put into c last.
func (n *names) add(c *chunk, r *kite.Record) {
	if r.ID == (kite.MessageID{}) {
		c.older = append(c.older, 0)
		return
	}
	c.older = append(c.older, n.newest[r.ID])
	n.newest[r.ID] = r.Position
}

// drop makes ghosts of the chunk's newest records that are not older than sinceMs; of none when it is 0.
func (n *names) drop(c *chunk, sinceMs int64) {
	for i := range c.slots {
		r := &c.slots[i]
		if r.ID == (kite.MessageID{}) {
			continue
		}
		if n.newest[r.ID] == r.Position {
			delete(n.newest, r.ID)
		}
		if sinceMs > 0 && r.TimeMs >= sinceMs && r.TimeMs >= n.ghosts[r.ID].timeMs && haunts(r.Kind) {
			n.ghosts[r.ID] = ghost{r.Kind, r.TimeMs}
			n.queue = append(n.queue, r.ID)
		}
	}
	gone := 0
	for gone < len(n.queue) && (len(n.queue)-gone > maxGhosts || n.ghosts[n.queue[gone]].timeMs < sinceMs) {
		delete(n.ghosts, n.queue[gone])
		gone++
	}
	n.queue = n.queue[:copy(n.queue, n.queue[gone:])]
}

// haunts tells whether a trimmed record of the kind says what became of its id. Dead letters and orders only
// say what happened afterwards.
func haunts(kind kite.Kind) bool { return kind != kite.KindDead && kind != kite.KindOrder }

// Find visits the records that carry the id, newest first. See store.Journal. Of those that were trimmed it
// visits one, at the end, with the newest one's Kind, ID and TimeMs.
func (j *Journal) Find(id kite.MessageID, sinceMs int64, visit func(*kite.Record) bool) error {
	w := j.walk()
	defer j.done(w)
	j.mu.RLock()
	closed := j.closed
	found := w.same[:0]
	for pos := j.names.newest[id]; pos != 0; {
		r := j.slot(pos)
		if r == nil || r.TimeMs < sinceMs {
			break
		}
		found = append(found, r)
		pos = j.chunkOf(pos).older[pos&(chunkSlots-1)]
	}
	left, trimmed := j.names.ghosts[id]
	j.mu.RUnlock()
	w.same = found
	if closed {
		return errClosed
	}
	for _, r := range found {
		if w.rec = *r; !visit(&w.rec) {
			return nil
		}
	}
	if trimmed && left.timeMs >= sinceMs {
		w.rec = kite.Record{Kind: left.kind, ID: id, TimeMs: left.timeMs}
		visit(&w.rec)
	}
	return nil
}
