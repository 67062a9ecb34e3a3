package client

import (
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/kiteq/kiteq/internal/protocol"
)

// readBuffer is how much a connection reads at once, bytes. A larger frame gets a larger buffer
// for as long as it is needed.
const readBuffer = 64 << 10

// frameReader cuts what arrives into frames.
type frameReader struct {
	src        io.Reader
	buf        []byte
	start, end int // what is read and not yet returned
}

func newFrameReader(src io.Reader) *frameReader {
	return &frameReader{src: src, buf: make([]byte, readBuffer)}
}

// next returns the next frame. Its payload is valid until the following call.
func (r *frameReader) next() (protocol.Frame, error) {
	for {
		f, size, err := framing.Next(r.buf[r.start:r.end])
		if err != nil {
			return f, fmt.Errorf("read frame: %w", err)
		}
		if size > 0 {
			r.start += size
			return f, nil
		}
		r.makeRoom()
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		if n == 0 && err != nil {
			return f, err
		}
	}
}

// makeRoom moves the incomplete frame to the front of a buffer with room behind it.
func (r *frameReader) makeRoom() {
	rest := r.buf[r.start:r.end]
	switch {
	case len(rest) == len(r.buf):
		r.buf = append(make([]byte, 0, 2*len(r.buf)), rest...)
		r.buf = r.buf[:cap(r.buf)]
	case len(rest) == 0 && len(r.buf) > readBuffer:
		r.buf = make([]byte, readBuffer)
	case r.start > 0:
		copy(r.buf, rest)
	}
	r.start, r.end = 0, len(rest)
}

// jitter takes up to a tenth off d, so that many clients do not beat together.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10) }
