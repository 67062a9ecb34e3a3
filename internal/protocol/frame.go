package protocol

import (
	"encoding/binary"

	"github.com/kiteq/kiteq/internal/kite"
)

// Frame is what one side says in one go. A request carries an opaque, and its answer the same one.
type Frame struct {
	Opaque  uint32
	Command Command
	Payload []byte // a view into the buffer that the frame was read from
}

// A frame on the wire, integers big-endian; L puts the first line before what is G:
//
//	     0        4
//	L    | total  |                                total = 19 + length, it does not count itself
//
//	     0        4     5         7           15       19
//	G    | opaque | cmd | version | extension | length | payload ...
//
// Versions and extensions are ignored by every receiver. We send what each family of clients sends
// itself: version 0 in G and 2 in L, extension 0.
const (
	atCommand = 4
	atVersion = 5
	atLength  = 15

	versionL = 2
)

// Next returns the first frame of buf and its size on the wire, bytes. Size 0 without an error means
// that the frame is not complete. An error says that the stream cannot be followed any more, and the
// connection must be closed: a negative length or lengths that disagree (kite.Invalid), or a payload
// of more than kite.MaxPayload bytes (kite.TooLarge).
func (f Framing) Next(buf []byte) (Frame, int, error) {
	prefix := 0
	switch f {
	case FramingG:
	case FramingL:
		prefix = prefixSize
		if err := checkTotal(buf); err != nil {
			return Frame{}, 0, err
		}
	default:
		return Frame{}, 0, kite.Errorf(kite.Invalid, "read frame: framing %s; detect it first", f)
	}
	if len(buf) < prefix+headSize {
		return Frame{}, 0, nil
	}
	head := buf[prefix : prefix+headSize]
	length := int64(int32(binary.BigEndian.Uint32(head[atLength:])))
	if err := checkLength(length); err != nil {
		return Frame{}, 0, err
	}
	if f == FramingL {
		if total := int64(binary.BigEndian.Uint32(buf)); total != headSize+length {
			return Frame{}, 0, kite.Errorf(kite.Invalid,
				"read frame: a length prefix of %d does not fit a payload of %d bytes; it must be %d more", total, length, headSize)
		}
	}
	start := prefix + headSize
	size := start + int(length)
	if len(buf) < size {
		return Frame{}, 0, nil
	}
	return Frame{
		Opaque:  binary.BigEndian.Uint32(head),
		Command: Command(head[atCommand]),
		Payload: buf[start:size:size], // so that appending to it cannot reach the next frame
	}, size, nil
}

// Overhead returns how many bytes of a frame are not its payload.
func (f Framing) Overhead() int {
	if f == FramingL {
		return prefixSize + headSize
	}
	return headSize
}

// Size returns how large on the wire the frame is that buf begins with, bytes, or 0 when its header is
// not complete. It believes what Next would accept: call that first.
func (f Framing) Size(buf []byte) int {
	start := f.Overhead()
	if len(buf) < start {
		return 0
	}
	return start + int(binary.BigEndian.Uint32(buf[start-headSize+atLength:]))
}

// checkTotal refuses an impossible length prefix as soon as it is there: the receiver need not buffer
// for a frame that never comes.
func checkTotal(buf []byte) error {
	if len(buf) < prefixSize {
		return nil
	}
	return checkLength(int64(int32(binary.BigEndian.Uint32(buf))) - headSize)
}

func checkLength(length int64) error {
	switch {
	case length < 0:
		return kite.Errorf(kite.Invalid, "read frame: payload length %d; it must not be negative", length)
	case length > kite.MaxPayload:
		return kite.Errorf(kite.TooLarge, "read frame: payload of %d bytes, at most %d are allowed", length, kite.MaxPayload)
	}
	return nil
}

// MaxPayload returns the largest payload that may be sent in f, bytes. It is smaller than what Next
// reads in L: old Java and C++ clients discard frames of more than 32768 bytes, length prefix included.
func (f Framing) MaxPayload() int {
	switch f {
	case FramingG:
		return kite.MaxPayload
	case FramingL:
		return maxFrameL - prefixSize - headSize
	}
	return 0
}

// AppendFrame appends one frame to dst. The caller has compared the payload with MaxPayload.
func (f Framing) AppendFrame(dst []byte, opaque uint32, cmd Command, payload []byte) []byte {
	dst, mark := f.Begin(dst, opaque, cmd)
	return f.End(append(dst, payload...), mark)
}

// Begin appends the header of a frame. The caller appends the payload and hands the result to End,
// with the mark. It panics when f is FramingUnknown.
func (f Framing) Begin(dst []byte, opaque uint32, cmd Command) (out []byte, mark int) {
	mark = len(dst)
	version := uint16(0)
	switch f {
	case FramingG:
	case FramingL:
		dst = append(dst, 0, 0, 0, 0)
		version = versionL
	default:
		panic("protocol: frame begun in an unknown framing")
	}
	var head [headSize]byte
	binary.BigEndian.PutUint32(head[:], opaque)
	head[atCommand] = byte(cmd)
	binary.BigEndian.PutUint16(head[atVersion:], version)
	return append(dst, head[:]...), mark
}

// End writes the length of everything appended since Begin into the header at mark.
func (f Framing) End(dst []byte, mark int) []byte {
	frame := dst[mark:]
	if f == FramingL {
		binary.BigEndian.PutUint32(frame, uint32(len(frame)-prefixSize))
		frame = frame[prefixSize:]
	}
	binary.BigEndian.PutUint32(frame[atLength:], uint32(len(frame)-headSize))
	return dst
}
