package protocol

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol/wire"
)

func TestSnappyRoundTrip(t *testing.T) {
	t.Parallel()
	for _, text := range []bool{false, true} {
		for _, size := range []int{0, 1, 100, 70_000, 1 << 20} {
			body := bytes.Repeat([]byte("kite "), size/5+1)[:size]
			kept := bytes.Clone(body)
			block, err := Compress(body, text)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decompress(block, text)
			if err != nil || !bytes.Equal(got, kept) || !bytes.Equal(body, kept) {
				t.Errorf("%d bytes, text %v: %d bytes and %v", size, text, len(got), err)
			}
		}
	}
}

func TestDecompressRefuses(t *testing.T) {
	t.Parallel()
	bomb := binary.AppendUvarint(nil, MaxPlain+1)
	for name, test := range map[string]struct {
		body []byte
		text bool
		code kite.Code
		want string
	}{
		"no base64":     {[]byte("%%%"), true, kite.Invalid, "base64"},
		"no block":      {[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, false, kite.Invalid, "snappy block"},
		"empty":         {nil, false, kite.Invalid, "snappy block"},
		"too long":      {bomb, false, kite.TooLarge, "at most"},
		"claims a lot":  {binary.AppendUvarint(nil, 1<<20), false, kite.Invalid, "can hold"},
		"damaged block": {[]byte{5, 0xf0, 0xff, 1, 2}, false, kite.Invalid, "snappy block"},
	} {
		_, err := Decompress(test.body, test.text)
		if kite.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Compress(make([]byte, MaxPlain+1), false); kite.CodeOf(err) != kite.TooLarge {
		t.Errorf("compress: %v", err)
	}
}

// TestAppendPlain takes a compressed message apart for clients that do not know the field: everything
// else stays as it was.
func TestAppendPlain(t *testing.T) {
	t.Parallel()
	for _, cmd := range []Command{CmdBytesMessage, CmdStringMessage} {
		text := cmd == CmdStringMessage
		block, err := Compress([]byte("plain plain plain"), text)
		if err != nil {
			t.Fatal(err)
		}
		snappy := true
		frame := AppendMessage(nil, FramingG, 1, cmd, &Header{
			MessageID: "0123456789abcdef0123456789abcdef", Topic: "trade", MessageType: "pay", GroupID: "p",
			DeliverLimit: 3, Commit: true, Properties: map[string]string{"a": "b"}, CreateTime: 7, Snappy: &snappy,
		}, block)
		unknown := []byte{0x62, 2, 'o', 'k'} // field 12, a string
		payload := append(bytes.Clone(frame[19:]), unknown...)
		var m MessageView
		if err := m.Decode(payload); err != nil {
			t.Fatal(err)
		}
		plain, err := AppendPlain([]byte("before"), cmd, payload, &m)
		if err != nil || !bytes.HasPrefix(plain, []byte("before")) || !bytes.HasSuffix(plain, unknown) {
			t.Fatalf("%x, %v", plain, err)
		}
		before, after := &wire.BytesMessage{}, &wire.BytesMessage{}
		if err := proto.Unmarshal(payload, before); err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(plain[len("before"):], after); err != nil {
			t.Fatal(err)
		}
		before.Header.Snappy, before.Body = nil, []byte("plain plain plain")
		if !proto.Equal(before, after) {
			t.Errorf("%v\nbecame %v", before, after)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	for _, text := range []bool{false, true} {
		block, err := Compress([]byte("a seed, a seed, a seed"), text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(block, text)
	}
	f.Add([]byte("\x80\x80\x80\x08\x00"), false)
	f.Fuzz(func(t *testing.T, body []byte, text bool) {
		plain, err := Decompress(body, text)
		if len(plain) > MaxPlain || len(plain) > maxRatio*len(body) {
			t.Fatalf("%d bytes became %d", len(body), len(plain))
		}
		if err != nil {
			return
		}
		block, err := Compress(plain, text)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Decompress(block, text); err != nil || !bytes.Equal(again, plain) {
			t.Errorf("%x became %x, %v", plain, again, err)
		}
	})
}
