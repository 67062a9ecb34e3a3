package operate

// Story is what a broker knows of one message: what became of it, and why.
type Story struct {
	ID        string `json:"id"`
	Broker    string `json:"broker"` // the address that clients dial
	Topic     string `json:"topic"`
	Type      string `json:"type"`
	Publisher string `json:"publisher,omitempty"` // its group
	Seq       uint64 `json:"seq,omitempty"`       // its place in the topic, when committed
	// Events are in the order of time; what is so now comes after what was.
	Events []Event `json:"events"`
}

// Event is one line of a story.
type Event struct {
	// AtMs is when, Unix ms; 0: that is how it stands now.
	AtMs int64  `json:"at_ms,omitempty"`
	What string `json:"what"`
	// Group is the consumer group that it is about, "" when it is about the message.
	Group string `json:"group,omitempty"`
	// Text is the whole of it in words.
	Text string `json:"text"`
}

// What there is to tell. Scripts rely on the words.
const (
	Stored    = "stored"    // the message is durable, and has its Seq
	Prepared  = "prepared"  // durable, delivered to nobody until somebody decides
	Delayed   = "delayed"   // waits for its time, or did
	Checked   = "checked"   // the last check was sent
	Answered  = "answered"  // somebody answered one and could not decide
	NextCheck = "next"      // when the next check is due
	Refused   = "refused"   // a decision came too late
	Rechecked = "rechecked" // an operator has its producer asked again
	Expires   = "expires"   // from here on it is delivered no more
	Unrouted  = "unrouted"  // no group is bound to its topic

	// Parked, Committed, RolledBack, Cancelled, Dead, Requeued and Discarded are told, too.

	// About a group, now.

	Dying     = "dying"     // its dead letter is being written
	Unmatched = "unmatched" // none of its bindings wants the type
	BadBound  = "bad"       // one of its bindings is left out, and why
	Waiting   = "waiting"   // not sent yet, and why
	InFlight  = "in-flight" // sent, not answered
	Armed     = "armed"     // failed, to be sent again
	Failed    = "failed"    // an attempt, and how it failed
	Settled   = "settled"   // answered, or passed over
	Unknown   = "unknown"   // the broker cannot tell any more
)
