package protocol

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

func framings() []Framing { return []Framing{FramingG, FramingL} }

func TestFrameRoundTrip(t *testing.T) {
	t.Parallel()
	for _, f := range framings() {
		for _, length := range []int{0, 1, 127, 128, f.MaxPayload()} {
			payload := bytes.Repeat([]byte{'x'}, length)
			wire := f.AppendFrame([]byte("before"), 0x80000001, CmdStoreAck, payload)
			wire = f.AppendFrame(wire, 0, CmdHeartbeat, nil)
			rest := wire[len("before"):]
			frame, size, err := f.Next(rest)
			if err != nil || frame.Opaque != 0x80000001 || frame.Command != CmdStoreAck || !bytes.Equal(frame.Payload, payload) {
				t.Fatalf("%s, %d bytes: %d %s, %v", f, length, frame.Opaque, frame.Command, err)
			}
			if cap(frame.Payload) != length {
				t.Errorf("%s: appending to the payload would reach the next frame", f)
			}
			frame, size, err = f.Next(rest[size:])
			if err != nil || size == 0 || frame.Opaque != 0 || frame.Command != CmdHeartbeat || len(frame.Payload) != 0 {
				t.Fatalf("%s, second frame: %+v, %v", f, frame, err)
			}
		}
	}
}

func TestNextIncomplete(t *testing.T) {
	t.Parallel()
	for _, f := range framings() {
		wire := f.AppendFrame(nil, 7, CmdBytesMessage, []byte("payload"))
		for n := range len(wire) {
			if frame, size, err := f.Next(wire[:n:n]); size != 0 || err != nil || frame.Payload != nil {
				t.Errorf("%s, %d of %d bytes: %+v, %d, %v", f, n, len(wire), frame, size, err)
			}
			if size := f.Size(wire[:n]); size != 0 && (size != len(wire) || n < len(wire)-len("payload")) {
				t.Errorf("%s, %d of %d bytes: size %d", f, n, len(wire), size)
			}
		}
		if size := f.Size(wire[:len(wire)-1]); size != len(wire) {
			t.Errorf("%s: size %d of %d bytes", f, size, len(wire))
		}
	}
}

func TestNextRefuses(t *testing.T) {
	t.Parallel()
	head := func(prefix *int32, length int32) []byte {
		var b []byte
		if prefix != nil {
			b = binary.BigEndian.AppendUint32(b, uint32(*prefix))
		}
		b = append(b, 0, 0, 0, 1, byte(CmdBytesMessage), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		return binary.BigEndian.AppendUint32(b, uint32(length))
	}
	tests := []struct {
		name string
		f    Framing
		buf  []byte
		want kite.Code
	}{
		{"unknown framing", FramingUnknown, head(nil, 1), kite.Invalid},
		{"G: largest", FramingG, head(nil, kite.MaxPayload), kite.OK},
		{"G: one too many", FramingG, head(nil, kite.MaxPayload+1), kite.TooLarge},
		{"G: negative", FramingG, head(nil, -1), kite.Invalid},
		{"L: largest", FramingL, head(new(int32(kite.MaxPayload+19)), kite.MaxPayload), kite.OK},
		{"L: one too many", FramingL, head(new(int32(kite.MaxPayload+20)), kite.MaxPayload+1), kite.TooLarge},
		{"L: too large by its prefix alone", FramingL, head(new(int32(kite.MaxPayload+20)), 0)[:4], kite.TooLarge},
		{"L: negative", FramingL, head(new(int32(18)), -1), kite.Invalid},
		{"L: negative by its prefix alone", FramingL, head(new(int32(18)), 0)[:4], kite.Invalid},
		{"L: prefix with the high bit", FramingL, head(new(int32(-1<<31)), 5), kite.Invalid},
		{"L: lengths disagree", FramingL, head(new(int32(25)), 5), kite.Invalid},
		{"L: lengths disagree, negative", FramingL, head(new(int32(25)), -1), kite.Invalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, size, err := test.f.Next(test.buf)
			if kite.CodeOf(err) != test.want || size != 0 {
				t.Errorf("size %d, %v; want %s", size, err, test.want)
			}
		})
	}
}

func TestMaxPayload(t *testing.T) {
	t.Parallel()
	if got := len(FramingL.AppendFrame(nil, 1, CmdBytesMessage, make([]byte, FramingL.MaxPayload()))); got != 32768 {
		t.Errorf("the largest frame of L has %d bytes, want 32768", got)
	}
	if got := FramingG.MaxPayload(); got != 2<<20 {
		t.Errorf("the largest payload of G has %d bytes, want 2 MiB", got)
	}
	if got := FramingUnknown.MaxPayload(); got != 0 {
		t.Errorf("an unknown framing carries %d bytes", got)
	}
}

func TestBeginUnknownPanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	FramingUnknown.Begin(nil, 1, CmdHeartbeat)
}

// FuzzNext: no panic, nothing read or returned from behind the buffer, sizes that agree, and the same
// bytes when written again (but for version and extension, which nobody reads).
func FuzzNext(f *testing.F) {
	for _, v := range mustVectors(f) {
		f.Add(v.bytes(f))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, framing := range framings() {
			frame, size, err := framing.Next(data[:len(data):len(data)])
			if err != nil || size == 0 {
				if size != 0 || frame.Payload != nil {
					t.Fatalf("%s: %d, %v", framing, size, err)
				}
				continue
			}
			if size > len(data) {
				t.Fatalf("%s: size %d of %d", framing, size, len(data))
			}
			// The bytes behind the frame are of no influence, and any fewer are not a frame.
			if again, n, err := framing.Next(data[:size:size]); err != nil || n != size || !bytes.Equal(again.Payload, frame.Payload) {
				t.Fatalf("%s: %d bytes alone: %d, %v", framing, size, n, err)
			}
			if _, n, err := framing.Next(data[: size-1 : size-1]); err != nil || n != 0 {
				t.Fatalf("%s: all but the last byte: %d, %v", framing, n, err)
			}
			want := slices.Clone(data[:size])
			got := framing.AppendFrame(nil, frame.Opaque, frame.Command, frame.Payload)
			if len(got) != size {
				t.Fatalf("%s: %d bytes written again as %d", framing, size, len(got))
			}
			for _, b := range [][]byte{got, want} {
				clear(b[size-len(frame.Payload)-14 : size-len(frame.Payload)-4])
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%s: % x written again as % x", framing, want, got)
			}
		}
	})
}
