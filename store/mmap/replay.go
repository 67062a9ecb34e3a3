package mmap

import (
	"fmt"

	"github.com/kiteq/kiteq/internal/kite"
)

// Replay hands out the checkpoint's records and then all that follow it. See store.Journal. A second
// Replay, or one after Append, is an error of code Invalid.
func (j *Journal) Replay(apply func(*kite.Record) error) error {
	if err := j.usable(); err != nil {
		return err
	}
	if j.replayed || j.appended {
		return kite.Errorf(kite.Invalid, "replay the journal: it is done once, before the first append")
	}
	j.replayed = true
	p := replayer{topics: map[string]string{}, apply: apply}
	if c := j.restore; c != nil {
		j.restore = nil
		defer c.release(j.fs)
		if err := c.each(&p.rec, p.visit); err != nil {
			return err
		}
	}
	for _, seg := range j.segments {
		if seg.limit() <= j.covered {
			continue
		}
		err := guarded(seg.path, seg.data, func() error { return p.segment(seg, max(j.covered, seg.position(segmentHeader))) })
		if err != nil {
			return err
		}
	}
	return nil
}

// replayer applies records one by one.
type replayer struct {
	rec    kite.Record
	topics map[string]string // one string per topic, not one per record
	apply  func(*kite.Record) error
}

func (p *replayer) visit(topic []byte) error {
	name, ok := p.topics[string(topic)]
	if !ok {
		name = string(topic)
		p.topics[name] = name
	}
	p.rec.Topic = name
	return p.apply(&p.rec)
}

// segment applies the batches from the position on. A batch that cannot be read is damage: Open has
// seen where the segment ends.
func (p *replayer) segment(seg *segment, from kite.Position) error {
	off := int64(from - seg.base)
	for off < seg.end {
		h, err := readBatch(seg.data[off:], seg.epoch, seg.position(off))
		if h.gap {
			err = errUncovered
		}
		if err != nil {
			return seg.corrupt(off, fmt.Errorf("%w; the segment ends at offset %d", err, seg.end))
		}
		err = h.records(seg.data[off:], &p.rec, func(at int64, topic []byte) error {
			p.rec.Position = seg.position(off + at)
			return p.visit(topic)
		})
		if bad, ok := err.(*recordError); ok { //nolint:errorlint // apply's own errors are not looked into
			return seg.corrupt(off+bad.off, bad.err)
		}
		if err != nil {
			return err
		}
		off += h.length
	}
	return nil
}
