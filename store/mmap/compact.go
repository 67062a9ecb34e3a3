package mmap

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// A few records that are needed for long (a slow topic of an offline group, an open transaction) must not
// hold a whole segment of others' messages. Such a segment is compacted in place: runs of batches that
// nobody needs become gaps, and the disk gets their blocks back. Nothing moves, so positions and Refs stay
// good. One segment goes through these steps, in the background:
//
//	look     read all batches and decide which ones the claim needs; worth it when a quarter stays
//	index    write the index with the gaps, sync it, rename it, sync the directory; show it to readers
//	headers  write the header of version 2, and a gap's header over that of its first batch; fdatasync
//	punch    give the blocks back
//
// What a step needs is durable before it. From the rename on the index says where the gaps are, so what a
// crash leaves is completed by Open. Before it nothing is lost, and after the headers the segment says
// the same as its index, if that should be lost.
//
// Readers that are at work must not see bytes vanish: the gaps are shown at a moment when nobody else has
// a reference to the segment, and whoever comes later passes over them. A claim may be old when it is
// used, since needs only shrink: floors rise, transactions are decided, and nothing new comes into a
// sealed segment.

// keepShare is which part of a segment may stay for it to be compacted. Every pass reads the segment, and
// leaves it in pieces; a quarter bounds what long-lived records cost at four times their size, and lets
// a segment be looked through a handful of times in its life.
const keepShare = 4

// fewClaims is the number of claimed records that never keeps a segment from being looked through. Above it
// one where more than half of the records are claimed is passed over: the backlog of an offline group
// would else be read from one end to the other for nothing.
const fewClaims = 64

// claim is what a segment must keep, as of one Trim.
type claim struct {
	seg    *segment
	floors map[string]kite.Seq // of the streams that need something here
	late   map[string]bool     // topics and minutes that need bytes here for records that lie later
	open   []kite.Position     // undecided
}

// claim returns what is claimed of the segment, and false if that is too much for compacting it, or about
// as much as last time. The lane calls it under mu.
func (j *Journal) claim(seg *segment, needs store.Needs) (c claim, ok bool) {
	c = claim{seg: seg, floors: map[string]kite.Seq{}, late: map[string]bool{}}
	claimed, records := int64(0), int64(0)
	for _, h := range seg.holds {
		p := h.stream.part(h.newest)
		records += int64(p.count)
		floor, named := needs.Floors[h.stream.name]
		if named && h.newest >= floor {
			c.floors[h.stream.name] = floor
			claimed += int64(p.next() - max(floor, p.first))
		}
	}
	if claimed > fewClaims && claimed > records/2 {
		return c, false
	}
	for st, newest := range seg.late {
		if floor, named := needs.Floors[st.name]; named && newest >= floor {
			c.late[st.topic] = true
			claimed++
		}
	}
	for _, pos := range needs.Open {
		if pos >= seg.base && pos < seg.limit() {
			c.open = append(c.open, pos)
			claimed++
		}
	}
	slices.Sort(c.open)
	if last := seg.weighed.Load(); last > 0 && 4*claimed > 3*last {
		return c, false
	}
	seg.weighed.Store(max(claimed, 1))
	return c, true
}

// compactLater has segments compacted, one after the other, each a job of its own.
func (j *Journal) compactLater(claims []claim) {
	if len(claims) == 0 || !j.compacting.CompareAndSwap(false, true) {
		return
	}
	j.later(func() { j.compactNext(claims) })
}

func (j *Journal) compactNext(claims []claim) {
	if err := j.compact(claims[0]); err != nil {
		j.log.Warn("segment not compacted", "file", claims[0].seg.path, "err", err)
	}
	if len(claims) > 1 && j.worker.running.Load() {
		j.later(func() { j.compactNext(claims[1:]) })
		return
	}
	for _, c := range claims[1:] {
		c.seg.weighed.Store(0) // the next Trim claims again
	}
	j.compacting.Store(false)
}

// compact does the claim's segment.
func (j *Journal) compact(c claim) error {
	seg, start := c.seg, time.Now()
	if !j.attach(seg) {
		return nil // trimmed meanwhile
	}
	defer seg.release()
	if c.floors == nil {
		return j.carve(seg)
	}
	gaps, kept, err := c.look()
	if err != nil || gaps == nil {
		return err
	}
	if err := j.show(seg, gaps); err != nil {
		return err
	}
	if err := j.carve(seg); err != nil {
		return err
	}
	j.log.Info("segment compacted", "file", seg.path, "bytes", seg.end, "kept", kept, "gaps", len(gaps), "dur", time.Since(start))
	return nil
}

// attach takes a reference to a segment that is still in the journal.
func (j *Journal) attach(seg *segment) bool {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.closed || !slices.Contains(j.segments, seg) {
		return false
	}
	seg.acquire()
	return true
}

