package memory

import (
	"github.com/kiteq/kiteq/internal/kite"
)

const runLength = 64

// walk is the state of one Read or Load.
type walk struct {
	rec   kite.Record // a copy, so that a visitor cannot change the journal's
	n     int
	found [runLength]struct{ record, bytes *kite.Record }
	same  []*kite.Record // with the id of a Find
}

func (j *Journal) walk() *walk {
	if w, ok := j.walks.Get().(*walk); ok {
		return w
	}
	return &walk{}
}

func (j *Journal) done(w *walk) {
	clear(w.same)
	*w = walk{same: w.same[:0]}
	j.walks.Put(w)
}

// Read visits the stream's records from a Seq on. See store.Journal. The Position of a committed
// transaction is that of its commit, its Ref that of its bytes.
func (j *Journal) Read(stream string, from kite.Seq, visit func(*kite.Record) bool) error {
	w := j.walk()
	defer j.done(w)
	for {
		next, err := j.run(w, stream, from)
		if err != nil || next == from {
			return err
		}
		from = next
		for _, f := range w.found[:w.n] {
			w.rec = *f.record
			if f.bytes != nil {
				w.rec = *f.bytes
				w.rec.Kind, w.rec.Seq, w.rec.TimeMs = kite.KindMessage, f.record.Seq, f.record.TimeMs
				w.rec.Position, w.rec.Ref = f.record.Position, f.record.Ref
			}
			if !visit(&w.rec) {
				return nil
			}
		}
	}
}

// run finds the next records of the stream and returns the Seq to go on with, from at the end.
func (j *Journal) run(w *walk, name string, from kite.Seq) (kite.Seq, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.closed {
		return 0, errClosed
	}
	w.n = 0
	st := j.streams[name]
	if st == nil {
		return from, nil
	}
	places, seq := st.from(from)
	for i, pos := range places {
		if i == runLength {
			return seq + kite.Seq(i), nil
		}
		f := &w.found[w.n]
		if f.record, f.bytes = j.slot(pos), nil; f.record == nil {
			continue
		}
		if f.record.Kind == kite.KindCommit {
			if f.bytes = j.slot(f.record.Ref); f.bytes == nil {
				continue
			}
		}
		w.n++
	}
	if len(places) == 0 {
		return from, nil
	}
	return seq + kite.Seq(len(places)), nil
}

// Load visits the record at pos as it was appended. A position where no record lies, or one that was
// trimmed, is an error of code Invalid.
func (j *Journal) Load(pos kite.Position, visit func(*kite.Record)) error {
	w := j.walk()
	defer j.done(w)
	j.mu.RLock()
	r, closed := j.slot(pos), j.closed
	j.mu.RUnlock()
	if closed {
		return errClosed
	}
	if r == nil {
		return kite.Errorf(kite.Invalid, "load position %d: no record lies there", pos)
	}
	w.rec = *r
	visit(&w.rec)
	return nil
}

// Bounds returns the first Seq that Read can find and the one after the newest; both are 1 for a
// stream that never had a record.
func (j *Journal) Bounds(name string) (first, next kite.Seq) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	st := j.streams[name]
	if st == nil || st.next == 0 {
		return 1, 1
	}
	if len(st.places) == 0 {
		return st.next, st.next
	}
	return st.first, st.next
}
