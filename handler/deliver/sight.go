package deliver

import (
	"cmp"
	"context"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
)

// Stage is how far a message has come in one group.
type Stage string

// The stages.
const (
	StageUnmatched Stage = "not matched" // no binding of now takes its type
	StageWaiting   Stage = "waiting"     // the cursor has not passed it: Waits says why
	StageInFlight  Stage = "in flight"   // sent, and not answered yet: Sent
	StageArmed     Stage = "armed"       // it failed and is sent again at DueMs, when Waits is empty
	StageDying     Stage = "dying"       // its dead letter is on its way through the lane: Reason
	StageDead      Stage = "dead"        // Letter and Reason
	StageSettled   Stage = "settled"     // acknowledged, or passed over by a seek or while nobody was there
	StageUnknown   Stage = "unknown"     // it is neither settled nor to be found: its bytes were removed
)

// Cause says why a flow sends nothing.
type Cause string

// The causes.
const (
	CauseUnbound   Cause = "not bound"     // the group's binding is gone; its place is kept
	CausePaused    Cause = "paused"        // by an operator
	CauseOffline   Cause = "offline"       // nobody of the group is connected, since SinceMs
	CauseBreaker   Cause = "breaker open"  // everything failed; the next probe is at UntilMs, 0: one is in flight
	CauseWatermark Cause = "watermark"     // over the group's deliveries a second, until UntilMs
	CauseRead      Cause = "read failed"   // tried again at UntilMs; the log says where
	CauseJournal   Cause = "journal busy"  // a dead letter could not be written; tried again at UntilMs
	CauseHeld      Cause = "held behind"   // the order of the group: an earlier message, Seq, has the turn
	CauseChanging  Cause = "order changes" // the binding's order changed; what is under way ends first
	CauseWindow    Cause = "window full"   // too many are in flight or armed
	CauseNoCredit  Cause = "no credit"     // every member has its share unanswered, or is warming up
	CauseBehind    Cause = "cursor behind" // the flow is at work and has not come so far
)

// Wait is one cause for which a message is not sent now.
type Wait struct {
	Cause   Cause
	SinceMs int64    // Unix ms, 0: not said
	UntilMs int64    // Unix ms, 0: not said
	Seq     kite.Seq // of CauseHeld: the message that has the turn
	// Property is, of CauseHeld, the message property that holds the key; "" when the whole topic is ordered.
	Property string
}

// Attempt is one delivery to a member. Those that failed are remembered in memory until the message is
// settled, the newest historyLen of each; a restart forgets them.
type Attempt struct {
	Number   uint8  // from 1; the attempts before a restart and of broadcast groups may be missing
	Member   string // its address, "" when it cannot name itself
	SentMs   int64  // Unix ms
	EndedMs  int64  // Unix ms, 0: not answered yet
	Feedback string // why it failed: "nack: ...", "no answer within 5s", "the connection was lost"
	Late     bool   // not answered in time, and the member still holds it
}

// GroupSight is what can be said about one message in one group. The shard that owns the group's flow says
// it at one moment; another may be over when it is read.
type GroupSight struct {
	Topic, Group string
	Seq          kite.Seq
	// Bound is false when the group has no binding now, and Durable when it is not bound durably.
	Bound, Durable bool
	Stage          Stage
	// Bindings are those of the group on the topic, and Nearest is, of those, the index of the one whose
	// MessageType is most like the message's when none matches, else -1.
	Bindings []kite.Binding
	Nearest  int
	// Cursor is the next message that the flow reads, and Head is one past the topic's newest.
	Cursor, Head kite.Seq
	// Waits are the causes for which the message is not sent now, the one to look at first in front.
	Waits []Wait
	// Attempts is how many deliveries count, Sent those that are with a member, Failed those that failed and
	// are remembered, oldest first.
	Attempts uint8
	Sent     []Attempt
	Failed   []Attempt
	// DueMs is when an armed message is sent again, Unix ms; 0: as soon as the flow may.
	DueMs int64
	// Letter is the dead letter's place among those of the group on the topic, Requeued tells that it is
	// being delivered again, Discarded that it is done with.
	Letter              kite.Seq
	Requeued, Discarded bool
	// Reason and Feedback are why it died, and what the last delivery came to.
	Reason, Feedback string
}

