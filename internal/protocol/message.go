package protocol

import (
	"google.golang.org/protobuf/encoding/protowire"
)

var messageLayout = layout{
	name:     "Message",
	required: 1<<1 | 1<<2,
	fields: []fieldLayout{
		1: {"header", protowire.BytesType},
		2: {"body", protowire.BytesType},
	},
}

var txAckLayout = layout{
	name:     "TxACKPacket",
	required: 1<<1 | 1<<2 | 1<<3,
	fields: []fieldLayout{
		1: {"header", protowire.BytesType},
		2: {"status", protowire.VarintType},
		3: {"feedback", protowire.BytesType},
	},
}

// MessageView is a BytesMessage or a StringMessage as it lies in a buffer: they look alike on the wire.
// It is valid as long as the buffer is.
type MessageView struct {
	Header HeaderView
	Body   []byte
}

// Decode reads the payload of a message frame. m keeps views into payload; after an error its content
// means nothing.
func (m *MessageView) Decode(payload []byte) error {
	m.Body = nil
	header := nested{room: len(payload)}
	s := scanner{buf: payload}
	for s.next(&messageLayout) {
		if s.num == 2 {
			m.Body = s.bytes
		} else if err := header.add(&m.Header, s.bytes); err != nil {
			return err
		}
	}
	if err := s.finish(&messageLayout); err != nil {
		return err
	}
	return headerLayout.check(header.seen)
}

// AppendPayload appends the payload of a message frame, made of an encoded Header and the body.
func AppendPayload(dst, header, body []byte) []byte {
	return appendBytes(appendBytes(dst, 1, header), 2, body)
}

// TxAckView is a TxACKPacket, a check, an answer or a verdict, as it lies in a buffer. It is valid as
// long as the buffer is.
type TxAckView struct {
	Header   HeaderView
	Status   int32 // StatusUnknown, StatusCommit, StatusRollback; others mean nothing
	Feedback []byte
}

// Decode reads the payload of a txAck frame. t keeps views into payload; after an error its content
// means nothing.
func (t *TxAckView) Decode(payload []byte) error {
	t.Status, t.Feedback = 0, nil
	header := nested{room: len(payload)}
	s := scanner{buf: payload}
	for s.next(&txAckLayout) {
		switch s.num {
		case 1:
			if err := header.add(&t.Header, s.bytes); err != nil {
				return err
			}
		case 2:
			t.Status = int32(s.varint)
		case 3:
			t.Feedback = s.bytes
		}
	}
	if err := s.finish(&txAckLayout); err != nil {
		return err
	}
	return headerLayout.check(header.seen)
}

// nested reads the Header of an outer message. Protobuf allows it to come in several parts, which are
// merged; no client sends it so, and only then are bytes copied.
//
// room is the size of the outer message. All parts together fit into it, so that joining them costs
// one allocation, however many there are.
type nested struct {
	room   int
	seen   uint32
	parts  bool
	joined []byte
}

// add reads the next part into h. h is a parameter, not a field: so views can live on the stack.
func (n *nested) add(h *HeaderView, part []byte) error {
	base := 0
	if !n.parts {
		n.parts = true
		*h = HeaderView{Raw: part}
	} else {
		if n.joined == nil {
			n.joined = append(make([]byte, 0, n.room), h.Raw...)
		}
		base = len(n.joined)
		n.joined = append(n.joined, part...)
		h.Raw = n.joined
	}
	seen, err := h.merge(part, base)
	n.seen |= seen
	return err
}
