package kite

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"time"
)

// Limits of the wire contract.
const (
	// MaxDeliverLimit is the most delivery attempts that a message may ask for; 0 or more than this means this.
	MaxDeliverLimit = 100
	// MaxLifetime is the longest a message may live before it expires.
	MaxLifetime = 7 * 24 * time.Hour
	// MaxPayload is the largest payload of one frame, bytes.
	MaxPayload = 2 << 20
	// MaxName is the longest topic, group or message type, bytes.
	MaxName = 255
)

// MessageID is a message's identity: 32 hexadecimal digits on the wire, compared without regard to their case.
type MessageID [16]byte

// ParseMessageID reads exactly 32 hexadecimal digits of either case.
func ParseMessageID[T string | []byte](text T) (MessageID, bool) {
	var id MessageID
	if len(text) != 2*len(id) {
		return id, false
	}
	var bad byte
	for i := range id {
		high, low := hexDigits[text[2*i]], hexDigits[text[2*i+1]]
		bad |= high | low
		id[i] = high<<4 | low
	}
	if bad > 15 {
		return MessageID{}, false
	}
	return id, true
}

// String returns 32 lower-case hexadecimal digits.
func (id MessageID) String() string { return hex.EncodeToString(id[:]) }

// hexDigits gives the value of each digit and 0xff for what is none. It is never written after this. Random
// ids would make the branches of a comparison go either way.
var hexDigits = func() (values [256]byte) {
	for c := range values {
		values[c] = 0xff
	}
	for i, c := range "0123456789abcdef" {
		values[c] = byte(i)
	}
	for i, c := range "ABCDEF" {
		values[c] = byte(10 + i)
	}
	return values
}()

// Seq is a committed message's place in its topic: dense, from 1, given when it commits. 0 means none.
type Seq uint64

var topicName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// CheckTopic returns an error that names the topic and what is allowed, or nil.
func CheckTopic(topic string) error {
	switch {
	case len(topic) > MaxName:
		return Errorf(Invalid, "topic %.32q...: %d bytes, at most %d are allowed", topic, len(topic), MaxName)
	case topic == "." || topic == ".." || !topicName.MatchString(topic):
		return Errorf(Invalid, "topic %q: use letters, digits, '_', '.' and '-' only", topic)
	}
	return nil
}

// CheckGroup returns an error that names the group and what is allowed, or nil. Groups are parts of znode paths.
func CheckGroup(group string) error {
	if group == "" || len(group) > MaxName {
		return Errorf(Invalid, "group %.32q: 1 to %d bytes are allowed", group, MaxName)
	}
	for _, r := range group {
		if r == '/' || r < ' ' || r == 0x7f {
			return Errorf(Invalid, "group %q: '/' and control characters are not allowed", group)
		}
	}
	return nil
}

// UnixMs returns t in the unit of journal and domain timestamps: Unix milliseconds.
func UnixMs(t time.Time) int64 { return t.UnixMilli() }

// Outcome is how a transaction stands.
type Outcome uint8

// The outcomes. The first decision wins; Unknown never decides.
const (
	OutcomeUnknown Outcome = iota
	OutcomeCommitted
	OutcomeRolledBack
	OutcomeParked
)

func (o Outcome) String() string {
	switch o {
	case OutcomeUnknown:
		return "unknown"
	case OutcomeCommitted:
		return "committed"
	case OutcomeRolledBack:
		return "rolled back"
	case OutcomeParked:
		return "parked"
	}
	return fmt.Sprintf("outcome %d", uint8(o))
}
