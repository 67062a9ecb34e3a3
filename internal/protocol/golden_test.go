package protocol

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kiteq/kiteq/internal/kite"
)

// vector is one frame of testdata/golden/vectors.json.
type vector struct {
	Name      string         `json:"name"`
	Framing   string         `json:"framing"`
	Direction string         `json:"direction"`
	Hex       string         `json:"hex"`
	Head      vectorHead     `json:"header"`
	Message   string         `json:"message"`
	Payload   *vectorPayload `json:"payload"`
}

type vectorHead struct {
	BodyLen int    `json:"bodyLen"`
	Command uint8  `json:"cmd"`
	Opaque  uint32 `json:"opaque"`
	Version uint16 `json:"version"`
}

// vectorPayload has the fields of all messages; their names never clash.
type vectorPayload struct {
	GroupID      string        `json:"groupId"`
	SecretKey    string        `json:"secretKey"`
	WarmingUpSec int32         `json:"warmingupSec"`
	Version      int64         `json:"version"`
	MessageID    string        `json:"messageId"`
	Topic        string        `json:"topic"`
	MessageType  string        `json:"messageType"`
	Feedback     *string       `json:"feedback"`
	Body         *string       `json:"body"`
	BodyHex      *string       `json:"body_hex"`
	Header       *vectorHeader `json:"header"`
	// Status is a boolean in acks and a number in a TxACKPacket.
	Status any `json:"status"`
}

type vectorHeader struct {
	MessageID    string        `json:"messageId"`
	Topic        string        `json:"topic"`
	MessageType  string        `json:"messageType"`
	GroupID      string        `json:"groupId"`
	ExpiredTime  int64         `json:"expiredTime"`
	DeliverLimit int32         `json:"deliverLimit"`
	Commit       bool          `json:"commit"`
	Fly          bool          `json:"fly"`
	Properties   []vectorEntry `json:"properties"`
	CreateTime   *int64        `json:"createTime"`
	Snappy       *bool         `json:"snappy"`
}

type vectorEntry struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

func (v *vector) framing() Framing {
	if v.Framing == "L" {
		return FramingL
	}
	return FramingG
}

