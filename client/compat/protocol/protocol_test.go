package protocol_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/protoadapt"

	"github.com/kiteq/kiteq/client/compat/protocol"
)

// mustGolden returns the payload of a golden frame.
func mustGolden(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "internal", "protocol", "testdata", "golden", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	const header = 19
	return raw[header:]
}

// The helpers make what the original's made, byte for byte.
func TestMarshalGolden(t *testing.T) {
	t.Parallel()
	var message protocol.BytesMessage
	if err := protocol.UnmarshalPbMessage(mustGolden(t, "10_bytes_full"), &message); err != nil {
		t.Fatal(err)
	}
	var text protocol.StringMessage
	if err := protocol.UnmarshalPbMessage(mustGolden(t, "13_string_full"), &text); err != nil {
		t.Fatal(err)
	}
	var check protocol.TxACKPacket
	if err := protocol.UnmarshalPbMessage(mustGolden(t, "41_txack_check_reply_commit"), &check); err != nil {
		t.Fatal(err)
	}
	var ack protocol.DeliverAck
	if err := protocol.UnmarshalPbMessage(mustGolden(t, "32_deliverack_fail"), &ack); err != nil {
		t.Fatal(err)
	}
	acked := &protocol.Header{MessageId: ack.MessageId, Topic: ack.Topic, MessageType: ack.MessageType, GroupId: ack.GroupId}
	tests := []struct {
		golden string
		got    []byte
	}{
		{"01_connmeta_go", protocol.MarshalConnMeta("s-golden", "123456", 0)},
		{"03_connauthack_ok", protocol.MarshalConnAuthAck(true, "Auth Succ")},
		{"10_bytes_full", protocol.MarshalMessage(message.Header, protocol.CMD_BYTES_MESSAGE, message.Body)},
		{"13_string_full", protocol.MarshalMessage(text.Header, protocol.CMD_STRING_MESSAGE, text.GetBody())},
		{"12_bytes_empty_body", emptied(t, mustGolden(t, "12_bytes_empty_body"))},
		{"22_storeack_bad_topic", storeAck(t, mustGolden(t, "22_storeack_bad_topic"))},
		{"32_deliverack_fail", protocol.MarshalDeliverAckPacket(acked, ack.GetStatus(), ack.GetFeedback())},
		{"41_txack_check_reply_commit", protocol.MarshalTxACKPacket(check.Header, protocol.TX_COMMIT, check.GetFeedback())},
	}
	for _, tt := range tests {
		if want := mustGolden(t, tt.golden); !bytes.Equal(tt.got, want) {
			t.Errorf("%s: got %x, want %x", tt.golden, tt.got, want)
		}
	}
	var beat protocol.HeartBeat
	if err := protocol.UnmarshalPbMessage(protocol.MarshalHeartbeatPacket(17), &beat); err != nil || beat.GetVersion() != 17 {
		t.Errorf("heartbeat %v, %v", &beat, err)
	}
}

// emptied marshals a golden message again, with a nil body.
func emptied(t *testing.T, golden []byte) []byte {
	t.Helper()
	var m protocol.BytesMessage
	if err := protocol.UnmarshalPbMessage(golden, &m); err != nil {
		t.Fatal(err)
	}
	return protocol.MarshalMessage(m.Header, protocol.CMD_BYTES_MESSAGE, []byte(nil))
}

func storeAck(t *testing.T, golden []byte) []byte {
	t.Helper()
	var ack protocol.MessageStoreAck
	if err := protocol.UnmarshalPbMessage(golden, &ack); err != nil {
		t.Fatal(err)
	}
	return protocol.MarshalMessageStoreAck(ack.GetMessageId(), ack.GetStatus(), ack.GetFeedback())
}

