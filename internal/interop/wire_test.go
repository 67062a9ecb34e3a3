package interop

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// framing is how a client cuts its bytes into frames: G of the Go clients, L of Java, C++ and PHP (§1.1, §1.2).
type framing byte

const (
	framingG framing = 'G'
	framingL framing = 'L'
)

func (f framing) String() string { return string(rune(f)) }

// The commands (§2).
const (
	cmdHeartbeat  = 0x01
	cmdConnMeta   = 0x02
	cmdConnAuth   = 0x03
	cmdStoreAck   = 0x04
	cmdDeliverAck = 0x05
	cmdTxAck      = 0x06
	cmdBytes      = 0x11
	cmdString     = 0x12
)

const (
	headSize   = 19
	maxPayload = 2 << 20 // of a frame in G
	maxFrameL  = 32768   // with the length prefix: what Java's decoder takes
)

// frame is what one side says in one go.
type frame struct {
	opaque  uint32
	cmd     byte
	version uint16
	payload []byte
}

// encode writes the frame with the lengths that belong to it.
func (f framing) encode(fr frame) []byte {
	b := make([]byte, 0, 4+headSize+len(fr.payload))
	if f == framingL {
		b = binary.BigEndian.AppendUint32(b, uint32(headSize+len(fr.payload)))
	}
	b = binary.BigEndian.AppendUint32(b, fr.opaque)
	b = append(b, fr.cmd)
	b = binary.BigEndian.AppendUint16(b, fr.version)
	b = binary.BigEndian.AppendUint64(b, 0) // extension
	b = binary.BigEndian.AppendUint32(b, uint32(len(fr.payload)))
	return append(b, fr.payload...)
}

// cut takes the first frame off b and returns its size, 0 when it is not complete. It is as strict as the
// strictest client of the framing: what that one would drop or misread is an error.
func (f framing) cut(b []byte) (frame, int, error) {
	prefix, limit := 0, headSize+maxPayload
	if f == framingL {
		prefix, limit = 4, maxFrameL
	}
	if len(b) < prefix+headSize {
		return frame{}, 0, nil
	}
	head := b[prefix:]
	length := int(int32(binary.BigEndian.Uint32(head[15:])))
	size := prefix + headSize + length
	switch {
	case length < 0 || size > limit:
		return frame{}, 0, fmt.Errorf("frame of %d bytes in framing %s, at most %d are taken", size, f, limit)
	case f == framingL && binary.BigEndian.Uint32(b) != uint32(headSize+length):
		return frame{}, 0, fmt.Errorf("length prefix %d before a payload of %d bytes", binary.BigEndian.Uint32(b), length)
	case binary.BigEndian.Uint64(head[7:]) != 0:
		return frame{}, 0, fmt.Errorf("extension %x", head[7:15])
	case len(b) < size:
		return frame{}, 0, nil
	}
	return frame{
		opaque: binary.BigEndian.Uint32(head), cmd: head[4], version: binary.BigEndian.Uint16(head[5:]),
		payload: slices.Clone(b[prefix+headSize : size]),
	}, size, nil
}

// field is one field of a protobuf message: a varint in n, or bytes in b.
type field struct {
	num protowire.Number
	typ protowire.Type
	n   uint64
	b   []byte
}

// message is a protobuf message as it lies on the wire: every field in its order, known or not.
type message []field

func parse(b []byte) (message, error) {
	var m message
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		f := field{num: num, typ: typ}
		switch typ {
		case protowire.VarintType:
			f.n, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			f.b, n = protowire.ConsumeBytes(b)
		default:
			return nil, fmt.Errorf("field %d has wire type %d, which no message of KiteQ uses", num, typ)
		}
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		m = append(m, f)
	}
	return m, nil
}

// String shows every field with its number.
func (m message) String() string {
	var s strings.Builder
	for _, f := range m {
		if f.typ == protowire.VarintType {
			fmt.Fprintf(&s, "%d:%d ", f.num, int64(f.n))
		} else {
			fmt.Fprintf(&s, "%d:%.60q ", f.num, f.b)
		}
	}
	return s.String()
}

func (m message) encode() []byte {
	var b []byte
	for _, f := range m {
		b = protowire.AppendTag(b, f.num, f.typ)
		if f.typ == protowire.VarintType {
			b = protowire.AppendVarint(b, f.n)
		} else {
			b = protowire.AppendBytes(b, f.b)
		}
	}
	return b
}

// with returns a copy whose field has the value: a string, bytes, an integer, a bool, a message, or nil
// for a field that is to be absent. A field that was not there comes last.
func (m message) with(num protowire.Number, value any) message {
	f := field{num: num, typ: protowire.BytesType}
	switch v := value.(type) {
	case nil:
		return slices.DeleteFunc(slices.Clone(m), func(f field) bool { return f.num == num })
	case string:
		f.b = []byte(v)
	case []byte:
		f.b = v
	case message:
		f.b = v.encode()
	case bool:
		f.typ, f.n = protowire.VarintType, protowire.EncodeBool(v)
	case int:
		f.typ, f.n = protowire.VarintType, uint64(int64(v))
	case int64:
		f.typ, f.n = protowire.VarintType, uint64(v)
	default:
		panic(fmt.Sprintf("interop: value %v of type %T", value, value))
	}
	out := slices.Clone(m)
	if i := slices.IndexFunc(out, func(f field) bool { return f.num == num }); i >= 0 {
		out[i] = f
		return out
	}
	return append(out, f)
}

func (m message) find(num protowire.Number) *field {
	for i := range m {
		if m[i].num == num {
			return &m[i]
		}
	}
	return nil
}

func (m message) has(num protowire.Number) bool { return m.find(num) != nil }

func (m message) text(num protowire.Number) string {
	if f := m.find(num); f != nil {
		return string(f.b)
	}
	return ""
}

func (m message) number(num protowire.Number) int64 {
	if f := m.find(num); f != nil {
		return int64(f.n)
	}
	return 0
}

// sub parses an embedded message.
func (m message) sub(num protowire.Number) message {
	inner, err := parse([]byte(m.text(num)))
	if err != nil {
		return nil
	}
	return inner
}

// The fields of a Header (§3), and that of it in messages and TxACKs.
const (
	header = 1

	headID         = 1
	headTopic      = 2
	headType       = 3
	headExpires    = 4
	headLimit      = 5
	headGroup      = 6
	headCommit     = 7
	headFly        = 8
	headProperties = 9
	headCreated    = 10
	headSnappy     = 11

	body = 2 // of a BytesMessage or StringMessage
)

// missing names the first required field of the command's payload that is absent (§0.8, §3).
func missing(cmd byte, m message) string {
	required := map[byte][]protowire.Number{
		cmdHeartbeat: {1}, cmdConnMeta: {1, 2}, cmdConnAuth: {1, 2}, cmdStoreAck: {1, 2, 3},
		cmdDeliverAck: {1, 2, 3, 4, 5}, cmdTxAck: {1, 2, 3}, cmdBytes: {1, 2}, cmdString: {1, 2},
	}
	for _, num := range required[cmd] {
		if !m.has(num) {
			return fmt.Sprintf("field %d of command %#x", num, cmd)
		}
	}
	if cmd == cmdTxAck || cmd == cmdBytes || cmd == cmdString {
		head := m.sub(header)
		for num := protowire.Number(headID); num <= headFly; num++ {
			if !head.has(num) {
				return fmt.Sprintf("field %d of the header in command %#x", num, cmd)
			}
		}
	}
	return ""
}
