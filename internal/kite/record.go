package kite

import "fmt"

// Kind says what a journal record states. Values are written to disk: append only.
type Kind uint8

// The record kinds.
const (
	// KindMessage is a committed message: Topic, Seq, ID, Type, Group (the publisher's), Body.
	KindMessage Kind = 1
	// KindPrepared is an undecided message: as KindMessage, without Seq. In a checkpoint it has
	// no Body and Ref says where the message lies.
	KindPrepared Kind = 2
	// KindCommit gives the message at Ref its Seq: Topic, Seq, ID, Ref. Of a prepared one Body is an encoded
	// Note; of a delayed one it is the uvarint place among those of its minute, and DueMs is there.
	KindCommit Kind = 3
	// KindRollback ends the prepared message ID: Topic, ID, Ref, Body = encoded Note.
	KindRollback Kind = 4
	// KindPark sets the prepared message ID aside until somebody decides: Topic, ID, Ref, Body = encoded Note.
	KindPark Kind = 5
	// KindProgress says what a consumer group has settled or must be sent again: Topic, Group, Body
	// = encoded Progress, Seq = the Turn of the standing that it continues.
	KindProgress Kind = 6
	// KindDead is a dead letter and settles its message: Topic, Group (the consumer's), Seq = place in
	// the dead letters of (Topic, Group), ID, Type, Body = encoded DeadLetter.
	KindDead Kind = 7
	// KindHead is a topic's newest Seq. Only in checkpoints.
	KindHead Kind = 8
	// KindStanding is where a group stands on a topic: Topic, Group, Body = encoded Standing. Only in checkpoints.
	KindStanding Kind = 9
	// KindDelayed is a decided message that waits for its time: as KindMessage, with DueMs, and with Seq = its
	// place among those of its minute. One that was prepared before lies at Ref, and Body is the encoded Note of
	// who committed it; before there were such notes it was empty.
	KindDelayed Kind = 10
	// KindOrder is what an operator did, or a decision that came too late: Body = encoded Order, which says
	// what of Topic, Group, ID, Seq and DueMs it means. It changes the state, and it stays as history.
	KindOrder Kind = 11
)

func (k Kind) String() string {
	names := [...]string{"", "message", "prepared", "commit", "rollback", "park", "progress", "dead", "head", "standing", "delayed", "order"}
	if int(k) < len(names) && k > 0 {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Position is where a record lies in the journal that made it: opaque to everybody else, growing
// with time, 0 = nowhere.
type Position uint64

// Record is one fact of the journal. It carries every time and decision that applying it needs,
// so applying reads no clock.
//
// A record read from a journal is a view: Type, Group and Body are valid only while the visitor runs.
type Record struct {
	Kind      Kind
	Command   uint8 // messages: the wire command that carries Body (0x11 or 0x12)
	Limit     uint8 // messages: delivery attempts, 1 to MaxDeliverLimit
	ID        MessageID
	Seq       Seq
	TimeMs    int64 // when the lane accepted it, Unix ms
	ExpiresMs int64 // messages: not delivered from here on, Unix ms
	DueMs     int64 // messages: not delivered before, Unix ms; 0 for most
	Ref       Position
	Position  Position // set by the journal on Append and on reading
	Topic     string
	Type      []byte // messageType
	Group     []byte
	Body      []byte // messages: the payload as it is delivered (header.commit is true)
}

// Noted tells whether Body is an encoded Note: of who decided or parked a transaction.
func (r *Record) Noted() bool {
	switch r.Kind {
	case KindCommit:
		return r.DueMs == 0
	case KindDelayed:
		return r.Ref != 0
	}
	return r.Kind == KindRollback || r.Kind == KindPark
}

// Published tells whether the record is a message as its publisher sent it, and not a decision about one.
func (r *Record) Published() bool {
	return r.Kind == KindMessage || r.Kind == KindPrepared || r.Kind == KindDelayed && r.Ref == 0
}

// Expired tells whether a message may no longer be delivered at nowMs.
func (r *Record) Expired(nowMs int64) bool { return r.ExpiresMs > 0 && nowMs >= r.ExpiresMs }
