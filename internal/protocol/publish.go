package protocol

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Header is the Header of a message to publish.
type Header struct {
	MessageID    string // 32 hexadecimal digits
	Topic        string
	MessageType  string
	GroupID      string // the publisher's
	ExpiredTime  int64  // Unix seconds; 0 and less: none
	DeliverLimit int32  // attempts; 0 and less: as many as the broker allows
	Commit       bool   // false: prepared, to be decided by a TxAck
	Fly          bool   // not stored
	Properties   map[string]string
	CreateTime   int64 // Unix seconds; 0: absent, and the broker sets it
	// Snappy says that the body is one snappy block, in base64 in a string message. nil leaves the
	// field out, as clients without compression do.
	Snappy *bool
}

// AppendMessage appends a message to publish; cmd is CmdBytesMessage or CmdStringMessage. Properties
// are written in the order of their keys, so that equal messages have equal bytes.
func AppendMessage(dst []byte, f Framing, opaque uint32, cmd Command, h *Header, body []byte) []byte {
	dst, mark := f.Begin(dst, opaque, cmd)
	dst, at := beginNested(dst, 1)
	dst = h.append(dst)
	dst = endNested(dst, at)
	dst = appendBytes(dst, 2, body)
	return f.End(dst, mark)
}

func (h *Header) append(dst []byte) []byte {
	dst = appendBytes(dst, 1, h.MessageID)
	dst = appendBytes(dst, 2, h.Topic)
	dst = appendBytes(dst, 3, h.MessageType)
	dst = appendInt(dst, 4, h.ExpiredTime)
	dst = appendInt(dst, 5, int64(h.DeliverLimit))
	dst = appendBytes(dst, 6, h.GroupID)
	dst = appendBool(dst, 7, h.Commit)
	dst = appendBool(dst, 8, h.Fly)
	if len(h.Properties) > 0 {
		dst = h.appendProperties(dst)
	}
	if h.CreateTime != 0 {
		dst = appendInt(dst, 10, h.CreateTime)
	}
	if h.Snappy != nil {
		dst = appendBool(dst, 11, *h.Snappy)
	}
	return dst
}

func (h *Header) appendProperties(dst []byte) []byte {
	var few [16]string // usually enough, so that sorting allocates nothing
	keys := slices.AppendSeq(few[:0], maps.Keys(h.Properties))
	slices.Sort(keys)
	for _, key := range keys {
		var at int
		dst, at = beginNested(dst, 9)
		dst = appendBytes(dst, 1, key)
		dst = appendBytes(dst, 2, h.Properties[key])
		dst = endNested(dst, at)
	}
	return dst
}

// beginNested appends a field that holds a message, with one byte kept free for its length. The caller
// appends the fields of the message and hands the result to endNested, with at.
func beginNested(dst []byte, num protowire.Number) (out []byte, at int) {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	dst = append(dst, 0)
	return dst, len(dst)
}

// endNested writes the length of everything from at on before at, and moves it when the length takes
// more than one byte.
func endNested(dst []byte, at int) []byte {
	length := len(dst) - at
	more := protowire.SizeVarint(uint64(length)) - 1
	for range more {
		dst = append(dst, 0)
	}
	copy(dst[at+more:], dst[at:at+length])
	protowire.AppendVarint(dst[:at-1], uint64(length))
	return dst
}
