package mmap

import (
	"fmt"

	"github.com/kiteq/kiteq/internal/kite"
)

// scan reads all batches of the segment into the index, as Append would have.
func (r *recovery) scan(seg *segment) (stop, err error) {
	j := r.j
	var rec kite.Record
	seg.ids.table = newIDTable(j.idCount) // as many as the one before: growing costs more than room
	seg.end, j.sequence, stop, err = seg.scan(segmentHeader, seg.sequence, func(off int64, h batch) error {
		r.durable = max(r.durable, h.durable)
		return h.records(seg.data[off:], &rec, func(at int64, topic []byte) error {
			if hasBytesElsewhere(&rec) && rec.Ref >= seg.position(off+at) {
				return &recordError{at, fmt.Errorf("a %s refers to %d, which comes after it", rec.Kind, rec.Ref)}
			}
			st, err := r.place(seg, &rec, topic)
			if err != nil {
				return &recordError{at, err}
			}
			j.note(seg, st, &rec, off+at)
			return nil
		})
	})
	return stop, err
}

// place returns the stream of a record that was read, nil when it has none.
func (r *recovery) place(seg *segment, rec *kite.Record, topic []byte) (*stream, error) {
	j := r.j
	key := streamKey(j.key[:0], rec, topic)
	j.key = key
	if len(key) == 0 || rec.Seq == 0 {
		return nil, nil
	}
	st := j.streams[string(key)]
	if st == nil {
		st = newStream(string(key))
		j.streams[st.name] = st
	}
	// Trimmed segments, and gaps within one, may leave records out.
	missing := rec.Seq - st.next
	if rec.Seq > maxSeq || rec.Seq < st.next || len(st.open) > 0 && missing > 0 && missing > seg.spanned() {
		return nil, fmt.Errorf("seq %d of %s where %d belongs", rec.Seq, st.name, st.next)
	}
	st.skip(rec.Seq)
	return st, nil
}
