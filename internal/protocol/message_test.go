package protocol

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol/wire"
)

// fullMessage returns the payload of a message with every field set.
func fullMessage(t testing.TB) []byte {
	t.Helper()
	payload, err := proto.Marshal(&wire.BytesMessage{
		Header: &wire.Header{
			MessageId: new("0123456789abcdef0123456789abcdef"), Topic: new("trade"), MessageType: new("pay-succ"),
			ExpiredTime: new(int64(1893456000)), DeliverLimit: new(int32(42)), GroupId: new("p-golden"),
			Commit: new(true), Fly: new(false), CreateTime: new(int64(1700000000)), Snappy: new(true),
			Properties: []*wire.Entry{
				{Key: new("tradeno"), Value: new("T-1001")},
				{Key: new("lang"), Value: new("en")},
				{Key: new("lang"), Value: new("zh")},
			},
		},
		Body: bytes.Repeat([]byte("body"), 64),
	})
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func TestProperties(t *testing.T) {
	t.Parallel()
	var m MessageView
	if err := m.Decode(fullMessage(t)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for key, value := range m.Header.Properties {
		got = append(got, fmt.Sprintf("%s=%s", key, value))
	}
	if diff := cmp.Diff([]string{"tradeno=T-1001", "lang=en", "lang=zh"}, got); diff != "" {
		t.Error(diff)
	}
	for range m.Header.Properties {
		break // must not yield again
	}
	if value, ok := m.Header.Property("lang"); string(value) != "zh" || !ok {
		t.Errorf("lang: %q, %v", value, ok)
	}
	if value, ok := m.Header.Property("none"); value != nil || ok {
		t.Errorf("none: %q, %v", value, ok)
	}
}

// TestRequired removes each required field in turn from each message: the error must name it.
func TestRequired(t *testing.T) {
	t.Parallel()
	message := &wire.BytesMessage{}
	if err := proto.Unmarshal(fullMessage(t), message); err != nil {
		t.Fatal(err)
	}
	header := message.Header
	tests := []struct {
		full   proto.Message
		decode func([]byte) error
	}{
		{&wire.HeartBeat{Version: new(int64(1))}, func(b []byte) error { _, err := DecodeHeartbeat(b); return err }},
		{&wire.ConnMeta{GroupId: new("g"), SecretKey: new("s")}, func(b []byte) error { _, err := DecodeConnMeta(b); return err }},
		{&wire.ConnAuthAck{Status: new(true), Feedback: new("f")}, func(b []byte) error { _, err := DecodeConnAuthAck(b); return err }},
		{&wire.MessageStoreAck{MessageId: new("m"), Status: new(true), Feedback: new("f")}, func(b []byte) error { return new(StoreAckView).Decode(b) }},
		{
			&wire.DeliverAck{MessageId: new("m"), Topic: new("t"), MessageType: new("y"), GroupId: new("g"), Status: new(true)},
			func(b []byte) error { return new(DeliverAckView).Decode(b) },
		},
		{&wire.TxACKPacket{Header: header, Status: new(int32(1)), Feedback: new("f")}, func(b []byte) error { return new(TxAckView).Decode(b) }},
		{&wire.TxReceipt{MessageId: new("m"), Code: new(int32(8))}, func(b []byte) error { _, err := DecodeTxReceipt(b); return err }},
		{message, func(b []byte) error { return new(MessageView).Decode(b) }},
		{header, func(b []byte) error { return new(HeaderView).Decode(b) }},
		{&wire.Entry{Key: new("k"), Value: new("v")}, func(b []byte) error { _, _, err := decodeEntry(b); return err }},
	}
	for _, test := range tests {
		fields := test.full.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			field := fields.Get(i)
			if field.Cardinality() != protoreflect.Required {
				continue
			}
			t.Run(string(field.FullName()), func(t *testing.T) {
				t.Parallel()
				part := proto.Clone(test.full)
				part.ProtoReflect().Clear(field)
				raw, err := proto.MarshalOptions{AllowPartial: true}.Marshal(part)
				if err != nil {
					t.Fatal(err)
				}
				name := strings.Replace(strings.TrimPrefix(string(field.FullName()), "kiteq.wire."), "BytesMessage", "Message", 1)
				want := "required field " + name + " not set"
				if err := test.decode(raw); err == nil || err.Error() != want || kite.CodeOf(err) != kite.Invalid {
					t.Errorf("got %v, want %s", err, want)
				}
			})
		}
	}
}

// TestRequiredNested: a field missing inside is named too.
func TestRequiredNested(t *testing.T) {
	t.Parallel()
	entry := slices.Concat(appendBytes(nil, 9, appendBytes(nil, 1, "key")))
	tests := []struct {
		name    string
		payload []byte
		want    string
	}{
		{"header", slices.Concat(appendBytes(nil, 1, ""), appendBytes(nil, 2, "")), "required field Header.messageId not set"},
		{"entry", slices.Concat(appendBytes(nil, 1, entry), appendBytes(nil, 2, "")), "required field Entry.value not set"},
	}
	for _, test := range tests {
		if err := new(MessageView).Decode(test.payload); err == nil || err.Error() != test.want {
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
	}
}

func TestMalformedNamesTheField(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		payload []byte
		want    string
	}{
		{"string cut off", []byte{0x0a, 0x05, 'a'}, "MessageStoreAck.messageId: not valid protobuf at byte 1: unexpected EOF"},
		{"wrong wire type", []byte{0x12, 0x00}, "MessageStoreAck.status: unexpected wire type 2, it is 0"},
		{"field 0", []byte{0x00, 0x00}, "MessageStoreAck: not valid protobuf at byte 0: "},
		{"end of no group", []byte{0xa4, 0x06}, "MessageStoreAck: not valid protobuf at byte 2: "},
	}
	for _, test := range tests {
		err := new(StoreAckView).Decode(test.payload)
		if err == nil || !strings.HasPrefix(err.Error(), test.want) || kite.CodeOf(err) != kite.Invalid {
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
	}
}

// TestSplitHeader cuts a header between any two fields: the parts count as one, and Raw has all of it.
func TestSplitHeader(t *testing.T) {
	t.Parallel()
	whole := fullMessage(t)
	var want MessageView
	if err := want.Decode(whole); err != nil {
		t.Fatal(err)
	}
	for at := 0; at <= len(want.Header.Raw); {
		first, second := want.Header.Raw[:at], want.Header.Raw[at:]
		payload := slices.Concat(appendBytes(nil, 1, first), appendBytes(nil, 2, want.Body), appendBytes(nil, 1, second))
		var got MessageView
		if err := got.Decode(payload); err != nil {
			t.Fatalf("cut at %d: %v", at, err)
		}
		if !bytes.Equal(got.Header.Raw, want.Header.Raw) || !bytes.Equal(got.Body, want.Body) {
			t.Errorf("cut at %d: header or body differ", at)
		}
		if diff := cmp.Diff(listHeader(&want.Header), listHeader(&got.Header)); diff != "" {
			t.Errorf("cut at %d: %s", at, diff)
		}
		if at == len(want.Header.Raw) {
			break
		}
		_, _, n := protowire.ConsumeField(second)
		at += n
	}
}

// TestSplitHeaderCost: joining a header of very many parts must not cost the square of them.
func TestSplitHeaderCost(t *testing.T) {
	var want MessageView
	whole := fullMessage(t)
	if err := want.Decode(whole); err != nil {
		t.Fatal(err)
	}
	payload := slices.Concat(whole, bytes.Repeat([]byte{0x0a, 0x02, 0x38, 0x01}, 100_000))
	var got MessageView
	if allocs := testing.AllocsPerRun(1, func() {
		if err := got.Decode(payload); err != nil {
			t.Error(err)
		}
	}); allocs > 1 {
		t.Errorf("%v allocations, want 1", allocs)
	}
	if len(got.Header.Raw) != len(want.Header.Raw)+200_000 {
		t.Errorf("joined to %d bytes", len(got.Header.Raw))
	}
}

func TestLastWins(t *testing.T) {
	t.Parallel()
	payload := appendBytes(nil, 1, "first")
	payload = appendBool(payload, 2, false)
	payload = appendBytes(payload, 3, "f")
	payload = appendBytes(payload, 1, "last")
	payload = appendBool(payload, 2, true)
	var a StoreAckView
	if err := a.Decode(payload); err != nil || string(a.MessageID) != "last" || !a.Status {
		t.Errorf("%q, %v, %v", a.MessageID, a.Status, err)
	}
	// Nothing of an earlier use is left.
	if err := a.Decode(nil); err == nil || a.MessageID != nil || a.Status || a.Feedback != nil {
		t.Errorf("after an error: %+v, %v", a, err)
	}
}

// TestProtocolLevel: the new fields of ConnMeta are such that old brokers pass over them.
func TestProtocolLevel(t *testing.T) {
	t.Parallel()
	want := ConnMeta{GroupID: "g", SecretKey: "s", WarmingUpSec: -1, Level: 1, Credit: 5}
	frame, _, err := FramingG.Next(AppendConnMeta(nil, FramingG, 1, want))
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeConnMeta(frame.Payload)
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	old := AppendConnMeta(nil, FramingG, 1, ConnMeta{GroupID: "g", SecretKey: "s", WarmingUpSec: -1})
	if raw := AppendConnMeta(nil, FramingG, 1, want); !bytes.HasPrefix(raw[19:], old[19:]) || len(raw) != len(old)+6 {
		t.Errorf("level and credit are not 6 bytes at the end: %x", raw)
	}
}

func TestCommandString(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, c := range []Command{
		CmdHeartbeat, CmdConnMeta, CmdConnAuthAck, CmdStoreAck, CmdDeliverAck, CmdTxAck, CmdBytesMessage, CmdStringMessage, CmdTxReceipt,
	} {
		if name := c.String(); seen[name] || strings.HasPrefix(name, "command") {
			t.Errorf("%#x is called %s", uint8(c), name)
		} else {
			seen[name] = true
		}
	}
	if got := Command(0x7f).String(); got != "command 0x7f" {
		t.Errorf("0x7f is called %s", got)
	}
}

func TestTxReceiptRoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range []TxReceipt{
		{MessageID: "0123456789abcdef0123456789abcdef", Code: kite.TxUnknown},
		{MessageID: "m", Code: kite.TxConflict, Outcome: kite.OutcomeRolledBack, DecidedBy: "operator ann", DecidedMs: 1700000000123},
	} {
		frame, _, err := FramingG.Next(AppendTxReceipt(nil, FramingG, 7, &want))
		if err != nil || frame.Opaque != 7 || frame.Command != CmdTxReceipt {
			t.Fatalf("frame %+v, %v", frame, err)
		}
		if got, err := DecodeTxReceipt(frame.Payload); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
}
