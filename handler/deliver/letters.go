package deliver

import (
	"fmt"

	"github.com/kiteq/kiteq/internal/kite"
)

// Requeued dead letters go to their group once more, beside its topic: each is read from the stream of the dead
// letters, is sent with all its attempts before it, and ends when an ack discards it or a new dead letter takes
// its place. They are not held to the message's expiry: who requeues it wants it delivered. They fill at most
// a quarter of the flow's window; the others wait, and both are in the group's standing, so that a restart
// begins them again.

// requeuing is how far a requeued dead letter has come.
type requeuing bool

const (
	underWay  requeuing = false // armed or in flight
	delivered requeuing = true  // acked: its discard is on its way through the lane, or tried again
)

// lettersShare is the part of the window that requeued dead letters may fill.
const lettersShare = 4

// beginLetters makes waiting dead letters due, as many as their share of the window takes.
func (s *shard) beginLetters(f *flow) {
	n := 0
	for n < len(f.waiting) && len(f.open) < max(1, s.options.Window/lettersShare) {
		if f.open == nil {
			f.open = map[kite.Seq]requeuing{}
		}
		f.open[f.waiting[n]] = underWay
		f.pending++
		f.due = append(f.due, tried{seq: f.waiting[n], letter: true})
		n++
	}
	if f.waiting = f.waiting[n:]; len(f.waiting) == 0 {
		f.waiting = nil
	}
}

// forget ends the delivery of a dead letter that is discarded.
func (f *flow) forget(letter kite.Seq) {
	for i, seq := range f.waiting {
		if seq == letter {
			f.waiting = append(f.waiting[:i:i], f.waiting[i+1:]...)
			break
		}
	}
	if _, ok := f.open[letter]; ok {
		delete(f.open, letter)
		delete(f.failures, tried{seq: letter, letter: true})
		f.pending--
	}
}

// over tells whether there is nothing to send any more.
func (f *flow) over(t tried) bool {
	if t.letter {
		state, ok := f.open[t.seq]
		return !ok || state == delivered
	}
	return f.done.Contains(t.seq)
}

// drop takes out what is over.
func (s *shard) drop(f *flow, t tried) {
	switch state, ok := f.open[t.seq]; {
	case !t.letter:
		f.pending--
	case ok && state == delivered: // its discard was refused
		s.deliveredLetter(f, t.seq, afterRequeue)
	}
}

// read finds the message again, or the dead letter as the message that it was. found is false when its bytes
// were removed.
func (s *shard) read(f *flow, t tried, visit func(*kite.Record)) (found bool, err error) {
	if !t.letter {
		err = s.reader.Read(f.topic, t.seq, func(r *kite.Record) bool {
			if found = r.Seq == t.seq; found {
				visit(r)
			}
			return false
		})
		return found, err
	}
	var bad error
	err = s.reader.Read(kite.DeadStream(f.topic, f.group), t.seq, func(r *kite.Record) bool {
		if r.Seq != t.seq {
			return false
		}
		found = true
		letter, e := kite.DecodeDeadLetter(r.Body)
		if bad = e; e == nil {
			visit(&kite.Record{
				Kind: kite.KindMessage, Command: letter.Command, Limit: max(r.Limit, 1), ID: r.ID, Seq: letter.Seq,
				TimeMs: letter.PublishedMs, Topic: f.topic, Type: r.Type, Body: letter.Payload,
			})
		}
		return false
	})
	if err == nil {
		err = bad
	}
	return found, err
}

const afterRequeue = "delivered after requeue"

// deliveredLetter discards a dead letter that the group has taken, or whose bytes are gone.
func (s *shard) deliveredLetter(f *flow, letter kite.Seq, why string) {
	if _, ok := f.open[letter]; !ok {
		return
	}
	f.open[letter] = delivered
	s.dyingID++
	t := tried{seq: letter, letter: true}
	b := &kite.Batch{Owner: s, Items: []kite.Item{discard(s.dyingID, f.topic, f.group, letter, why)}}
	if err := s.lane.Submit(b); err != nil {
		s.retries.push(retryEntry{dueMs: s.nowMs + buryAgain, flow: f, tried: t})
		return
	}
	s.dying[s.dyingID] = dying{flow: f, tried: t}
}

// discard is the broker's order that the dead letter is done with.
func discard(opaque uint32, topic, group string, letter kite.Seq, reason string) kite.Item {
	o := kite.Order{Action: kite.ActionDiscard, Note: kite.Note{By: "broker", Reason: reason}}
	return kite.Item{Opaque: opaque, Record: kite.Record{
		Kind: kite.KindOrder, Topic: topic, Group: []byte(group), Seq: letter, Body: kite.AppendOrder(nil, &o),
	}}
}

// lettersOf are the dead letters of a group on a topic that are done with.
func (s *shard) lettersOf(key flowKey) *kite.Settled {
	gone := s.letters[key]
	if gone == nil {
		gone = &kite.Settled{}
		if standing := s.standing(key); standing != nil {
			gone.Raise(standing.Letters.Floor())
			for _, r := range standing.Letters.Ranges() {
				gone.Settle(r)
			}
		}
		s.letters[key] = gone
	}
	return gone
}

// retireAtOnce bounds the dead letters of a group on a topic that one pass discards.
const retireAtOnce = 1024

// retire discards the dead letters that nobody wanted for DeadRetention, so that their bytes can be removed.
// It is the pass of every sweep: what the lane refuses, and what is more, comes with the next.
func (s *shard) retire() {
	beforeMs := s.nowMs - s.options.DeadRetention.Milliseconds()
	reason := fmt.Sprintf("kept for %v", s.options.DeadRetention)
	for key, gone := range s.letters {
		f := s.flows[key]
		b := &kite.Batch{Owner: s}
		stream := kite.DeadStream(key.topic, key.group)
		first, _ := s.reader.Bounds(stream)
		err := s.reader.Read(stream, max(first, gone.Floor()), func(r *kite.Record) bool {
			if r.TimeMs > beforeMs {
				return false
			}
			if !gone.Contains(r.Seq) && !f.requeued(r.Seq) {
				b.Items = append(b.Items, discard(0, key.topic, key.group, r.Seq, reason))
			}
			return len(b.Items) < retireAtOnce
		})
		if err != nil {
			s.log.Error("read failed, dead letters are kept", "topic", key.topic, "group", key.group, "err", err)
		}
		if len(b.Items) > 0 && s.lane.Submit(b) == nil {
			s.log.Info("dead letters discarded", "topic", key.topic, "group", key.group, "letters", len(b.Items), "reason", reason)
		}
	}
}

// requeued tells whether the dead letter is being delivered again. f may be nil.
func (f *flow) requeued(letter kite.Seq) bool {
	if f == nil {
		return false
	}
	if _, ok := f.open[letter]; ok {
		return true
	}
	for _, seq := range f.waiting {
		if seq == letter {
			return true
		}
	}
	return false
}
