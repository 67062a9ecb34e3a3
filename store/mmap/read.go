package mmap

import (
	"fmt"
	"runtime/debug"

	"github.com/kiteq/kiteq/internal/kite"
)

// A reader visits a run of records for one look at the index: a short one first, since of a thousand topics each
// has a message or two for it, then long ones. 128 places are half a kilobyte, and the lock is taken once for
// tens of microseconds of visiting.
const (
	firstRun  = 16
	runLength = 128
)

// walk is the state of one Read or Load. It holds a reference to seg, where the run lies, and to
// other, where the bytes of the last commit lie that were not in seg.
type walk struct {
	rec    kite.Record
	commit kite.Record
	stream *stream
	seg    *segment
	other  *segment
	first  kite.Seq
	n      int
	places [runLength]uint32

	offsets []uint32 // of Find
}

func (j *Journal) walk() *walk {
	if w, ok := j.walks.Get().(*walk); ok {
		return w
	}
	return &walk{}
}

// done gives back what the walk holds, and the walk. It is deferred, so that it runs when a visitor
// panics, and it makes an error of the fault that reading a mapping raises when the disk cannot give
// its bytes or the file was cut by somebody else.
func (j *Journal) done(w *walk, before bool, err *error) {
	debug.SetPanicOnFault(before)
	fault := recover()
	if fault != nil {
		*err = j.faulted(fault, w.seg, w.other)
	}
	w.drop()
	*w = walk{offsets: w.offsets[:0]}
	j.walks.Put(w)
	if fault != nil && *err == nil {
		panic(fault)
	}
}

// drop gives the references back.
func (w *walk) drop() {
	if w.seg != nil {
		w.seg.release()
		w.seg = nil
	}
	if w.other != nil {
		w.other.release()
		w.other = nil
	}
}

// Read visits the stream's records from a Seq on. See store.Journal. Every record's checksum is
// verified; a *store.CorruptionError ends the reading.
//
// The Position of a committed transaction is that of its commit, its Ref that of its bytes.
func (j *Journal) Read(name string, from kite.Seq, visit func(*kite.Record) bool) (err error) {
	w := j.walk()
	defer j.done(w, debug.SetPanicOnFault(true), &err)
	for length := firstRun; ; length = runLength {
		if err := j.run(w, name, from, length); err != nil || w.n == 0 {
			return err
		}
		for i := range w.n {
			found, err := j.visible(w, i)
			if err != nil {
				return err
			}
			if found && !visit(&w.rec) {
				return nil
			}
		}
		from = w.first + kite.Seq(w.n)
		w.drop()
	}
}

// run fills the walk with the next places of the stream, at most length, and takes a reference to their segment.
func (j *Journal) run(w *walk, name string, from kite.Seq, length int) error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.closed {
		return &kite.Error{Code: kite.Unavailable, Op: "read " + name, Err: errClosed}
	}
	w.n = 0
	if w.stream == nil {
		if w.stream = j.streams[name]; w.stream == nil {
			return nil
		}
	}
	seg, first, n := w.stream.places(from, j.open, w.places[:length])
	if n > 0 {
		seg.acquire()
		w.seg, w.first, w.n = seg, first, n
	}
	return nil
}

// visible reads the i-th record of the run into w.rec as Read shows it. It is false for a record in a
// gap, and for a commit whose bytes are gone.
func (j *Journal) visible(w *walk, i int) (bool, error) {
	off, seq := int64(w.places[i]), w.first+kite.Seq(i)
	if off == 0 {
		return false, nil
	}
	topic, err := w.seg.record(off, &w.rec)
	if err != nil {
		return false, err
	}
	if w.rec.Seq != seq || !w.stream.has(&w.rec, topic) {
		return false, w.seg.corrupt(off, fmt.Errorf("seq %d of %s where seq %d of %s belongs", w.rec.Seq, topic, seq, w.stream.name))
	}
	w.rec.Topic = w.stream.topic
	switch w.rec.Kind {
	case kite.KindDelayed:
		w.rec.Topic = j.topic(topic)
		return true, nil
	case kite.KindCommit:
	default:
		return true, nil
	}
	w.commit = w.rec
	bytes := j.bytesOf(w)
	if bytes == nil {
		return false, nil
	}
	return true, w.committed(bytes)
}

// bytesOf returns the segment in which the message of w.commit lies, nil when it was trimmed.
func (j *Journal) bytesOf(w *walk) *segment {
	ref := w.commit.Ref
	// other is older than a commit that refers to it, so it is sealed and its end stays.
	if ref >= w.seg.base && ref < w.commit.Position {
		return w.seg.unlessGapped(ref)
	}
	if w.other != nil && ref >= w.other.base && ref < w.other.limit() {
		return w.other.unlessGapped(ref)
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	seg := j.find(ref)
	if seg == nil {
		return nil
	}
	seg.acquire()
	if w.other != nil {
		w.other.release()
	}
	w.other = seg
	return seg
}

func (s *segment) unlessGapped(pos kite.Position) *segment {
	if s.gapped(pos) {
		return nil
	}
	return s
}

// committed makes w.rec the message that w.commit committed.
func (w *walk) committed(seg *segment) error {
	c := &w.commit
	off := int64(c.Ref - seg.base)
	topic, err := seg.record(off, &w.rec)
	if err != nil {
		return err
	}
	if w.rec.Kind != kite.KindPrepared && w.rec.Kind != kite.KindDelayed || w.rec.ID != c.ID || string(topic) != c.Topic {
		return seg.corrupt(off, fmt.Errorf("%s %s of %s where the commit of seq %d needs message %s of %s",
			w.rec.Kind, w.rec.ID, topic, c.Seq, c.ID, c.Topic))
	}
	w.rec.Kind, w.rec.Topic = kite.KindMessage, c.Topic
	w.rec.Seq, w.rec.TimeMs, w.rec.Position, w.rec.Ref = c.Seq, c.TimeMs, c.Position, c.Ref
	return nil
}

// Load visits the record at pos as it was appended. A position where no record lies, or one that was
// trimmed, is an error of code Invalid.
func (j *Journal) Load(pos kite.Position, visit func(*kite.Record)) (err error) {
	w := j.walk()
	defer j.done(w, debug.SetPanicOnFault(true), &err)
	if err := j.reach(w, pos); err != nil {
		return err
	}
	topic, err := w.seg.record(int64(pos-w.seg.base), &w.rec)
	if err != nil {
		return err
	}
	w.rec.Topic = j.topic(topic)
	visit(&w.rec)
	return nil
}

// reach takes a reference to the segment of pos.
func (j *Journal) reach(w *walk, pos kite.Position) error {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.closed {
		return &kite.Error{Code: kite.Unavailable, Op: "load", Err: errClosed}
	}
	seg := j.find(pos)
	if seg == nil {
		return kite.Errorf(kite.Invalid, "load position %d: no record lies there", pos)
	}
	seg.acquire()
	w.seg = seg
	return nil
}

// topic returns the text as a string, the stream's own when there is one.
func (j *Journal) topic(text []byte) string {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if st := j.streams[string(text)]; st != nil {
		return st.topic
	}
	return string(text)
}