func TestMarshalRefuses(t *testing.T) {
	t.Parallel()
	header := &protocol.Header{Topic: new("t")}
	for name, got := range map[string][]byte{
		"incomplete header": protocol.MarshalMessage(header, protocol.CMD_BYTES_MESSAGE, []byte("x")),
		"kind and body":     protocol.MarshalMessage(header, protocol.CMD_STRING_MESSAGE, []byte("x")),
		"body":              protocol.MarshalMessage(header, protocol.CMD_BYTES_MESSAGE, 17),
	} {
		if got != nil {
			t.Errorf("%s: %x, want nothing", name, got)
		}
	}
	if _, err := protocol.MarshalPbMessage(header); err == nil {
		t.Error("a header without its required fields was encoded")
	}
	if err := protocol.UnmarshalPbMessage([]byte("junk"), header); err == nil {
		t.Error("junk was decoded")
	}
}

func TestQMessage(t *testing.T) {
	t.Parallel()
	header := &protocol.Header{Topic: new("t")}
	bytesMessage := &protocol.BytesMessage{Header: header, Body: []byte("x")}
	stringMessage := &protocol.StringMessage{Header: header, Body: new("x")}
	for _, tt := range []struct {
		message protoadapt.MessageV1
		kind    uint8
	}{{bytesMessage, protocol.CMD_BYTES_MESSAGE}, {stringMessage, protocol.CMD_STRING_MESSAGE}} {
		q := protocol.NewQMessage(tt.message)
		if q.GetHeader() != header || q.GetMsgType() != tt.kind || q.GetPbMessage() != tt.message {
			t.Errorf("%+v", q)
		}
		switch body := q.GetBody().(type) {
		case string:
			if body != "x" || tt.kind != protocol.CMD_STRING_MESSAGE {
				t.Errorf("body %q", body)
			}
		case []byte:
			if string(body) != "x" || tt.kind != protocol.CMD_BYTES_MESSAGE {
				t.Errorf("body %q", body)
			}
		default:
			t.Errorf("body %T", body)
		}
	}
	for _, none := range []any{nil, 17, (*protocol.BytesMessage)(nil), (*protocol.StringMessage)(nil), header} {
		if protocol.NewQMessage(none) != nil {
			t.Errorf("a message of %T", none)
		}
	}
}

func TestTxResponse(t *testing.T) {
	t.Parallel()
	r := protocol.NewTxResponse(&protocol.Header{
		MessageId: new("id"), Topic: new("t"), MessageType: new("y"), Properties: []*protocol.Entry{{Key: new("k"), Value: new("v")}},
	})
	if r.MessageId != "id" || r.Topic != "t" || r.MessageType != "y" {
		t.Errorf("%+v", r)
	}
	if v, ok := r.GetProperty("k"); v != "v" || !ok { // the original's found nothing, ever
		t.Errorf("property %q, %v", v, ok)
	}
	if _, ok := r.GetProperty("other"); ok {
		t.Error("found a property that is not there")
	}
	for _, step := range []struct {
		do       func()
		status   protocol.TxStatus
		feedback string
	}{
		{func() {}, protocol.TX_UNKNOWN, ""},
		{func() { r.Rollback("why") }, protocol.TX_ROLLBACK, "why"},
		{r.Commit, protocol.TX_COMMIT, ""},
		{func() { r.Unknown("later") }, protocol.TX_UNKNOWN, "later"},
	} {
		step.do()
		if status, feedback := r.Answer(); status != step.status || feedback != step.feedback {
			t.Errorf("answer %d %q, want %d %q", status, feedback, step.status, step.feedback)
		}
	}
}

func TestNamesOfCommands(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, cmd := range []uint8{
		protocol.CMD_HEARTBEAT, protocol.CMD_CONN_META, protocol.CMD_CONN_AUTH, protocol.CMD_MESSAGE_STORE_ACK,
		protocol.CMD_DELIVER_ACK, protocol.CMD_TX_ACK, protocol.CMD_BYTES_MESSAGE, protocol.CMD_STRING_MESSAGE, 0x7f,
	} {
		name := protocol.NameOfCmd(cmd)
		if name == "" || seen[name] {
			t.Errorf("command %#x is called %q, as another one", cmd, name)
		}
		seen[name] = true
	}
}
