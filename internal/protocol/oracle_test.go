package protocol

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol/wire"
)

// The standard decoder is the oracle: on any bytes ours must accept and refuse what it does, and read
// the same values. The deliberate differences are:
//
//   - a known field of another wire type is refused; the standard decoder counts it as unknown;
//   - where a message lacks several required fields we may name another of them.

// disagree returns what is wrong with our verdict err on payload, or "" and whether both accept it.
func disagree(err error, payload []byte, std proto.Message) (fault string, accepted bool) {
	stdErr := proto.Unmarshal(payload, std)
	switch {
	case errors.Is(err, errWireType):
		if stdErr == nil && !hasMistyped(std.ProtoReflect()) {
			return "refused for a wire type, but the standard decoder knows every field: " + err.Error(), false
		}
		return "", false
	case err == nil && stdErr == nil:
		return "", true
	case err == nil:
		return "accepted, but the standard decoder says " + stdErr.Error(), false
	case stdErr == nil:
		return "refused, but the standard decoder accepts it: " + err.Error(), false
	case kite.CodeOf(err) != kite.Invalid:
		return "refused with code " + kite.CodeOf(err).String(), false
	}
	return "", false
}

// hasMistyped tells whether the standard decoder left a field that m defines among the unknown ones.
func hasMistyped(m protoreflect.Message) bool {
	for unknown := m.GetUnknown(); len(unknown) > 0; {
		num, _, n := protowire.ConsumeField(unknown)
		if m.Descriptor().Fields().ByNumber(num) != nil {
			return true
		}
		unknown = unknown[n:]
	}
	found := false
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsList() && field.Message() != nil:
			for i := range v.List().Len() {
				found = found || hasMistyped(v.List().Get(i).Message())
			}
		case field.Message() != nil:
			found = found || hasMistyped(v.Message())
		}
		return !found
	})
	return found
}

// compareHeader returns the name of the first field of h that std has otherwise, or "".
func compareHeader(h *HeaderView, std *wire.Header) string {
	switch {
	case string(h.MessageID) != std.GetMessageId():
		return "messageId"
	case string(h.Topic) != std.GetTopic():
		return "topic"
	case string(h.MessageType) != std.GetMessageType():
		return "messageType"
	case string(h.GroupID) != std.GetGroupId():
		return "groupId"
	case h.ExpiredTime != std.GetExpiredTime():
		return "expiredTime"
	case h.DeliverLimit != std.GetDeliverLimit():
		return "deliverLimit"
	case h.Commit != std.GetCommit():
		return "commit"
	case h.Fly != std.GetFly():
		return "fly"
	case h.HasCreateTime != (std.CreateTime != nil) || h.CreateTime != std.GetCreateTime():
		return "createTime"
	case h.Snappy != std.GetSnappy():
		return "snappy"
	}
	i := 0
	for key, value := range h.Properties {
		if i >= len(std.Properties) || string(key) != std.Properties[i].GetKey() || string(value) != std.Properties[i].GetValue() {
			return "properties"
		}
		last, ok := h.Property(string(key))
		if !ok || string(last) != lastEntry(std.Properties, string(key)) {
			return "property " + string(key)
		}
		i++
		if i > 50 { // Property walks over all of them
			break
		}
	}
	if i <= 50 && i != len(std.Properties) {
		return "properties"
	}
	return ""
}

func lastEntry(entries []*wire.Entry, key string) string {
	for _, e := range slices.Backward(entries) {
		if e.GetKey() == key {
			return e.GetValue()
		}
	}
	return ""
}

// compareMessage checks payload as both kinds of message.
func compareMessage(payload []byte) string {
	var m MessageView
	err := m.Decode(payload)
	std := &wire.BytesMessage{}
	fault, accepted := disagree(err, payload, std)
	if fault == "" && accepted {
		fault = compareHeader(&m.Header, std.GetHeader())
		if fault == "" && !bytes.Equal(m.Body, std.GetBody()) {
			fault = "body"
		}
	}
	if fault != "" {
		return fault
	}
	text := &wire.StringMessage{}
	fault, accepted = disagree(err, payload, text)
	if fault == "" && accepted && string(m.Body) != text.GetBody() {
		fault = "string body"
	}
	return fault
}