func (v *vector) bytes(t testing.TB) []byte {
	t.Helper()
	raw, err := hex.DecodeString(v.Hex)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// payload returns what follows the vector's header.
func (v *vector) payload(t testing.TB) []byte {
	t.Helper()
	frame, _, err := v.framing().Next(v.bytes(t))
	if err != nil {
		t.Fatal(err)
	}
	return frame.Payload
}

func mustVectors(t testing.TB) []vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/golden/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Frames []vector `json:"frames"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Frames) != 49 {
		t.Fatalf("%d vectors, want 49", len(file.Frames))
	}
	return file.Frames
}

func mustVector(t testing.TB, name string) vector {
	t.Helper()
	for _, v := range mustVectors(t) {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no vector %s", name)
	return vector{}
}

func TestGoldenFiles(t *testing.T) {
	t.Parallel()
	for _, v := range mustVectors(t) {
		text, err := os.ReadFile(filepath.Join("testdata/golden", v.Name+".hex"))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(strings.Fields(string(text)), ""); got != v.Hex {
			t.Errorf("%s.hex differs from vectors.json", v.Name)
		}
	}
}

func TestGoldenDecode(t *testing.T) {
	t.Parallel()
	for _, v := range mustVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			raw := v.bytes(t)
			if mayOpen := v.Direction == "C->B" && Command(v.Head.Command).opens() && v.Head.Opaque < 1<<24; mayOpen {
				if f, err := Detect(raw); err != nil || f != v.framing() {
					t.Errorf("detected %v, %v", f, err)
				}
			}
			frame, size, err := v.framing().Next(raw)
			if v.Name == "90_header_too_large" {
				if kite.CodeOf(err) != kite.TooLarge {
					t.Fatalf("got %v, want too large", err)
				}
				return
			}
			if err != nil || size != len(raw) {
				t.Fatalf("size %d of %d, %v", size, len(raw), err)
			}
			if frame.Opaque != v.Head.Opaque || uint8(frame.Command) != v.Head.Command || len(frame.Payload) != v.Head.BodyLen {
				t.Errorf("got %d %s %d bytes, want %+v", frame.Opaque, frame.Command, len(frame.Payload), v.Head)
			}
			if v.Message == "" {
				return
			}
			got, err := decodeVector(v.Message, frame.Payload)
			if v.Payload == nil {
				if err == nil || !strings.Contains(err.Error(), "required field ConnMeta.secretKey not set") {
					t.Fatalf("got %v, want a missing secretKey", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(v.Payload, got); diff != "" {
				t.Errorf("decoded differs (-listed +got):\n%s", diff)
			}
		})
	}
}

// decodeVector reads payload with the decoder of the named message into the form of vectors.json.
func decodeVector(message string, payload []byte) (*vectorPayload, error) {
	switch message {
	case "HeartBeat":
		version, err := DecodeHeartbeat(payload)
		return &vectorPayload{Version: version}, err
	case "ConnMeta":
		m, err := DecodeConnMeta(payload)
		return &vectorPayload{GroupID: m.GroupID, SecretKey: m.SecretKey, WarmingUpSec: m.WarmingUpSec}, err
	case "ConnAuthAck":
		a, err := DecodeConnAuthAck(payload)
		return &vectorPayload{Status: a.OK, Feedback: &a.Feedback}, err
	case "MessageStoreAck":
		var a StoreAckView
		err := a.Decode(payload)
		return &vectorPayload{MessageID: string(a.MessageID), Status: a.Status, Feedback: new(string(a.Feedback))}, err
	case "DeliverAck":
		var a DeliverAckView
		err := a.Decode(payload)
		got := &vectorPayload{
			MessageID: string(a.MessageID), Topic: string(a.Topic), MessageType: string(a.MessageType),
			GroupID: string(a.GroupID), Status: a.Status,
		}
		if a.Feedback != nil {
			got.Feedback = new(string(a.Feedback))
		}
		return got, err
	case "TxACKPacket":
		var a TxAckView
		err := a.Decode(payload)
		return &vectorPayload{Header: listHeader(&a.Header), Status: float64(a.Status), Feedback: new(string(a.Feedback))}, err
	case "StringMessage":
		var m MessageView
		err := m.Decode(payload)
		return &vectorPayload{Header: listHeader(&m.Header), Body: new(string(m.Body))}, err
	}
	var m MessageView
	err := m.Decode(payload)
	return &vectorPayload{Header: listHeader(&m.Header), BodyHex: new(hex.EncodeToString(m.Body))}, err
}

func listHeader(h *HeaderView) *vectorHeader {
	list := &vectorHeader{
		MessageID: string(h.MessageID), Topic: string(h.Topic), MessageType: string(h.MessageType), GroupID: string(h.GroupID),
		ExpiredTime: h.ExpiredTime, DeliverLimit: h.DeliverLimit, Commit: h.Commit, Fly: h.Fly,
	}
	for key, value := range h.Properties {
		list.Properties = append(list.Properties, vectorEntry{string(key), string(value)})
	}
	if h.HasCreateTime {
		list.CreateTime = &h.CreateTime
	}
	s := scanner{buf: h.Raw} // the view does not tell absent from false
	for s.next(&headerLayout) {
		if s.num == 11 {
			list.Snappy = &h.Snappy
		}
	}
	return list
}

// notSent lists the vectors whose bytes we never write, and why.
func notSent() map[string]string {
	return map[string]string{
		"57_java_deliverack_ok":        "our client always sends feedback",
		"59_php_connmeta":              "our client always sends warmingupSec",
		"90_header_too_large":          "over the limit",
		"93_connmeta_missing_required": "not a ConnMeta",
	}
}

func TestGoldenEncode(t *testing.T) {
	t.Parallel()
	skip := notSent()
	for _, v := range mustVectors(t) {
		if skip[v.Name] != "" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			want := v.bytes(t)
			if v.Name == "10_bytes_full" || v.Name == "13_string_full" {
				want = exchangeProperties(t, want)
			}
			before := []byte("before")
			got := encodeVector(t, slices.Clone(before), &v)
			if !bytes.HasPrefix(got, before) || !bytes.Equal(got[len(before):], want) {
				t.Errorf("got  %x\nwant %x", got[len(before):], want)
			}
		})
	}
}

// exchangeProperties puts the two properties of a golden frame into the order of their keys, in which
// we write them; the original wrote them in the order in which they had been added.
func exchangeProperties(t *testing.T, frame []byte) []byte {
	t.Helper()
	tradeno := []byte("\x4a\x11\x0a\x07tradeno\x12\x06T-1001")
	lang := []byte("\x4a\x0e\x0a\x04lang\x12\x06中文")
	old, exchanged := slices.Concat(tradeno, lang), slices.Concat(lang, tradeno)
	if !bytes.Contains(frame, old) {
		t.Fatalf("properties not found in %x", frame)
	}
	return bytes.Replace(frame, old, exchanged, 1)
}

// encodeVector writes the vector's frame from its listed values.
func encodeVector(t *testing.T, dst []byte, v *vector) []byte {
	t.Helper()
	f, opaque, p := v.framing(), v.Head.Opaque, v.Payload
	switch {
	case v.Name == "40_txack_check":
		return encodeCheck(t, dst, f, opaque)
	case v.Name == "30_deliver_bytes", v.Name == "56_java_deliver_bytes":
		return f.AppendFrame(dst, opaque, CmdBytesMessage, normalised11(t))
	case v.Message == "":
		return f.AppendFrame(dst, opaque, Command(v.Head.Command), v.payload(t))
	}
	switch v.Message {
	case "HeartBeat":
		return AppendHeartbeat(dst, f, opaque, p.Version)
	case "ConnMeta":
		return AppendConnMeta(dst, f, opaque, ConnMeta{GroupID: p.GroupID, SecretKey: p.SecretKey, WarmingUpSec: p.WarmingUpSec})
	case "ConnAuthAck":
		return AppendConnAuthAck(dst, f, opaque, ConnAuthAck{OK: p.Status.(bool), Feedback: *p.Feedback})
	case "MessageStoreAck":
		return AppendStoreAck(dst, f, opaque, []byte(p.MessageID), p.Status.(bool), *p.Feedback)
	case "DeliverAck":
		h := &HeaderView{
			MessageID: []byte(p.MessageID), Topic: []byte(p.Topic), MessageType: []byte(p.MessageType), GroupID: []byte(p.GroupID),
		}
		return AppendDeliverAck(dst, f, opaque, h, p.Status.(bool), *p.Feedback)
	case "TxACKPacket":
		var received TxAckView
		if err := received.Decode(v.payload(t)); err != nil {
			t.Fatal(err)
		}
		return AppendTxAck(dst, f, opaque, received.Header.Raw, int32(p.Status.(float64)), *p.Feedback)
	case "StringMessage":
		return AppendMessage(dst, f, opaque, CmdStringMessage, p.Header.header(), []byte(*p.Body))
	}
	body, err := hex.DecodeString(*p.BodyHex)
	if err != nil {
		t.Fatal(err)
	}
	return AppendMessage(dst, f, opaque, CmdBytesMessage, p.Header.header(), body)
}

func (h *vectorHeader) header() *Header {
	header := &Header{
		MessageID: h.MessageID, Topic: h.Topic, MessageType: h.MessageType, GroupID: h.GroupID,
		ExpiredTime: h.ExpiredTime, DeliverLimit: h.DeliverLimit, Commit: h.Commit, Fly: h.Fly, Snappy: h.Snappy,
		Properties: make(map[string]string),
	}
	for _, e := range h.Properties {
		header.Properties[e.Key] = e.Value
	}
	if h.CreateTime != nil {
		header.CreateTime = *h.CreateTime
	}
	return header
}

// normalised11 returns the payload of vector 11 as a broker delivers it, which is vector 30's.
func normalised11(t *testing.T) []byte {
	t.Helper()
	v := mustVector(t, "11_bytes_min")
	payload := v.payload(t)
	var m MessageView
	if err := m.Decode(payload); err != nil {
		t.Fatal(err)
	}
	return AppendNormalised(nil, payload, &m, Normal{ExpiredTime: 1700604800, DeliverLimit: 100, CreateTime: 1700000000, Commit: true})
}

// encodeCheck asks about vector 17's transaction as it is stored: normalised, with commit=true.
func encodeCheck(t *testing.T, dst []byte, f Framing, opaque uint32) []byte {
	t.Helper()
	v := mustVector(t, "17_bytes_tx_uncommitted")
	payload := v.payload(t)
	var m MessageView
	if err := m.Decode(payload); err != nil {
		t.Fatal(err)
	}
	stored := AppendNormalised(nil, payload, &m, Normal{ExpiredTime: 1700604800, DeliverLimit: 100, CreateTime: 1700000000, Commit: true})
	dst, err := AppendTxCheck(dst, f, opaque, stored, FeedbackCheck)
	if err != nil {
		t.Fatal(err)
	}
	return dst
}
