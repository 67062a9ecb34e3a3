package protocol

import (
	"google.golang.org/protobuf/encoding/protowire"
)

var heartbeatLayout = layout{
	name:     "HeartBeat",
	required: 1 << 1,
	fields:   []fieldLayout{1: {"version", protowire.VarintType}},
}

var connMetaLayout = layout{
	name:     "ConnMeta",
	required: 1<<1 | 1<<2,
	fields: []fieldLayout{
		1:  {"groupId", protowire.BytesType},
		2:  {"secretKey", protowire.BytesType},
		3:  {"warmingupSec", protowire.VarintType},
		16: {"protocolLevel", protowire.VarintType},
		17: {"credit", protowire.VarintType},
	},
}

var connAuthAckLayout = layout{
	name:     "ConnAuthAck",
	required: 1<<1 | 1<<2,
	fields: []fieldLayout{
		1:  {"status", protowire.VarintType},
		2:  {"feedback", protowire.BytesType},
		16: {"protocolLevel", protowire.VarintType},
	},
}

// Level is the newest level that this code speaks: verdicts have receipts.
const Level = 1

// ConnMeta is how a client introduces itself.
type ConnMeta struct {
	GroupID      string
	SecretKey    string
	WarmingUpSec int32 // seconds during which its share of deliveries grows; 0 and less: none
	// Level is what the client speaks beyond the contract of the existing clients, which are all at
	// 0. From 1 on it may be sent commands of CmdFirstNew and above.
	Level int32
	// Credit is how many deliveries a client of Level 1 and above takes before it answers the first, at most
	// MaxCredit; 0 leaves it to the broker.
	Credit int32
}

// MaxCredit bounds ConnMeta.Credit.
const MaxCredit = 1024

// DecodeConnMeta reads the payload of a connMeta frame.
func DecodeConnMeta(payload []byte) (ConnMeta, error) {
	var m ConnMeta
	s := scanner{buf: payload}
	for s.next(&connMetaLayout) {
		switch s.num {
		case 1:
			m.GroupID = string(s.bytes)
		case 2:
			m.SecretKey = string(s.bytes)
		case 3:
			m.WarmingUpSec = int32(s.varint)
		case 16:
			m.Level = int32(s.varint)
		case 17:
			m.Credit = int32(s.varint)
		}
	}
	if err := s.finish(&connMetaLayout); err != nil {
		return ConnMeta{}, err
	}
	return m, nil
}

// ConnAuthAck is the broker's answer to ConnMeta.
type ConnAuthAck struct {
	OK       bool
	Feedback string
	// Level is the highest that the broker speaks, 0 from a broker that knows none. A client that named no
	// level is not told.
	Level int32
}

// DecodeConnAuthAck reads the payload of a connAuthAck frame.
func DecodeConnAuthAck(payload []byte) (ConnAuthAck, error) {
	var a ConnAuthAck
	s := scanner{buf: payload}
	for s.next(&connAuthAckLayout) {
		switch s.num {
		case 1:
			a.OK = s.varint != 0
		case 2:
			a.Feedback = string(s.bytes)
		case 16:
			a.Level = int32(s.varint)
		}
	}
	if err := s.finish(&connAuthAckLayout); err != nil {
		return ConnAuthAck{}, err
	}
	return a, nil
}

// DecodeHeartbeat reads the payload of a heartbeat frame. The answer to it repeats version.
func DecodeHeartbeat(payload []byte) (version int64, err error) {
	s := scanner{buf: payload}
	for s.next(&heartbeatLayout) {
		version = int64(s.varint)
	}
	if err := s.finish(&heartbeatLayout); err != nil {
		return 0, err
	}
	return version, nil
}

// AppendConnMeta appends a client's introduction. Like the existing Go client it always sends
// WarmingUpSec; Level and Credit only when they are above 0.
func AppendConnMeta(dst []byte, f Framing, opaque uint32, m ConnMeta) []byte {
	dst, mark := f.Begin(dst, opaque, CmdConnMeta)
	dst = appendBytes(dst, 1, m.GroupID)
	dst = appendBytes(dst, 2, m.SecretKey)
	dst = appendInt(dst, 3, int64(m.WarmingUpSec))
	if m.Level > 0 {
		dst = appendInt(dst, 16, int64(m.Level))
	}
	if m.Credit > 0 {
		dst = appendInt(dst, 17, int64(m.Credit))
	}
	return f.End(dst, mark)
}

// AppendConnAuthAck appends the broker's answer to ConnMeta; Level only when it is above 0.
func AppendConnAuthAck(dst []byte, f Framing, opaque uint32, a ConnAuthAck) []byte {
	dst, mark := f.Begin(dst, opaque, CmdConnAuthAck)
	dst = appendBool(dst, 1, a.OK)
	dst = appendBytes(dst, 2, a.Feedback)
	if a.Level > 0 {
		dst = appendInt(dst, 16, int64(a.Level))
	}
	return f.End(dst, mark)
}

// AppendHeartbeat appends a client's heartbeat or the broker's answer to it.
func AppendHeartbeat(dst []byte, f Framing, opaque uint32, version int64) []byte {
	dst, mark := f.Begin(dst, opaque, CmdHeartbeat)
	return f.End(appendInt(dst, 1, version), mark)
}
