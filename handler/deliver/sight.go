package deliver

import (
	"context"

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
	return nil, ctx.Err()
}
