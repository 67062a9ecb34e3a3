package mmap

import (
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
)

// Append writes the batch with one pwrite. See store.Journal.
//
// Errors of code Invalid (a record the layout cannot hold, a Seq out of order, a Ref to nowhere) and
// TooLarge (over Options.MaxBatchBytes) keep nothing of the batch, as does store.ErrFull when the
// disk has no room for the next segment, or the batch has messages and the reserve was given up.
func (j *Journal) Append(batch []*kite.Record) error {
	if err := j.usable(); err != nil || len(batch) == 0 {
		return err
	}
	size, err := j.prepare(batch)
	if err != nil {
		return err
	}
	if err := j.room(size, settles(batch)); err != nil {
		return err
	}
	at := j.open.end
	b := j.encode(batch, size)
	if _, err := j.open.file.WriteAt(b, at); err != nil {
		return j.fail("append to "+j.open.path, err)
	}
	j.publish(batch, at+size)
	if cap(j.buf) > keepBuffer {
		j.buf = nil
	}
	return nil
}

// keepBuffer is the largest buffer that Append keeps for the next batch, bytes.
const keepBuffer = 8 << 20

// prepare checks the batch before anything of it is written, finds the streams of its records and
// returns its encoded size.
func (j *Journal) prepare(batch []*kite.Record) (size int64, err error) {
	j.turn++
	j.plan = j.plan[:0]
	size = batchHeader
	for _, r := range batch {
		if err := checkRecord(r); err != nil {
			return 0, err
		}
		st, err := j.place(r)
		if err != nil {
			return 0, err
		}
		j.plan = append(j.plan, st)
		size += recordSize(r)
	}
	if size = padded(size); size > int64(j.o.MaxBatchBytes) {
		return 0, kite.Errorf(kite.TooLarge, "append a batch of %d bytes: at most %s are allowed", size, j.o.MaxBatchBytes)
	}
	return size, nil
}

// place checks that r is the next of its stream and returns it, nil for a record of none.
func (j *Journal) place(r *kite.Record) (*stream, error) {
	if hasBytesElsewhere(r) {
		j.mu.RLock()
		bytes := j.find(r.Ref)
		j.mu.RUnlock()
		if bytes == nil {
			return nil, kite.Errorf(kite.Invalid, "%s of topic %s: no message lies at position %d", r.Kind, r.Topic, r.Ref)
		}
	}
	key := streamKey(j.key[:0], r, r.Topic)
	j.key = key
	if len(key) == 0 || r.Seq == 0 {
		return nil, nil
	}
	st := j.streams[string(key)]
	if st == nil {
		st = newStream(string(key))
		j.mu.Lock()
		j.streams[st.name] = st
		j.mu.Unlock()
	}
	if st.turn != j.turn {
		st.turn, st.pending = j.turn, st.next
	}
	if st.pending != 0 && r.Seq != st.pending || r.Seq > maxSeq {
		return nil, kite.Errorf(kite.Invalid, "append seq %d to %s: the next one is %d", r.Seq, st.name, st.pending)
	}
	st.pending = r.Seq + 1
	return st, nil
}

// hasBytesElsewhere tells whether the message of the record lies at its Ref.
func hasBytesElsewhere(r *kite.Record) bool {
	return r.Kind == kite.KindCommit || r.Kind == kite.KindDelayed && r.Ref != 0
}

// streamKey appends store.Stream of the record, whose topic may be a view beside it.
func streamKey[T string | []byte](dst []byte, r *kite.Record, topic T) []byte {
	switch r.Kind {
	case kite.KindMessage, kite.KindCommit:
		return append(dst, topic...)
	case kite.KindDead:
		return append(append(append(dst, topic...), '/'), r.Group...)
	case kite.KindDelayed:
		return kite.AppendDelayStream(dst, kite.Minute(r.DueMs))
	}
	return dst
}

// encode lays the batch out and gives its records their positions.
func (j *Journal) encode(records []*kite.Record, size int64) []byte {
	seg := j.open
	b := slices.Grow(j.buf[:0], int(size))[:batchHeader]
	clear(b)
	for _, r := range records {
		r.Position = seg.position(seg.end + int64(len(b)))
		b = appendRecord(b, r)
	}
	used := len(b)
	b = b[:size]
	clear(b[used:])
	sealBatch(b, batch{
		count:    len(records),
		position: seg.position(seg.end),
		sequence: j.sequence,
		durable:  kite.Position(j.durable.Load()),
	}, seg.epoch)
	j.buf = b
	return b
}

// publish lets readers see the batch that now lies up to end in the open segment.
func (j *Journal) publish(batch []*kite.Record, end int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, r := range batch {
		j.note(j.open, j.plan[i], r, int64(r.Position-j.open.base))
	}
	j.open.end = end
	j.sequence++
	j.appended = true
}

// note enters one record of the open segment, or of one being scanned as if it were.
func (j *Journal) note(seg *segment, st *stream, r *kite.Record, off int64) {
	seg.newestMs = max(seg.newestMs, r.TimeMs)
	if r.ID != (kite.MessageID{}) {
		seg.ids.table.add(r.ID, off)
		if seg.fresh {
			j.forgetRecent(j.recent.add(r.ID, seg.position(off)))
		}
	}
	if st == nil {
		return
	}
	st.add(seg, r.Seq, off)
	if !hasBytesElsewhere(r) || r.Ref >= seg.base {
		return
	}
	bytes := j.find(r.Ref)
	if bytes == nil {
		return
	}
	j.late[lateCommit{bytes, st}] = r.Seq
	bytes.keep(st, r.Seq)
}

// keep notes that the bytes of the stream's seq lie in s, the record with the seq elsewhere.
func (s *segment) keep(st *stream, seq kite.Seq) {
	if s.late == nil {
		s.late = map[*stream]kite.Seq{}
	}
	s.late[st] = max(s.late[st], seq)
}

// find returns the segment in which pos lies, or nil, also for one in a gap. It is called under mu.
func (j *Journal) find(pos kite.Position) *segment {
	i, found := slices.BinarySearchFunc(j.segments, pos, compareBase)
	if !found {
		i--
	}
	if i < 0 || pos < j.segments[i].position(segmentHeader) || pos >= j.segments[i].limit() {
		return nil
	}
	return j.segments[i].unlessGapped(pos)
}
