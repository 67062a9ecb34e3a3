package protocol

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

func TestDetect(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		head  string // hex
		want  Framing
		error string // part of it; empty: none
	}{
		{"nothing", "", FramingUnknown, ""},
		{"too short to tell", "0000000102000000", FramingUnknown, ""},
		{"G needs the header but the length", "0000000102000000000000000000", FramingUnknown, ""},
		{"G connMeta", "000000010200000000000000000000", FramingG, ""},
		{"G heartbeat first, after a reconnect", "0000000101" + "00000000000000000000", FramingG, ""},
		{"G message first, after a reconnect", "0000000911" + "00000000000000000000", FramingG, ""},
		{"G with an opaque that begins with the high bit", "80000001020000000000" + "0000000000", FramingG, ""},
		{"L needs both lengths", "00000028000000000200020000000000000000000000", FramingUnknown, ""},
		{"L connMeta", "0000002800000000020002000000000000000000000015", FramingL, ""},
		{"L of PHP, version 0", "0000002500000000020000000000000000000000000012", FramingL, ""},
		{"L lengths disagree", "0000002900000000020002000000000000000000000015", FramingUnknown, "must be 19 more"},
		{"L lengths wrap around", "80000012000000000200020000000000000000007fffffff", FramingUnknown, "must be 19 more"},
		{"L unknown command", "000000280000000007000200000000", FramingUnknown, "not the start"},
		{"C", "00000001020000001f0a08732d67", FramingUnknown, "framing C"},
		{"G with a version", "00000001020002000000000000000000", FramingUnknown, "must be 0"},
		{"G with an extension", "0000000102000000000000000001", FramingUnknown, "must be 0"},
		{"G message with a version", "00000001110002000000000000000000", FramingUnknown, "must be 0"},
		{"unknown command", "000000017f0000000000000000000000", FramingUnknown, "not the start"},
		{"new command first", "00000001200000000000000000000000", FramingUnknown, "not the start"},
		{"HTTP", hex.EncodeToString([]byte("GET / HTTP/1.1\r\n")), FramingUnknown, "not the start"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			head, err := hex.DecodeString(test.head)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Detect(head)
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
			switch {
			case test.error == "" && err != nil:
				t.Errorf("unexpected error %v", err)
			case test.error != "" && (err == nil || !strings.Contains(err.Error(), test.error) || kite.CodeOf(err) != kite.Invalid):
				t.Errorf("error %v, want one with %q", err, test.error)
			}
		})
	}
}

// FuzzDetect: more bytes never change a decision, 23 are always enough, and a decision is kept by Next
// in so far as the frame has the length that it was told by.
func FuzzDetect(f *testing.F) {
	for _, v := range mustVectors(f) {
		f.Add(v.bytes(f))
	}
	f.Add([]byte("\x00\x00\x00\x01\x02\x00\x00\x00\x1f\x0a\x08s-golden"))
	f.Fuzz(func(t *testing.T, data []byte) {
		want, wantErr := Detect(data)
		if len(data) >= detectL && want == FramingUnknown && wantErr == nil {
			t.Fatalf("% x: not decided", data[:detectL])
		}
		decided := false
		for n := range min(len(data), 2*detectL) + 1 {
			got, err := Detect(data[:n:n])
			if got != FramingUnknown && err != nil {
				t.Fatalf("%v and %v", got, err)
			}
			if decided = decided || got != FramingUnknown || err != nil; !decided {
				continue
			}
			if got != want || (err == nil) != (wantErr == nil) {
				t.Fatalf("%d bytes: %v, %v; all: %v, %v", n, got, err, want, wantErr)
			}
		}
		if want == FramingL {
			_, _, err := want.Next(data)
			if err != nil && !strings.Contains(err.Error(), "payload") {
				t.Fatal(err)
			}
		}
		if want == FramingG && bytes.Count(data[5:detectG], []byte{0}) != detectG-5 {
			t.Fatalf("G with a version or extension: % x", data)
		}
	})
}

func TestFramingString(t *testing.T) {
	t.Parallel()
	for f, want := range map[Framing]string{FramingUnknown: "unknown", FramingG: "G", FramingL: "L", 9: "framing 9"} {
		if got := f.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
