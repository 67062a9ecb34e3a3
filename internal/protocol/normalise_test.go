package protocol

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol/wire"
)

func TestNormalise(t *testing.T) {
	t.Parallel()
	unknown := []byte{0xa2, 0x06, 0x03, 'n', 'e', 'w'} // field 100
	fields := func(expired, limit int64, commit bool, created ...int64) []byte {
		raw := appendBytes(nil, 1, "0123456789abcdef0123456789abcdef")
		raw = appendBytes(raw, 2, "trade")
		raw = appendBytes(raw, 3, "pay-succ")
		raw = appendInt(raw, 4, expired)
		raw = appendInt(raw, 5, limit)
		raw = appendBytes(raw, 6, "p")
		raw = appendBool(raw, 7, commit)
		raw = appendBool(raw, 8, false)
		for _, c := range created {
			raw = appendInt(raw, 10, c)
		}
		return append(raw, unknown...)
	}
	message := func(header []byte) []byte {
		return slices.Concat(appendBytes(nil, 1, header), appendBytes(nil, 2, "body"), unknown)
	}
	bare := fields(1700604800, 100, true)
	normal := Normal{ExpiredTime: 1700604800, DeliverLimit: 100, CreateTime: 1700000000, Commit: true}
	tests := []struct {
		name      string
		raw, want []byte
	}{
		{"nothing to do", message(fields(1700604800, 100, true, 1700000000)), message(fields(1700604800, 100, true, 1700000000))},
		{"expired", message(fields(-1, 100, true, 1700000000)), message(fields(1700604800, 100, true, 1700000000))},
		{"limit", message(fields(1700604800, -7, true, 1700000000)), message(fields(1700604800, 100, true, 1700000000))},
		{"commit", message(fields(1700604800, 100, false, 1700000000)), message(fields(1700604800, 100, true, 1700000000))},
		{"create time", message(fields(1700604800, 100, true, 0)), message(fields(1700604800, 100, true, 1700000000))},
		{"create time absent", message(bare), message(appendInt(slices.Clone(bare), 10, 1700000000))},
		{"all", message(fields(0, 0, false, -1)), message(fields(1700604800, 100, true, 1700000000))},
		{
			"of several only the last, which counts",
			message(fields(-1, 0, false, 5, 6)), message(fields(1700604800, 100, true, 5, 1700000000)),
		},
		{
			"fields in another order",
			message(slices.Concat(appendInt(nil, 10, 0), appendBool(nil, 7, false), appendInt(nil, 5, 0), appendInt(nil, 4, 0),
				appendBytes(nil, 1, "m"), appendBytes(nil, 2, "t"), appendBytes(nil, 3, "y"), appendBytes(nil, 6, "g"), appendBool(nil, 8, true))),
			message(slices.Concat(appendInt(nil, 10, 1700000000), appendBool(nil, 7, true), appendInt(nil, 5, 100), appendInt(nil, 4, 1700604800),
				appendBytes(nil, 1, "m"), appendBytes(nil, 2, "t"), appendBytes(nil, 3, "y"), appendBytes(nil, 6, "g"), appendBool(nil, 8, true))),
		},
		{
			"body before the header",
			slices.Concat(appendBytes(nil, 2, "body"), unknown, appendBytes(nil, 1, fields(0, 0, false, 0))),
			slices.Concat(appendBytes(nil, 2, "body"), unknown, appendBytes(nil, 1, fields(1700604800, 100, true, 1700000000))),
		},
		{
			"header in two parts",
			slices.Concat(unknown, appendBytes(nil, 1, bare[:41]), appendBytes(nil, 2, "body"), appendBytes(nil, 1, bare[41:]), unknown),
			slices.Concat(unknown, appendBytes(nil, 1, appendInt(slices.Clone(bare), 10, 1700000000)), appendBytes(nil, 2, "body"), unknown),
		},
		{
			"a tag in two bytes is kept",
			slices.Concat([]byte{0x8a, 0x00}, appendBytes(nil, 1, fields(0, 0, false, 0))[1:], appendBytes(nil, 2, "")),
			slices.Concat([]byte{0x8a, 0x00}, appendBytes(nil, 1, fields(1700604800, 100, true, 1700000000))[1:], appendBytes(nil, 2, "")),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var m MessageView
			if err := m.Decode(test.raw); err != nil {
				t.Fatal(err)
			}
			if got, want := normal.Matches(&m.Header), bytes.Equal(test.raw, test.want); got != want {
				t.Errorf("matches: %v, want %v", got, want)
			}
			before := slices.Clone(test.raw)
			got := AppendNormalised([]byte("before"), test.raw, &m, normal)
			if !bytes.Equal(got, append([]byte("before"), test.want...)) {
				t.Errorf("got  %x\nwant %x", got[len("before"):], test.want)
			}
			if !bytes.Equal(before, test.raw) {
				t.Error("the payload was written to")
			}
		})
	}
}