func compareRawHeader(raw []byte) string {
	var h HeaderView
	std := &wire.Header{}
	fault, accepted := disagree(h.Decode(raw), raw, std)
	if fault == "" && accepted {
		fault = compareHeader(&h, std)
	}
	return fault
}

func compareTxAck(payload []byte) string {
	var a TxAckView
	std := &wire.TxACKPacket{}
	fault, accepted := disagree(a.Decode(payload), payload, std)
	if fault != "" || !accepted {
		return fault
	}
	if a.Status != std.GetStatus() || string(a.Feedback) != std.GetFeedback() {
		return "status or feedback"
	}
	return compareHeader(&a.Header, std.GetHeader())
}

func compareDeliverAck(payload []byte) string {
	var a DeliverAckView
	std := &wire.DeliverAck{}
	fault, accepted := disagree(a.Decode(payload), payload, std)
	if fault != "" || !accepted {
		return fault
	}
	if string(a.MessageID) != std.GetMessageId() || string(a.Topic) != std.GetTopic() ||
		string(a.MessageType) != std.GetMessageType() || string(a.GroupID) != std.GetGroupId() ||
		a.Status != std.GetStatus() || string(a.Feedback) != std.GetFeedback() || (a.Feedback != nil) != (std.Feedback != nil) {
		return "a field"
	}
	return ""
}

func compareStoreAck(payload []byte) string {
	var a StoreAckView
	std := &wire.MessageStoreAck{}
	fault, accepted := disagree(a.Decode(payload), payload, std)
	if fault != "" || !accepted {
		return fault
	}
	if string(a.MessageID) != std.GetMessageId() || a.Status != std.GetStatus() || string(a.Feedback) != std.GetFeedback() {
		return "a field"
	}
	return ""
}

// compareControl checks payload as ConnMeta, as ConnAuthAck and as HeartBeat.
func compareControl(payload []byte) string {
	m, err := DecodeConnMeta(payload)
	meta := &wire.ConnMeta{}
	fault, accepted := disagree(err, payload, meta)
	if fault == "" && accepted && (m.GroupID != meta.GetGroupId() || m.SecretKey != meta.GetSecretKey() ||
		m.WarmingUpSec != meta.GetWarmingupSec() || m.Level != meta.GetProtocolLevel()) {
		fault = "a field"
	}
	if fault != "" {
		return "ConnMeta: " + fault
	}
	a, err := DecodeConnAuthAck(payload)
	auth := &wire.ConnAuthAck{}
	fault, accepted = disagree(err, payload, auth)
	if fault == "" && accepted && (a.OK != auth.GetStatus() || a.Feedback != auth.GetFeedback() || a.Level != auth.GetProtocolLevel()) {
		fault = "a field"
	}
	if fault != "" {
		return "ConnAuthAck: " + fault
	}
	version, err := DecodeHeartbeat(payload)
	beat := &wire.HeartBeat{}
	fault, accepted = disagree(err, payload, beat)
	if fault == "" && accepted && version != beat.GetVersion() {
		fault = "version"
	}
	if fault != "" {
		return "HeartBeat: " + fault
	}
	return ""
}

func compareReceipt(payload []byte) string {
	r, err := DecodeTxReceipt(payload)
	receipt := &wire.TxReceipt{}
	fault, accepted := disagree(err, payload, receipt)
	if fault == "" && accepted && (r.MessageID != receipt.GetMessageId() || r.Code != kite.Code(receipt.GetCode()) ||
		r.Outcome != kite.Outcome(receipt.GetOutcome()) || r.DecidedBy != receipt.GetDecidedBy() || r.DecidedMs != receipt.GetDecidedAtMs()) {
		fault = "a field"
	}
	if fault != "" {
		return "TxReceipt: " + fault
	}
	return ""
}

