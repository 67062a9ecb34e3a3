package protocol

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/kiteq/kiteq/internal/protocol/wire"
)

// hotPaths are the operations that a broker does for every message; none may allocate. The benchmark
// BenchmarkHotPath runs the same ones.
func hotPaths(t testing.TB) map[string]func() {
	payload := fullMessage(t)
	var m, out MessageView
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(m.Decode(payload))
	frame := FramingG.AppendFrame(nil, 1, CmdBytesMessage, payload)
	frameL := FramingL.AppendFrame(nil, 1, CmdBytesMessage, payload)
	payloadOf := func(frame []byte) []byte { return frame[headSize:] }
	deliverAck := payloadOf(AppendDeliverAck(nil, FramingG, 1, &m.Header, true, ""))
	storeAck := payloadOf(AppendStoreAck(nil, FramingG, 1, m.Header.MessageID, true, FeedbackStored+"0"))
	txAck := payloadOf(AppendTxAck(nil, FramingG, 1, m.Header.Raw, StatusCommit, ""))
	normal := Normal{ExpiredTime: 1700604800, DeliverLimit: 100, CreateTime: 1700000001, Commit: false}
	header := &Header{
		MessageID: string(m.Header.MessageID), Topic: "trade", MessageType: "pay-succ", GroupID: "p-golden", ExpiredTime: -1,
		DeliverLimit: 100, Commit: true, CreateTime: 1700000000, Properties: map[string]string{"tradeno": "T-1001", "lang": "zh"},
	}
	buf := make([]byte, 0, 4096)
	var deliver DeliverAckView
	var store StoreAckView
	var tx TxAckView
	return map[string]func(){
		"next/G":           func() { _, _, err := FramingG.Next(frame); must(err) },
		"next/L":           func() { _, _, err := FramingL.Next(frameL); must(err) },
		"message/decode":   func() { must(out.Decode(payload)) },
		"message/property": func() { m.Header.Property("tradeno") },
		"message/append":   func() { AppendMessage(buf, FramingG, 1, CmdBytesMessage, header, m.Body) },
		"normalise":        func() { AppendNormalised(buf, payload, &m, normal) },
		"txCheck/append":   func() { _, err := AppendTxCheck(buf, FramingG, 1, payload, FeedbackCheck); must(err) },
		"txAck/decode":     func() { must(tx.Decode(txAck)) },
		"txAck/append":     func() { AppendTxAck(buf, FramingG, 1, m.Header.Raw, StatusCommit, "") },
		"deliverAck/decode": func() {
			must(deliver.Decode(deliverAck))
		},
		"deliverAck/append": func() { AppendDeliverAck(buf, FramingL, 1, &m.Header, true, "") },
		"storeAck/decode":   func() { must(store.Decode(storeAck)) },
		"storeAck/append":   func() { AppendStoreAck(buf, FramingG, 1, m.Header.MessageID, true, FeedbackStored) },
		"heartbeat/append":  func() { AppendHeartbeat(buf, FramingG, 1, 1700000000) },
	}
}

func TestHotPathAllocatesNothing(t *testing.T) { // not parallel: AllocsPerRun counts for the process
	for name, run := range hotPaths(t) {
		if allocs := testing.AllocsPerRun(100, run); allocs != 0 {
			t.Errorf("%s: %v allocations, want 0", name, allocs)
		}
	}
}

func BenchmarkHotPath(b *testing.B) {
	for name, run := range hotPaths(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
		})
	}
}

// BenchmarkDecodeMessage sets our decoder beside the standard one, on the same bytes.
func BenchmarkDecodeMessage(b *testing.B) {
	payload := fullMessage(b)
	b.Run("view", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(payload)))
		var m MessageView
		for b.Loop() {
			if err := m.Decode(payload); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("standard", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(payload)))
		var m wire.BytesMessage
		for b.Loop() {
			if err := proto.Unmarshal(payload, &m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