func TestTxCheck(t *testing.T) {
	t.Parallel()
	payload := fullMessage(t)
	frame := []byte("before")
	frame, err := AppendTxCheck(frame, FramingL, 0x80000001, payload, FeedbackCheck)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := FramingL.Next(frame[len("before"):])
	if err != nil || got.Command != CmdTxAck || got.Opaque != 0x80000001 {
		t.Fatalf("%+v, %v", got, err)
	}
	check, stored := &wire.TxACKPacket{}, &wire.BytesMessage{}
	if err := proto.Unmarshal(got.Payload, check); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(payload, stored); err != nil {
		t.Fatal(err)
	}
	stored.Header.Commit = new(false)
	if check.GetStatus() != 0 || check.GetFeedback() != "Server Check" || !proto.Equal(check.Header, stored.Header) {
		t.Errorf("got %v", check)
	}
	if out, err := AppendTxCheck([]byte("before"), FramingG, 1, payload[:20], ""); string(out) != "before" || kite.CodeOf(err) != kite.Invalid {
		t.Errorf("of half a message: %q, %v", out, err)
	}
}

// FuzzNormalise: the result has the normal values and everything else of the message.
func FuzzNormalise(f *testing.F) {
	for _, v := range mustVectors(f) {
		if c := Command(v.Head.Command); v.Message != "" && (c == CmdBytesMessage || c == CmdStringMessage) {
			f.Add(v.payload(f), int64(1700604800), int32(100), int64(1700000000), true)
			f.Add(append(v.payload(f), 0x0a, 0x02, 0x38, 0x05), int64(-1), int32(-1), int64(0), false)
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte, expired int64, limit int32, created int64, commit bool) {
		var m, got MessageView
		if m.Decode(payload) != nil {
			return
		}
		n := Normal{ExpiredTime: expired, DeliverLimit: limit, CreateTime: created, Commit: commit}
		out := AppendNormalised(nil, payload, &m, n)
		if err := got.Decode(out); err != nil {
			t.Fatalf("%x: %v", out, err)
		}
		if !n.Matches(&got.Header) {
			t.Fatalf("%x: not the values of %+v", out, n)
		}
		if again := AppendNormalised(nil, out, &got, n); !bytes.Equal(again, out) {
			t.Fatalf("%x: changed again to %x", out, again)
		}
		realistic := func(seconds int64) bool { return seconds >= 0 && seconds < 1<<35 }
		if realistic(expired) && realistic(created) && limit >= 0 && limit <= kite.MaxDeliverLimit && len(out) > len(payload)+12 {
			t.Fatalf("%d bytes became %d", len(payload), len(out))
		}
		want, std := &wire.BytesMessage{}, &wire.BytesMessage{}
		if err := proto.Unmarshal(payload, want); err != nil {
			t.Fatal(err)
		}
		if err := proto.Unmarshal(out, std); err != nil {
			t.Fatal(err)
		}
		h := want.Header
		h.ExpiredTime, h.DeliverLimit, h.CreateTime, h.Commit = &expired, &limit, &created, &commit
		if !proto.Equal(want, std) { // unknown fields and their order are part of it
			t.Fatalf("%x\nbecame %x", payload, out)
		}
		check, err := AppendTxCheck(nil, FramingG, 1, payload, FeedbackCheck)
		if err != nil {
			t.Fatal(err)
		}
		var a TxAckView
		if err := a.Decode(check[headSize:]); err != nil || a.Header.Commit || a.Status != StatusUnknown {
			t.Fatalf("check %x: %v", check, err)
		}
	})
}