// compareAll checks payload with every decoder.
func compareAll(payload []byte) string {
	for _, compare := range []func([]byte) string{
		compareMessage, compareRawHeader, compareTxAck, compareDeliverAck, compareStoreAck, compareControl, compareReceipt,
	} {
		if fault := compare(payload); fault != "" {
			return fault
		}
	}
	return ""
}

// TestOracleMutations cuts every golden payload at every byte and sets every byte to telling values.
func TestOracleMutations(t *testing.T) {
	t.Parallel()
	values := []byte{0x00, 0x01, 0x07, 0x08, 0x0a, 0x0b, 0x0c, 0x0d, 0x12, 0x22, 0x38, 0x4a, 0x50, 0x55, 0x59, 0x7f, 0x80, 0x82, 0xff}
	for _, v := range mustVectors(t) {
		if v.Message == "" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			payload := v.payload(t)
			for i := range payload {
				if fault := compareAll(payload[:i:i]); fault != "" {
					t.Fatalf("cut at %d: %s", i, fault)
				}
				for _, b := range values {
					changed := slices.Clone(payload)
					changed[i] = b
					if fault := compareAll(changed); fault != "" {
						t.Fatalf("byte %d set to %#x: %s: %x", i, b, fault, changed)
					}
				}
			}
		})
	}
}

// oracleSeeds adds the golden payloads of the named messages, and what the mutations do not reach.
func oracleSeeds(f *testing.F, messages ...string) {
	for _, v := range mustVectors(f) {
		if slices.Contains(messages, v.Message) {
			f.Add(v.payload(f))
		}
	}
	header := mustVector(f, "11_bytes_min")
	parts := header.payload(f)
	f.Add(slices.Concat(parts, parts))
	f.Add(slices.Concat(parts, []byte{0x0a, 0x00}))
	f.Add(slices.Concat([]byte{0x0a, 0x02, 0x38, 0x00}, parts))
	f.Add(slices.Concat(parts, []byte{0x9b, 0x06, 0x08, 0x01, 0x9c, 0x06}))                     // a group
	f.Add(slices.Concat(parts, []byte{0x9b, 0x06, 0x08, 0x01}))                                 // without its end
	f.Add(slices.Concat(parts, []byte{0xa0, 0x06, 0x05}))                                       // an unknown varint
	f.Add(slices.Concat(parts, []byte{0x8a, 0x00, 0x00}))                                       // a tag in two bytes
	f.Add(slices.Concat(parts, []byte{0xf8, 0xff, 0xff, 0xff, 0x7f, 0x01}))                     // a field number too large
	f.Add([]byte(strings.Repeat("\x0a\x00", 64) + "\x12\x00"))                                  // many parts
	f.Add([]byte{0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x12, 0x00}) // a varint too large
}

func fuzzOracle(f *testing.F, compare func([]byte) string) {
	f.Fuzz(func(t *testing.T, payload []byte) {
		if fault := compare(payload); fault != "" {
			t.Fatalf("%s: %x", fault, payload)
		}
	})
}

func FuzzMessage(f *testing.F) {
	oracleSeeds(f, "BytesMessage", "StringMessage")
	fuzzOracle(f, compareMessage)
}

func FuzzHeader(f *testing.F) {
	for _, v := range mustVectors(f) {
		var m MessageView
		if v.Head.Command == uint8(CmdBytesMessage) && v.Message != "" && m.Decode(v.payload(f)) == nil {
			f.Add(m.Header.Raw)
		}
	}
	fuzzOracle(f, compareRawHeader)
}

func FuzzTxAck(f *testing.F) {
	oracleSeeds(f, "TxACKPacket")
	fuzzOracle(f, compareTxAck)
}

func FuzzDeliverAck(f *testing.F) {
	oracleSeeds(f, "DeliverAck")
	fuzzOracle(f, compareDeliverAck)
}

func FuzzStoreAck(f *testing.F) {
	oracleSeeds(f, "MessageStoreAck")
	fuzzOracle(f, compareStoreAck)
}

func FuzzConnMeta(f *testing.F) {
	oracleSeeds(f, "ConnMeta", "ConnAuthAck", "HeartBeat")
	fuzzOracle(f, compareControl)
}
