package protocol

import (
	"google.golang.org/protobuf/encoding/protowire"
)

var storeAckLayout = layout{
	name:     "MessageStoreAck",
	required: 1<<1 | 1<<2 | 1<<3,
	fields: []fieldLayout{
		1: {"messageId", protowire.BytesType},
		2: {"status", protowire.VarintType},
		3: {"feedback", protowire.BytesType},
	},
}

var deliverAckLayout = layout{
	name:     "DeliverAck",
	required: 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5,
	fields: []fieldLayout{
		1: {"messageId", protowire.BytesType},
		2: {"topic", protowire.BytesType},
		3: {"messageType", protowire.BytesType},
		4: {"groupId", protowire.BytesType},
		5: {"status", protowire.VarintType},
		6: {"feedback", protowire.BytesType},
	},
}

// StoreAckView is a MessageStoreAck as it lies in a buffer. It is valid as long as the buffer is.
type StoreAckView struct {
	MessageID []byte
	Status    bool // false: refused
	Feedback  []byte
}

// Decode reads the payload of a storeAck frame. a keeps views into payload.
func (a *StoreAckView) Decode(payload []byte) error {
	*a = StoreAckView{}
	s := scanner{buf: payload}
	for s.next(&storeAckLayout) {
		switch s.num {
		case 1:
			a.MessageID = s.bytes
		case 2:
			a.Status = s.varint != 0
		case 3:
			a.Feedback = s.bytes
		}
	}
	return s.finish(&storeAckLayout)
}

// DeliverAckView is a DeliverAck as it lies in a buffer. It is valid as long as the buffer is.
type DeliverAckView struct {
	MessageID   []byte
	Topic       []byte
	MessageType []byte
	GroupID     []byte // the publisher's: a delivery is found by connection and opaque only
	Status      bool   // false: the consumer could not handle it
	Feedback    []byte // nil when absent
}

// Decode reads the payload of a deliverAck frame. a keeps views into payload.
func (a *DeliverAckView) Decode(payload []byte) error {
	*a = DeliverAckView{}
	s := scanner{buf: payload}
	for s.next(&deliverAckLayout) {
		switch s.num {
		case 1:
			a.MessageID = s.bytes
		case 2:
			a.Topic = s.bytes
		case 3:
			a.MessageType = s.bytes
		case 4:
			a.GroupID = s.bytes
		case 5:
			a.Status = s.varint != 0
		case 6:
			a.Feedback = s.bytes
		}
	}
	return s.finish(&deliverAckLayout)
}

// AppendStoreAck appends the broker's answer to a published message.
func AppendStoreAck(dst []byte, f Framing, opaque uint32, id []byte, ok bool, feedback string) []byte {
	dst, mark := f.Begin(dst, opaque, CmdStoreAck)
	dst = appendBytes(dst, 1, id)
	dst = appendBool(dst, 2, ok)
	dst = appendBytes(dst, 3, feedback)
	return f.End(dst, mark)
}

// AppendDeliverAck appends a consumer's answer to the delivered message with header h.
func AppendDeliverAck(dst []byte, f Framing, opaque uint32, h *HeaderView, ok bool, feedback string) []byte {
	dst, mark := f.Begin(dst, opaque, CmdDeliverAck)
	dst = appendBytes(dst, 1, h.MessageID)
	dst = appendBytes(dst, 2, h.Topic)
	dst = appendBytes(dst, 3, h.MessageType)
	dst = appendBytes(dst, 4, h.GroupID)
	dst = appendBool(dst, 5, ok)
	dst = appendBytes(dst, 6, feedback)
	return f.End(dst, mark)
}

// AppendTxAck appends a verdict, or the answer to a check. header is the encoded Header of the message,
// as HeaderView.Raw has it; it is forwarded as it is.
func AppendTxAck(dst []byte, f Framing, opaque uint32, header []byte, status int32, feedback string) []byte {
	dst, mark := f.Begin(dst, opaque, CmdTxAck)
	dst = appendBytes(dst, 1, header)
	dst = appendInt(dst, 2, int64(status))
	dst = appendBytes(dst, 3, feedback)
	return f.End(dst, mark)
}

func appendBytes[T ~string | ~[]byte](dst []byte, num protowire.Number, v T) []byte {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(len(v)))
	return append(dst, v...)
}

// appendInt appends an int64 or int32 field: a negative one takes 10 bytes, as protobuf wants it.
func appendInt(dst []byte, num protowire.Number, v int64) []byte {
	dst = protowire.AppendTag(dst, num, protowire.VarintType)
	return protowire.AppendVarint(dst, uint64(v))
}

func appendBool(dst []byte, num protowire.Number, v bool) []byte {
	dst = protowire.AppendTag(dst, num, protowire.VarintType)
	return protowire.AppendVarint(dst, protowire.EncodeBool(v))
}
