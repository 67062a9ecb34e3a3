package protocol

import (
	"encoding/binary"
	"fmt"

	"github.com/kiteq/kiteq/internal/kite"
)

// Framing is how a connection cuts its bytes into frames. It is detected on a connection's first
// frame and holds, in both directions, for as long as the connection lives.
type Framing uint8

// The framings.
const (
	FramingUnknown Framing = iota // not detected yet: no frame can be read or written
	FramingG                      // the Go clients': a header of 19 bytes, then the payload
	FramingL                      // Java, C++ and PHP: a length of 4 bytes, then as in G
)

func (f Framing) String() string {
	switch f {
	case FramingUnknown:
		return "unknown"
	case FramingG:
		return "G"
	case FramingL:
		return "L"
	}
	return fmt.Sprintf("framing %d", uint8(f))
}

const (
	prefixSize = 4  // the length before the header in L
	headSize   = 19 // the header: opaque, command, version, extension, payload length

	// maxFrameL is the longest frame that a Java client takes, its length prefix included.
	maxFrameL = 32768

	// minDetect bytes tell the old framing C from the others; every frame has as many.
	minDetect = 9
	// detectG bytes are enough to be sure of G: all of the header but the payload's length.
	detectG = 15
	// detectL bytes are enough to be sure of L: both lengths must agree.
	detectL = prefixSize + headSize
)

// Detect tells the framing of a connection by its first bytes. FramingUnknown without an error means
// that more are needed, never more than 23. An error means that no framing we speak begins so; it is
// of code kite.Invalid, and the connection is to be closed.
//
// The three framings differ in byte 4. In G and C it is the command, which is never 0. In L it is the
// high byte of the opaque, and that is 0 in a first frame, because clients count from 0 or 1. So only
// the first frame can be told: a later one may echo an opaque of the broker.
func Detect(head []byte) (Framing, error) {
	if len(head) < minDetect {
		return FramingUnknown, nil
	}
	cmd := Command(head[4])
	switch {
	case cmd == 0:
		return detectLength(head)
	case cmd == CmdConnMeta && (head[7] != 0 || head[8] != 0):
		return FramingUnknown, kite.Errorf(kite.Invalid,
			"detect framing: % x is framing C of the PHP extension, which is not spoken here; use the pure PHP client",
			head[:minDetect])
	case !cmd.opens():
		return FramingUnknown, kite.Errorf(kite.Invalid, "detect framing: % x is not the start of a KiteQ connection", head[:minDetect])
	}
	for _, b := range head[5:min(len(head), detectG)] {
		if b != 0 {
			return FramingUnknown, kite.Errorf(kite.Invalid,
				"detect framing: % x: version and extension of a first frame must be 0", head[:min(len(head), detectG)])
		}
	}
	if len(head) < detectG {
		return FramingUnknown, nil
	}
	return FramingG, nil
}

// detectLength accepts L, and nothing else, for a head with a 0 in byte 4.
func detectLength(head []byte) (Framing, error) {
	if !Command(head[8]).opens() {
		return FramingUnknown, kite.Errorf(kite.Invalid, "detect framing: % x is not the start of a KiteQ connection", head[:minDetect])
	}
	if len(head) < detectL {
		return FramingUnknown, nil
	}
	total, payload := int32(binary.BigEndian.Uint32(head)), int32(binary.BigEndian.Uint32(head[headSize:]))
	if int64(total) != headSize+int64(payload) {
		return FramingUnknown, kite.Errorf(kite.Invalid,
			"detect framing: a length prefix of %d does not fit a payload of %d bytes; it must be %d more", total, payload, headSize)
	}
	return FramingL, nil
}
