package deliver

import (
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
)

// saved is progress on its way through the lane. What it says about retries is kept until it is recorded:
// the settled can be told again as a whole, the retries lie scattered.
type saved struct {
	flow  *flow
	turn  uint64
	armed []kite.Retry
}

// change enters the flow among those whose progress is to be recorded. Non-durable groups have none.
func (s *shard) change(f *flow) {
	if !f.dirty {
		f.dirty = true
		s.dirty = append(s.dirty, f)
	}
}

// cheapFlows is how many flows' progress is recorded in one go before that is worth doing less often.
const cheapFlows = 64

// saveMs is how long to wait after recording the progress of so many flows: of a thousand that move, each
// answer would else cost a record.
func (o Options) saveMs(flows int) int64 {
	every := o.ProgressEvery.Milliseconds()
	return max(every, min(every*int64(flows)/cheapFlows, mostSaveMs))
}

const mostSaveMs = 1000

// save hands what changed since the last time to the lane. It is lazy on purpose: what a crash takes
// of it is delivered again.
func (s *shard) save() {
	s.savedMs, s.saveMs = s.nowMs, s.options.saveMs(len(s.dirty))
	if len(s.dirty) == 0 {
		return
	}
	b := &kite.Batch{Owner: s}
	for _, f := range s.dirty {
		f.dirty = false
		if f.durable {
			s.dyingID++
			s.saving[s.dyingID] = saved{flow: f, turn: f.turn, armed: f.armed}
			p := f.progress()
			start := len(b.Arena)
			b.Arena = kite.AppendProgress(b.Arena, &p)
			b.Items = append(b.Items, kite.Item{Opaque: s.dyingID, Record: kite.Record{
				Kind: kite.KindProgress, Topic: f.topic, Group: []byte(f.group), Seq: kite.Seq(f.turn), Body: b.Arena[start:],
			}})
		}
		f.settled, f.armed = f.settled[:0], nil
	}
	s.dirty = s.dirty[:0]
	if len(b.Items) == 0 {
		return
	}
	if err := s.lane.Submit(b); err != nil {
		for i := range b.Items {
			s.saveAgain(b.Items[i].Opaque)
		}
	}
}

// saveAgain takes back progress that was not recorded.
func (s *shard) saveAgain(id uint32) {
	lost := s.saving[id]
	delete(s.saving, id)
	if f := lost.flow; f != nil && lost.turn == f.turn { // nobody wants that of before a seek
		f.whole = true
		newest := map[kite.Seq]bool{} // one for each message, or they would pile up while the lane is busy
		for _, r := range f.armed {
			newest[r.Seq] = true
		}
		for _, r := range slices.Backward(lost.armed) {
			if !newest[r.Seq] && !f.done.Contains(r.Seq) {
				newest[r.Seq] = true
				f.armed = append(f.armed, r)
			}
		}
		s.change(f)
	}
}

// progress is what changed: the floor says most of it.
func (f *flow) progress() kite.Progress {
	p := kite.Progress{Floor: f.done.Floor()}
	if f.whole {
		f.whole = false
		p.Settled = f.done.Ranges()
	} else {
		for _, r := range f.settled {
			if r.To > p.Floor {
				p.Settled = append(p.Settled, r)
			}
		}
	}
	for _, r := range f.armed {
		if !f.done.Contains(r.Seq) {
			p.Retries = append(p.Retries, r)
		}
	}
	return p
}
