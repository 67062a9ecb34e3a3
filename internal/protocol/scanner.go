package protocol

import (
	"errors"
	"math/bits"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kiteq/kiteq/internal/kite"
)

// layout is what the scanner must know of a message: its name for errors, and of each field that we
// read, at the index of its number, the name and the wire type. Layouts are never written to.
type layout struct {
	name     string
	required uint32 // bit n: field n must be there
	fields   []fieldLayout
}

type fieldLayout struct {
	name string // empty: not known
	typ  protowire.Type
}

// errWireType says that a known field came with another wire type than its own.
var errWireType = errors.New("unexpected wire type")

// scanner walks over the known fields of one encoded message. It passes over unknown fields, groups
// among them, and stops at the first byte that is not protobuf.
//
// It differs from the standard decoder in one thing on purpose: a known field of the wrong wire type
// is an error. The standard decoder treats it as unknown, so that an optional createTime sent as a
// string would be forwarded and yet not be seen. Strings are not checked for UTF-8, as in all of proto2.
type scanner struct {
	buf []byte
	pos int // after the current field

	num      protowire.Number // the current field
	tagStart int              // where its tag begins
	tagEnd   int              // where its tag ends
	start    int              // where its value begins: behind the length of a string
	varint   uint64           // its value, when it is a varint
	bytes    []byte           // its value, when it is a string, bytes or a message

	seen uint32 // bit n: field n was there
	err  error
}

// next reads the next known field. It returns false at the end and on an error.
func (s *scanner) next(l *layout) bool {
	for s.pos < len(s.buf) {
		num, typ, n := consumeTag(s.buf[s.pos:])
		if n < 0 {
			return s.malformed(l, "", n)
		}
		s.tagStart, s.tagEnd = s.pos, s.pos+n
		s.num, s.pos = num, s.tagEnd
		if int(num) >= len(l.fields) || l.fields[num].name == "" {
			if n = protowire.ConsumeFieldValue(num, typ, s.buf[s.pos:]); n < 0 {
				return s.malformed(l, "", n)
			}
			s.pos += n
			continue
		}
		field := &l.fields[num]
		if typ != field.typ {
			s.err = kite.Errorf(kite.Invalid, "%s.%s: %w %d, it is %d", l.name, field.name, errWireType, typ, field.typ)
			return false
		}
		rest := s.buf[s.pos:]
		if typ == protowire.VarintType {
			s.start = s.pos
			s.varint, n = consumeVarint(rest)
		} else {
			s.bytes, n = protowire.ConsumeBytes(rest)
			s.start = s.pos + n - len(s.bytes)
		}
		if n < 0 {
			return s.malformed(l, field.name, n)
		}
		s.pos += n
		s.seen |= 1 << num
		return true
	}
	return false
}

func (s *scanner) malformed(l *layout, field string, code int) bool {
	name := l.name
	if field != "" {
		name += "." + field
	}
	s.err = kite.Errorf(kite.Invalid, "%s: not valid protobuf at byte %d: %w", name, s.pos, protowire.ParseError(code))
	return false
}

// check names the first required field of l that is not in seen.
func (l *layout) check(seen uint32) error {
	missing := l.required &^ seen
	if missing == 0 {
		return nil
	}
	return kite.Errorf(kite.Invalid, "required field %s.%s not set", l.name, l.fields[bits.TrailingZeros32(missing)].name)
}

// finish returns what is wrong with a message that was scanned to its end.
func (s *scanner) finish(l *layout) error {
	if s.err != nil {
		return s.err
	}
	return l.check(s.seen)
}

// consumeTag is protowire.ConsumeTag, quicker for the one-byte tags that all our fields but one
// have, and as strict about field numbers as the standard decoder.
func consumeTag(b []byte) (protowire.Number, protowire.Type, int) {
	if b[0] >= 1<<3 && b[0] < 0x80 {
		return protowire.Number(b[0] >> 3), protowire.Type(b[0] & 7), 1
	}
	num, typ, n := protowire.ConsumeTag(b)
	if n >= 0 && !num.IsValid() {
		return 0, 0, -2 // protowire's code for "invalid field number"
	}
	return num, typ, n
}

// consumeVarint is protowire.ConsumeVarint, quicker for booleans and small numbers.
func consumeVarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return protowire.ConsumeVarint(b)
}
