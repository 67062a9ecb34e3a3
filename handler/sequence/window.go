package sequence

import (
	"encoding/binary"
	"errors"

	"github.com/kiteq/kiteq/internal/kite"
)

// window remembers ids for a time, at most so many of them: the oldest goes first. Neither its map nor
// its ring holds pointers, so the garbage collector does not walk them.
type window struct {
	spanMs int64
	most   int
	known  map[kite.MessageID]sighting
	ring   []entry // oldest first, from head
	head   int
}

// sighting is the newest that was recorded about an id.
type sighting struct {
	timeMs  int64
	outcome kite.Outcome
}

// entry is one record about an id. It is stale when the sighting is of another time.
type entry struct {
	id     kite.MessageID
	timeMs int64
}

func newWindow(spanMs int64, most int) *window {
	return &window{spanMs: spanMs, most: most, known: map[kite.MessageID]sighting{}}
}

// find returns how the id stands and whether it is known at nowMs. What is too old is not, though nothing
// newer has pushed it out yet.
func (w *window) find(id kite.MessageID, nowMs int64) (kite.Outcome, bool) {
	s, ok := w.known[id]
	if !ok || nowMs-s.timeMs >= w.spanMs {
		return kite.OutcomeUnknown, false
	}
	return s.outcome, true
}

// add enters the id, or its newer outcome, and drops what is too old by timeMs or one too many. Stale
// entries do not count, since a checkpoint leaves them out: what is known after it must be the same.
func (w *window) add(id kite.MessageID, timeMs int64, outcome kite.Outcome) {
	w.known[id] = sighting{timeMs: timeMs, outcome: outcome}
	w.ring = append(w.ring, entry{id, timeMs})
	for w.head < len(w.ring) {
		oldest := w.ring[w.head]
		if len(w.known) <= w.most && timeMs-oldest.timeMs < w.spanMs {
			break
		}
		w.head++
		if w.known[oldest.id].timeMs == oldest.timeMs {
			delete(w.known, oldest.id)
		}
	}
	if w.head > 1024 && w.head > len(w.ring)/2 {
		w.ring = w.ring[:copy(w.ring, w.ring[w.head:])]
		w.head = 0
	}
}

const (
	seenSize  = 16 + 8 + 1 // id, time, outcome
	seenChunk = 4096       // ids of one record
)

// save gives the window in pieces that load takes.
func (w *window) save(yield func([]byte) bool) {
	body := make([]byte, 0, seenChunk*seenSize)
	for _, e := range w.ring[w.head:] {
		s := w.known[e.id]
		if s.timeMs != e.timeMs {
			continue
		}
		body = append(body, e.id[:]...)
		body = binary.BigEndian.AppendUint64(body, uint64(s.timeMs))
		body = append(body, byte(s.outcome))
		if len(body) == cap(body) {
			if !yield(body) {
				return
			}
			body = body[:0]
		}
	}
	if len(body) > 0 {
		yield(body)
	}
}

func (w *window) load(body []byte) error {
	if len(body)%seenSize != 0 {
		return errors.New("malformed piece of the dedupe window")
	}
	for ; len(body) > 0; body = body[seenSize:] {
		w.add(kite.MessageID(body[:16]), int64(binary.BigEndian.Uint64(body[16:])), kite.Outcome(body[24]))
	}
	return nil
}