// look returns the segment's gaps, nil when they are not worth it, and how many bytes stay.
func (c claim) look() (gaps []gap, kept int64, err error) {
	var runs []batchRun
	end, next := c.seg.end, uint64(0)
	err = guarded(c.seg.path, c.seg.data, func() (err error) {
		runs, next, err = c.runs()
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	from := int64(segmentHeader)
	freed := int64(0)
	add := func(to int64, next uint64) {
		g := gap{from, to, next}
		if _, size := g.blocks(); size > 0 {
			gaps = append(gaps, g)
			freed += size
		}
	}
	for _, r := range runs {
		if !r.needed {
			continue
		}
		add(r.from, r.sequence)
		from = r.to
	}
	add(end, next)
	kept = end - freed
	if kept > end/keepShare || freed <= c.seg.freed.Load() {
		return nil, kept, nil
	}
	return gaps, kept, nil
}

// batchRun is one batch that was looked at.
type batchRun struct {
	from, to int64
	sequence uint64
	needed   bool
}

// runs looks at all batches. A commit that is needed needs its bytes, which precede it.
func (c claim) runs() (runs []batchRun, next uint64, err error) {
	seg := c.seg
	var rec kite.Record
	topics := map[string]string{}
	end, next, stop, err := seg.scan(segmentHeader, seg.sequence, func(off int64, h batch) error {
		run := batchRun{from: off, to: off + h.length, sequence: h.sequence}
		err := h.records(seg.data[off:], &rec, func(at int64, topic []byte) error {
			name, ok := topics[string(topic)]
			if !ok {
				name = string(topic)
				topics[name] = name
			}
			rec.Topic, rec.Position = name, seg.position(off+at)
			if !c.needs(&rec) {
				return nil
			}
			run.needed = true
			if rec.Ref >= seg.base && rec.Ref < rec.Position {
				c.mark(runs, int64(rec.Ref-seg.base))
			}
			return nil
		})
		runs = append(runs, run)
		return err
	})
	if err == nil && end != seg.end {
		err = seg.corrupt(end, stop)
	}
	return runs, next, err
}

// mark makes the batch at the offset a needed one.
func (c claim) mark(runs []batchRun, off int64) {
	i, _ := slices.BinarySearchFunc(runs, off, func(r batchRun, off int64) int {
		if r.to <= off {
			return -1
		}
		return 1
	})
	if i < len(runs) {
		runs[i].needed = true
	}
}

// needs tells whether the record is one that somebody may still read.
func (c claim) needs(r *kite.Record) bool {
	switch r.Kind {
	case kite.KindPrepared:
		_, open := slices.BinarySearch(c.open, r.Position)
		return open || c.leadsTo(r)
	case kite.KindDelayed:
		if c.leadsTo(r) {
			return true
		}
	}
	floor, named := c.floors[store.Stream(r)]
	return named && r.Seq >= floor
}

// leadsTo tells whether a late record may lead to the bytes of r: a commit of its topic, or a delayed one of its
// minute. Which of these bytes are needed nobody knows.
func (c claim) leadsTo(r *kite.Record) bool {
	return c.late[r.Topic] || r.DueMs != 0 && c.late[kite.DelayStream(kite.Minute(r.DueMs))]
}

var errRead = errors.New("it is being read; the next trim tries again")

// show writes the index with the gaps, makes it durable and lets readers pass over them.
func (j *Journal) show(seg *segment, gaps []gap) error {
	index, err := seg.withGaps(gaps)
	if err != nil {
		return fmt.Errorf("make the index: %w", err)
	}
	mapping, err := j.writeDerived(numbered(j.o.Dir, seg.number, indexExt), index, true)
	if err != nil {
		return fmt.Errorf("write the index: %w", err)
	}
	if err := j.fs.SyncDir(j.o.Dir); err != nil {
		return errors.Join(j.fail("sync the directory "+j.o.Dir, err), j.fs.Unmap(mapping))
	}
	if !j.swap(seg, mapping, gaps) {
		seg.weighed.Store(0)
		return errors.Join(errRead, j.fs.Unmap(mapping))
	}
	for _, h := range seg.holds {
		j.raise(h.stream)
	}
	return nil
}

// swap gives the segment its gaps and the index that has them. It returns false when somebody reads it.
func (j *Journal) swap(seg *segment, index []byte, gaps []gap) bool {
	const alone = 2 // the journal's reference and the job's
	j.mu.Lock()
	defer j.mu.Unlock()
	if seg.refs.Load() != alone || j.closed {
		return false
	}
	seg.dropIndex()
	seg.index, seg.mapped, seg.gaps = index, true, gaps
	seg.carved.Store(false)
	return true
}
