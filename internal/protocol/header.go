package protocol

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kiteq/kiteq/internal/kite"
)

var headerLayout = layout{
	name:     "Header",
	required: 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8,
	fields: []fieldLayout{
		1:  {"messageId", protowire.BytesType},
		2:  {"topic", protowire.BytesType},
		3:  {"messageType", protowire.BytesType},
		4:  {"expiredTime", protowire.VarintType},
		5:  {"deliverLimit", protowire.VarintType},
		6:  {"groupId", protowire.BytesType},
		7:  {"commit", protowire.VarintType},
		8:  {"fly", protowire.VarintType},
		9:  {"properties", protowire.BytesType},
		10: {"createTime", protowire.VarintType},
		11: {"snappy", protowire.VarintType},
	},
}

var entryLayout = layout{
	name:     "Entry",
	required: 1<<1 | 1<<2,
	fields: []fieldLayout{
		1: {"key", protowire.BytesType},
		2: {"value", protowire.BytesType},
	},
}

// HeaderView is a Header as it lies in a buffer. It is valid as long as the buffer is.
type HeaderView struct {
	Raw []byte // the encoded Header

	MessageID   []byte // 32 hexadecimal digits if the client keeps the contract; not checked here
	Topic       []byte
	MessageType []byte
	GroupID     []byte // the publisher's

	ExpiredTime  int64 // Unix seconds; 0 and less: none
	DeliverLimit int32 // attempts, as the client sent it
	CreateTime   int64 // Unix seconds

	HasCreateTime bool
	HasProperties bool
	Commit        bool // false: prepared, the publisher's transaction decides
	Fly           bool // not stored
	Snappy        bool // the body is one snappy block (its base64 in a string message)

	PropertyCount int // as often as a key comes
	PropertyBytes int // of their keys and values

	// Where in Raw the values are that a broker normalises.
	expiredAt, limitAt, commitAt, createdAt span
}

// span is a range of bytes. The zero span is nowhere: no value lies at the start of a message.
type span struct{ start, end int32 }

// Decode reads an encoded Header. h keeps views into raw.
func (h *HeaderView) Decode(raw []byte) error {
	*h = HeaderView{Raw: raw}
	seen, err := h.merge(raw, 0)
	if err != nil {
		return err
	}
	return headerLayout.check(seen)
}

// merge reads the fields in part over those that h has and returns which there were. part lies at
// offset base of h.Raw.
func (h *HeaderView) merge(part []byte, base int) (seen uint32, err error) {
	s := scanner{buf: part}
	for s.next(&headerLayout) {
		switch s.num {
		case 1:
			h.MessageID = s.bytes
		case 2:
			h.Topic = s.bytes
		case 3:
			h.MessageType = s.bytes
		case 4:
			h.ExpiredTime, h.expiredAt = int64(s.varint), s.span(base)
		case 5:
			h.DeliverLimit, h.limitAt = int32(s.varint), s.span(base)
		case 6:
			h.GroupID = s.bytes
		case 7:
			h.Commit, h.commitAt = s.varint != 0, s.span(base)
		case 8:
			h.Fly = s.varint != 0
		case 9:
			if h.PropertyCount == kite.MaxProperties { // reading on would keep others waiting
				return 0, kite.Errorf(kite.TooLarge, "read Header: more than %d properties", kite.MaxProperties)
			}
			key, value, err := decodeEntry(s.bytes)
			if err != nil {
				return 0, err
			}
			h.HasProperties = true
			h.PropertyCount++
			h.PropertyBytes += len(key) + len(value)
		case 10:
			h.CreateTime, h.createdAt = int64(s.varint), s.span(base)
			h.HasCreateTime = true
		case 11:
			h.Snappy = s.varint != 0
		}
	}
	return s.seen, s.err
}

func (s *scanner) span(base int) span { return span{int32(base + s.start), int32(base + s.pos)} }

// Properties yields the properties in the order of the wire, as views. A key may come more than once.
func (h *HeaderView) Properties(yield func(key, value []byte) bool) {
	s := scanner{buf: h.Raw}
	for s.next(&headerLayout) {
		if s.num != 9 {
			continue
		}
		key, value, err := decodeEntry(s.bytes)
		if err != nil || !yield(key, value) {
			return
		}
	}
}

// Property returns the value of the property key, the last one if there are several, as clients that
// read them into a map do.
func (h *HeaderView) Property(key string) (value []byte, ok bool) {
	for k, v := range h.Properties {
		if string(k) == key {
			value, ok = v, true
		}
	}
	return value, ok
}

func decodeEntry(raw []byte) (key, value []byte, err error) {
	s := scanner{buf: raw}
	for s.next(&entryLayout) {
		if s.num == 1 {
			key = s.bytes
		} else {
			value = s.bytes
		}
	}
	return key, value, s.finish(&entryLayout)
}
