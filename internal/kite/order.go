package kite

import (
	"bytes"
	"errors"
	"fmt"
)

// Note says who did something and why. By is "address of the client", "operator name" or "broker".
type Note struct{ By, Reason string }

// AppendNote appends the encoded note: by, a zero byte, the reason.
func AppendNote(dst []byte, by, reason string) []byte {
	dst = append(dst, by...)
	dst = append(dst, 0)
	return append(dst, reason...)
}

// DecodeNote reads what AppendNote wrote. Any bytes are a note: without a zero byte they are its By.
func DecodeNote(body []byte) Note {
	by, reason, _ := bytes.Cut(body, []byte{0})
	return Note{By: string(by), Reason: string(reason)}
}

// Action says what an Order does. Values are written to disk: append only.
type Action uint8

// The actions, and what of its record each means.
const (
	// ActionRefuse notes that a decision about ID came too late: Outcome is what was asked for.
	ActionRefuse Action = 1
	// ActionRecheck ends the parking of the transaction ID: its producer is asked again.
	ActionRecheck Action = 2
	// ActionPause and ActionResume stop the deliveries of Topic to Group, and let them go on.
	ActionPause  Action = 3
	ActionResume Action = 4
	// ActionSeek makes Group go on with Seq of Topic, whatever it has settled.
	ActionSeek Action = 5
	// ActionDiscard ends the dead letter Seq of Topic and Group.
	ActionDiscard Action = 6
	// ActionRequeue delivers the dead letter Seq of Topic and Group again, to this group only.
	ActionRequeue Action = 7
	// ActionCancel ends the wait of the delayed message ID, at place Seq of the minute of DueMs: it is never
	// delivered.
	ActionCancel Action = 8
)

func (a Action) String() string {
	names := [...]string{"", "refuse", "recheck", "pause", "resume", "seek", "discard", "requeue", "cancel"}
	if int(a) < len(names) && a > 0 {
		return names[a]
	}
	return fmt.Sprintf("action %d", uint8(a))
}

// Order is what an operator did, or the lane refused: the Body of a KindOrder record.
type Order struct {
	Action  Action
	Outcome Outcome // of ActionRefuse
	Note
}

// AppendOrder appends the encoded order: action, outcome, the note.
func AppendOrder(dst []byte, o *Order) []byte {
	return AppendNote(append(dst, byte(o.Action), byte(o.Outcome)), o.By, o.Reason)
}

// DecodeOrder reads what AppendOrder wrote.
func DecodeOrder(body []byte) (Order, error) {
	if len(body) < 2 || body[0] == 0 {
		return Order{}, errors.New("malformed order")
	}
	return Order{Action: Action(body[0]), Outcome: Outcome(body[1]), Note: DecodeNote(body[2:])}, nil
}
