package client

import (
	"crypto/rand"
	"maps"
	"strconv"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// Limits of what may be published.
const (
	// MaxMessage is the largest message, bytes: body, names, properties and some overhead together.
	MaxMessage = kite.MaxPayload - headroom
	// MaxDeliverLimit is the most delivery attempts per group that a message may ask for.
	MaxDeliverLimit = kite.MaxDeliverLimit
	// MaxLifetime is the longest that a broker keeps a message.
	MaxLifetime = kite.MaxLifetime
	// MaxDelay is the longest that a message may wait for its time.
	MaxDelay = kite.MaxDelay
	// MaxDecompressed is the longest body that is compressed or decompressed, bytes.
	MaxDecompressed = protocol.MaxPlain
)

// headroom is kept free in a frame: the broker fills in header fields, and the message must fit
// then, too.
const headroom = 64

// Message is what a producer publishes. The client never changes it, and reads it until the call
// that got it returns (PublishAsync: until Pending.Wait returns).
type Message struct {
	// ID is 32 hexadecimal digits. Empty means a random one, which the caller's Message does not
	// show: set it with NewID to know it. Brokers store an id once, so publishing again under the
	// same id is how to repeat without doubling.
	ID string
	// Topic is where to publish; it must be one of Options.Topics.
	Topic string
	// Type is the messageType by which consumer groups choose, 1 to 255 bytes.
	Type string
	// Body is the content; Text says that it is a UTF-8 string for consumers that tell them apart.
	Body []byte
	Text bool
	// Compress sends the body as one snappy block, in base64 when Text, and says so in the header. Go
	// consumers decompress it; consumers in other languages get it as it is. Worth it from 1 KiB on.
	Compress bool
	// Properties travel in the header.
	Properties map[string]string
	// Expires is when the message is not worth delivering any more, rounded up to a second. Zero
	// means the broker's limit, MaxLifetime, which counts from when a delayed message is due.
	Expires time.Time
	// DeliverAt is before when the message is not delivered, by the broker's clock, in milliseconds and at
	// most MaxDelay from now. Zero, or a time that has passed, means at once. A transaction that commits later
	// is delivered then.
	DeliverAt time.Time
	// Delay is the same, counted from when the broker gets the message, which a transaction does when it is
	// prepared. Give one of them. A broker of the original KiteQ knows neither and delivers at once.
	Delay time.Duration
	// DeliverLimit is how many attempts each group gets, 1 to MaxDeliverLimit. 0 means MaxDeliverLimit.
	DeliverLimit int
	// Created is when the message came to be, for its consumers, in seconds. Zero means now.
	Created time.Time
	// Fly messages are never stored: fast, and lost when nobody takes them or the broker stops.
	Fly bool
}

// NewID returns a random message id.
func NewID() string {
	var id kite.MessageID
	rand.Read(id[:])
	return id.String()
}

// outgoing is a message ready to be sent: checked, compressed, with an id, and owned by the client
// except for the properties and a body that is not compressed. Every attempt sends the same bytes.
type outgoing struct {
	header  protocol.Header
	body    []byte
	command protocol.Command
}

// outgoing checks m against the limits and fills in what is left to the client.
func (m *Message) outgoing(group string, commit bool, now time.Time) (outgoing, error) {
	if err := m.check(commit, now); err != nil {
		return outgoing{}, err
	}
	o := outgoing{body: m.Body, command: protocol.CmdBytesMessage}
	if m.Text {
		o.command = protocol.CmdStringMessage
	}
	compressed := m.Compress
	if compressed {
		var err error
		if o.body, err = protocol.Compress(m.Body, m.Text); err != nil {
			return outgoing{}, err
		}
	}
	if size := m.size(group, len(o.body)); size > MaxMessage {
		return outgoing{}, kite.Errorf(kite.TooLarge, "message of %d bytes to topic %s: at most %d are allowed", size, m.Topic, MaxMessage)
	}
	o.header = protocol.Header{
		MessageID: m.ID, Topic: m.Topic, MessageType: m.Type, GroupID: group,
		ExpiredTime: -1, DeliverLimit: int32(m.DeliverLimit), Commit: commit, Fly: m.Fly,
		Properties: m.Properties, CreateTime: now.Unix(),
	}
	if o.header.MessageID == "" {
		o.header.MessageID = NewID()
	}
	if compressed {
		o.header.Snappy = &compressed
	}
	if !m.Created.IsZero() {
		o.header.CreateTime = m.Created.Unix()
	}
	if m.DeliverLimit == 0 {
		o.header.DeliverLimit = MaxDeliverLimit
	}
	if key, value := m.later(); key != "" {
		o.header.Properties = maps.Clone(m.Properties)
		if o.header.Properties == nil {
			o.header.Properties = map[string]string{}
		}
		o.header.Properties[key] = value
	}
	if !m.Expires.IsZero() {
		o.header.ExpiredTime = m.Expires.Add(time.Second - 1).Unix()
	}
	return o, nil
}

// later returns the property by which the message asks to be delivered later, or "".
func (m *Message) later() (key, value string) {
	switch {
	case !m.DeliverAt.IsZero():
		return kite.PropertyDeliverAt, strconv.FormatInt(kite.UnixMs(m.DeliverAt), 10)
	case m.Delay != 0:
		return kite.PropertyDelay, m.Delay.String()
	}
	return "", ""
}

func (m *Message) checkLater(now time.Time) error {
	due := m.DeliverAt
	if m.Delay != 0 {
		due = now.Add(m.Delay)
	}
	switch {
	case m.Delay != 0 && !m.DeliverAt.IsZero():
		return kite.Errorf(kite.Invalid, "message with a Delay and a DeliverAt: give one of them")
	case m.Delay < 0 || m.Delay > MaxDelay:
		return kite.Errorf(kite.Invalid, "delay %v: 0 to %v are allowed", m.Delay, MaxDelay)
	case !due.IsZero() && due.UnixMilli() < 0 || due.Sub(now) > MaxDelay:
		return kite.Errorf(kite.Invalid, "message due at %s: at most %v from now are allowed", due.Format(time.RFC3339), MaxDelay)
	case due.After(now) && m.Fly:
		return kite.Errorf(kite.Invalid, "a fly message is never stored and so cannot wait: leave Fly unset")
	case due.After(now) && !m.Expires.IsZero() && !m.Expires.After(due):
		return kite.Errorf(kite.Expired, "message expires at %s, before it is due: set a later time, or none", m.Expires.Format(time.RFC3339))
	}
	return nil
}

func (m *Message) check(commit bool, now time.Time) error {
	if err := kite.CheckTopic(m.Topic); err != nil {
		return err
	}
	switch _, ok := kite.ParseMessageID(m.ID); {
	case m.ID != "" && !ok:
		return kite.Errorf(kite.Invalid, "message id %.40q: give 32 hexadecimal digits, or leave it empty", m.ID)
	case m.Type == "" || len(m.Type) > kite.MaxName:
		return kite.Errorf(kite.Invalid, "message type %.32q of topic %s: 1 to %d bytes are allowed", m.Type, m.Topic, kite.MaxName)
	case !m.Created.IsZero() && m.Created.Unix() <= 0:
		return kite.Errorf(kite.Invalid, "message created at %s: give a time after 1970, or none", m.Created.Format(time.RFC3339))
	case m.DeliverLimit < 0 || m.DeliverLimit > MaxDeliverLimit:
		return kite.Errorf(kite.Invalid, "deliver limit %d: 1 to %d are allowed, 0 means %d", m.DeliverLimit, MaxDeliverLimit, MaxDeliverLimit)
	case !m.Expires.IsZero() && !m.Expires.After(now):
		return kite.Errorf(kite.Expired, "message expires at %s, which has passed: set a later time, or none", m.Expires.Format(time.RFC3339))
	case m.Fly && !commit:
		return kite.Errorf(kite.Invalid, "a fly message is never stored and so cannot be prepared: leave Fly unset")
	}
	return m.checkLater(now)
}

// size is an upper bound of the encoded size with a body of that many bytes: every field with the
// largest tag and length it can have.
func (m *Message) size(group string, body int) int {
	const fixed, field = 192, 8
	size := fixed + body + len(m.Topic) + len(m.Type) + len(group)
	for k, v := range m.Properties {
		size += len(k) + len(v) + 3*field
	}
	if key, value := m.later(); key != "" {
		size += len(key) + len(value) + 3*field
	}
	return size
}

// appendTo appends the message as one frame.
func (o *outgoing) appendTo(dst []byte, opaque uint32) []byte {
	return protocol.AppendMessage(dst, framing, opaque, o.command, &o.header, o.body)
}

// framing is the one that this client speaks.
const framing = protocol.FramingG