// Look says how the message of the topic stands in every group that has a flow there, or a dead letter of it,
// in the order of their names. seq may be 0 when the id is known, and the id zero when seq is; both zero, or
// an id that has no Seq yet, is an error of code kite.Invalid. Matching is judged by the bindings of now. It
// waits for the flows' current turns, until ctx ends; after Run it is an error of code kite.Unavailable.
func (d *Dispatcher) Look(ctx context.Context, topic string, seq kite.Seq, id kite.MessageID) ([]GroupSight, error) {
	q := look{topic: topic, seq: seq, id: id, letters: map[string]letterSight{}, answer: make(chan []GroupSight, len(d.shards))}
	if err := q.find(d.reader); err != nil {
		return nil, err
	}
	for _, s := range d.shards {
		s.post(func(e *events) { e.looks = append(e.looks, q) })
	}
	var all []GroupSight
	for range d.shards {
		select {
		case sights := <-q.answer:
			all = append(all, sights...)
		case <-d.stopped:
			return nil, kite.Errorf(kite.Unavailable, "the flows have stopped")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	all = q.complete(all)
	slices.SortFunc(all, func(a, b GroupSight) int { return cmp.Compare(a.Group, b.Group) })
	return all, nil
}

// look is a question about a message, with what the journal says about it.
type look struct {
	topic   string
	seq     kite.Seq
	id      kite.MessageID
	found   bool // its bytes are there
	kind    []byte
	letters map[string]letterSight // by group; the newest of each
	answer  chan []GroupSight      // has room for the answer of each shard
}

type letterSight struct {
	seq              kite.Seq
	attempts         uint8
	reason, feedback string
}

// finder is what a Reader may be beside: it finds all records of an id.
type finder interface {
	Find(id kite.MessageID, sinceMs int64, visit func(*kite.Record) bool) error
}

// find reads the message and its dead letters. The shards only look at what they hold.
func (q *look) find(reader Reader) error {
	if q.seq == 0 && q.id != (kite.MessageID{}) {
		if err := q.findAll(reader); err != nil {
			return err
		}
	}
	if q.seq == 0 {
		return kite.Errorf(kite.Invalid, "the message has no sequence in topic %s", q.topic)
	}
	known := q.id
	err := reader.Read(q.topic, q.seq, func(r *kite.Record) bool {
		if r.Seq == q.seq {
			q.found, q.id, q.kind = true, r.ID, slices.Clone(r.Type)
		}
		return false
	})
	if err != nil || len(q.letters) > 0 || q.id == (kite.MessageID{}) {
		return err
	}
	if known != (kite.MessageID{}) && known != q.id {
		return kite.Errorf(kite.Invalid, "message %d of topic %s has another id", q.seq, q.topic)
	}
	return q.findAll(reader)
}

// findAll takes the Seq and the dead letters from the records of the id.
func (q *look) findAll(reader Reader) error {
	f, ok := reader.(finder)
	if !ok {
		return nil
	}
	var bad error
	err := f.Find(q.id, 0, func(r *kite.Record) bool {
		switch {
		case r.Topic != q.topic:
		case q.seq == 0 && (r.Kind == kite.KindMessage || r.Kind == kite.KindCommit):
			q.seq = r.Seq
		case r.Kind == kite.KindDead:
			letter, err := kite.DecodeDeadLetter(r.Body)
			if bad = err; err == nil && q.letters[string(r.Group)].seq < r.Seq {
				q.letters[string(r.Group)] = letterSight{r.Seq, letter.Attempts, letter.Reason, letter.Feedback}
			}
		}
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	return err
}

// complete adds the groups that have a dead letter only, and which binding is nearest.
func (q *look) complete(all []GroupSight) []GroupSight {
	for i := range all {
		delete(q.letters, all[i].Group)
		if all[i].Stage == StageUnmatched {
			all[i].Nearest = kite.Nearest(all[i].Bindings, string(q.kind))
		}
	}
	for group, letter := range q.letters {
		sight := GroupSight{Topic: q.topic, Group: group, Seq: q.seq, Stage: StageDead, Nearest: -1}
		sight.died(letter)
		all = append(all, sight)
	}
	return all
}

func (g *GroupSight) died(l letterSight) {
	g.Letter, g.Attempts, g.Reason, g.Feedback = l.seq, l.attempts, l.reason, l.feedback
}

// look describes the message in the shard's flows.
func (s *shard) look(q *look) []GroupSight {
	var all []GroupSight
	for _, f := range s.flowsOn(q.topic) {
		all = append(all, s.sight(f, q))
	}
	return all
}

func (s *shard) sight(f *flow, q *look) GroupSight {
	g := GroupSight{
		Topic: f.topic, Group: f.group, Seq: q.seq, Bound: f.bound, Durable: f.durable, Nearest: -1,
		Bindings: f.current.Bindings, Cursor: f.cursor, Head: f.head, Failed: slices.Clone(f.failures[tried{seq: q.seq}]),
	}
	if letter, ok := q.letters[f.group]; ok {
		g.died(letter)
		if g.Requeued = f.requeued(letter.seq); g.Requeued {
			g.Failed = slices.Clone(f.failures[tried{seq: letter.seq, letter: true}])
		}
		g.Discarded = s.lettersOf(flowKey{f.topic, f.group}).Contains(letter.seq)
	}
	s.sightOut(f, &g)
	_, held := f.heldBehind(q.seq)
	switch {
	case g.Stage != "":
	case f.done.Contains(q.seq) && g.Letter > 0:
		g.Stage = StageDead
	case q.found && !f.matcher.Matches(q.kind):
		g.Stage = StageUnmatched
	case f.done.Contains(q.seq):
		g.Stage = StageSettled
	case q.seq >= f.cursor || held || f.order != nil || f.broadcast != nil:
		g.Stage, g.Attempts = StageWaiting, f.restored[q.seq].Attempts
	default:
		g.Stage = StageUnknown
	}
	if g.Stage == StageWaiting || g.Stage == StageArmed || g.Requeued && len(g.Sent) == 0 {
		g.Waits = s.waits(f, q.seq, g.Stage)
	}
	return g
}

// sightOut looks among what the flow holds: in flight, armed and dying messages, or the requeued dead letter.
func (s *shard) sightOut(f *flow, g *GroupSight) {
	is := func(other *flow, seq kite.Seq, letter bool) bool {
		return other == f && (letter && g.Requeued && seq == g.Letter || !letter && seq == g.Seq)
	}
	for i := range s.retries {
		if e := &s.retries[i]; is(e.flow, e.seq, e.letter) {
			g.Stage, g.Attempts, g.DueMs = StageArmed, e.attempts, e.dueMs
		}
	}
	for _, t := range f.due {
		if is(f, t.seq, t.letter) {
			g.Stage, g.Attempts = StageArmed, t.attempts
		}
	}
	if f.order != nil && f.order.armed[g.Seq] != nil && g.Stage == "" {
		g.Stage = StageArmed // it has its turn and waits for its member
	}
	for i := range s.slots.all {
		sl := &s.slots.all[i]
		if sl.member == nil || sl.fly != nil || !is(sl.flow, sl.seq, sl.letter) {
			continue
		}
		g.Sent = append(g.Sent, Attempt{Number: sl.attempts, Member: nameOf(sl.member), SentMs: sl.sentMs, Late: sl.state != sent})
		if sl.state == sent {
			g.Stage, g.Attempts, g.DueMs = StageInFlight, sl.attempts, 0
		}
	}
	for _, d := range s.dying {
		if d.flow == f && d.seq == g.Seq && d.turn == f.turn {
			g.Stage, g.Attempts, g.Reason, g.Feedback = StageDying, d.attempts, d.reason, d.feedback
		}
	}
	if f.done.Contains(g.Seq) && !g.Requeued {
		g.Stage = "" // what is left of it holds only credit
	}
}

// waits lists why the flow does not send the message now.
func (s *shard) waits(f *flow, seq kite.Seq, stage Stage) []Wait {
	var all []Wait
	add := func(applies bool, w Wait) {
		if applies {
			all = append(all, w)
		}
	}
	online := s.courier.Online(f.group)
	before, held := f.heldBehind(seq)
	add(!f.bound, Wait{Cause: CauseUnbound})
	add(f.pausedMs > 0, Wait{Cause: CausePaused, SinceMs: f.pausedMs})
	add(!online, Wait{Cause: CauseOffline, SinceMs: f.peers.offlineMs})
	if f.breaker.open {
		w := Wait{Cause: CauseBreaker, SinceMs: f.breaker.sinceMs}
		if !f.breaker.probing {
			w.UntilMs = f.breaker.nextMs
		}
		add(true, w)
	}
	add(f.waking && f.cause != CauseBreaker, Wait{Cause: f.cause, UntilMs: f.wakeMs})
	add(held, Wait{Cause: CauseHeld, Seq: before, Property: f.keyProperty()})
	add(f.changing, Wait{Cause: CauseChanging})
	add(stage == StageWaiting && (f.pending >= s.options.Window || f.full()), Wait{Cause: CauseWindow})
	add(online && (f.blocked || len(f.stalled) > 0), Wait{Cause: CauseNoCredit})
	add(len(all) == 0 && stage == StageWaiting, Wait{Cause: CauseBehind})
	return all
}

// keyProperty is the message property by which the flow is ordered, "" when it is ordered as a whole or not.
func (f *flow) keyProperty() string {
	if f.order == nil {
		return ""
	}
	return f.order.mode.property
}
