package protocol

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Normal holds the header values that a broker decides, whatever the publisher sent.
type Normal struct {
	ExpiredTime  int64 // Unix seconds
	DeliverLimit int32 // attempts
	CreateTime   int64 // Unix seconds
	Commit       bool
}

// Matches tells whether h has the values of n, so that normalising would change nothing.
func (n Normal) Matches(h *HeaderView) bool {
	return h.ExpiredTime == n.ExpiredTime && h.DeliverLimit == n.DeliverLimit && h.Commit == n.Commit &&
		h.HasCreateTime && h.CreateTime == n.CreateTime
}

// AppendNormalised appends payload with the header values of n. m is what Decode made of payload. All
// other bytes are kept, unknown fields too; a createTime that was absent comes at the header's end. A
// payload that has these values already is appended as it is.
//
// With times in seconds and limits up to 100 the result is at most 12 bytes longer than payload, however
// payload was made: of values that are there more than once only the last, which counts, is replaced. A
// header in several parts is joined into one.
func AppendNormalised(dst, payload []byte, m *MessageView, n Normal) []byte {
	if n.Matches(&m.Header) {
		return append(dst, payload...)
	}
	p := normalise(&m.Header, n)
	copied, written := 0, false
	s := scanner{buf: payload}
	for s.next(&messageLayout) {
		if s.num != 1 {
			continue
		}
		if written {
			dst = append(dst, payload[copied:s.tagStart]...)
		} else {
			dst = append(dst, payload[copied:s.tagEnd]...)
			dst = protowire.AppendVarint(dst, uint64(p.size()))
			dst = p.append(dst)
			written = true
		}
		copied = s.pos
	}
	return append(dst, payload[copied:]...)
}

// AppendTxCheck appends the broker's question how the transaction of a stored message stands. Stored
// payloads carry commit=true, as they are delivered; the question carries false. The error, of code
// kite.Invalid, says that storedPayload is not a message.
func AppendTxCheck(dst []byte, f Framing, opaque uint32, storedPayload []byte, feedback string) ([]byte, error) {
	var m MessageView
	if err := m.Decode(storedPayload); err != nil {
		return dst, err
	}
	p := patch{raw: m.Header.Raw}
	if m.Header.Commit {
		p.set(m.Header.commitAt, protowire.EncodeBool(false))
	}
	dst, mark := f.Begin(dst, opaque, CmdTxAck)
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(p.size()))
	dst = p.append(dst)
	dst = appendInt(dst, 2, int64(StatusUnknown))
	dst = appendBytes(dst, 3, feedback)
	return f.End(dst, mark), nil
}

// patch is an encoded Header with some varints to be replaced, and a createTime to be added.
type patch struct {
	raw        []byte
	edits      [4]edit // in the order of their place
	count      int
	create     bool
	createTime int64
}

type edit struct {
	at    span
	value uint64
}

func normalise(h *HeaderView, n Normal) patch {
	p := patch{raw: h.Raw}
	if h.ExpiredTime != n.ExpiredTime {
		p.set(h.expiredAt, uint64(n.ExpiredTime))
	}
	if h.DeliverLimit != n.DeliverLimit {
		p.set(h.limitAt, uint64(int64(n.DeliverLimit)))
	}
	if h.Commit != n.Commit {
		p.set(h.commitAt, protowire.EncodeBool(n.Commit))
	}
	switch {
	case !h.HasCreateTime:
		p.create, p.createTime = true, n.CreateTime
	case h.CreateTime != n.CreateTime:
		p.set(h.createdAt, uint64(n.CreateTime))
	}
	return p
}

// set adds an edit at its place in the order: clients may send the fields of a Header in any.
func (p *patch) set(at span, value uint64) {
	i := p.count
	for ; i > 0 && p.edits[i-1].at.start > at.start; i-- {
		p.edits[i] = p.edits[i-1]
	}
	p.edits[i] = edit{at, value}
	p.count++
}

// size returns how many bytes append adds.
func (p *patch) size() int {
	size := len(p.raw)
	for _, e := range p.edits[:p.count] {
		size += protowire.SizeVarint(e.value) - int(e.at.end-e.at.start)
	}
	if p.create {
		size += protowire.SizeTag(10) + protowire.SizeVarint(uint64(p.createTime))
	}
	return size
}

func (p *patch) append(dst []byte) []byte {
	copied := int32(0)
	for _, e := range p.edits[:p.count] {
		dst = append(dst, p.raw[copied:e.at.start]...)
		dst = protowire.AppendVarint(dst, e.value)
		copied = e.at.end
	}
	dst = append(dst, p.raw[copied:]...)
	if p.create {
		dst = appendInt(dst, 10, p.createTime)
	}
	return dst
}
