package handler

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// sink writes nowhere.
type sink struct{ conn }

func (s *sink) Write(b *session.Buffer) { b.Recycle() }

// echo answers what is submitted at once, as if it were durable.
type echo struct {
	h   *Handler
	one [1]*kite.Batch
}

func (e *echo) Submit(b *kite.Batch) error {
	e.one[0] = b
	e.h.Durable(e.one[:])
	b.Release(b)
	return nil
}

// BenchmarkPublish is what the handler does for one read of publishes: decode, validate, copy, answer.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("read=%d", n), func(b *testing.B) {
			h := New(session.NewDirectory(0), kite.Classes{Store: kite.ClassSynced}, address, slog.New(slog.DiscardHandler))
			h.Connect(&echo{h: h}, &settler{}, &watcher{})
			h.SetTopics([]string{"message", "trade"})
			s := h.Opened(&sink{})
			s.Framing = uint8(protocol.FramingG)
			h.directory.Join(s, "p-trade", 0, clock)
			random := rand.New(rand.NewPCG(1, 2))
			frames := make([]protocol.Frame, 0, n)
			for i := range n {
				raw := protocol.AppendMessage(nil, protocol.FramingG, uint32(i), protocol.CmdBytesMessage, &protocol.Header{
					MessageID: fmt.Sprintf("%016x%016x", random.Uint64(), random.Uint64()),
					Topic:     "trade", MessageType: "pay-succ", GroupID: "p-trade", Commit: true, DeliverLimit: 10,
				}, make([]byte, 256))
				f, _, err := protocol.FramingG.Next(raw)
				if err != nil {
					b.Fatal(err)
				}
				frames = append(frames, f)
			}
			var reply []byte
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if reply, err = h.Frames(s, frames, reply[:0]); err != nil || len(reply) > 0 {
					b.Fatal(err, len(reply))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/msg")
		})
	}
}

// BenchmarkAnswer is one turn of the lane that answers one publish of each connection.
func BenchmarkAnswer(b *testing.B) {
	for _, n := range []int{1, 4, 100} {
		b.Run(fmt.Sprintf("connections=%d", n), func(b *testing.B) {
			h := New(session.NewDirectory(0), kite.Classes{Store: kite.ClassSynced}, address, slog.New(slog.DiscardHandler))
			batches := make([]*kite.Batch, n)
			for i := range batches {
				s := h.Opened(&sink{})
				s.Framing = uint8(protocol.FramingG)
				batches[i] = &kite.Batch{Owner: s, Received: time.Now(), Items: []kite.Item{{Name: []byte(idLower), Record: kite.Record{Kind: kite.KindMessage}}}}
			}
			b.ReportAllocs()
			for b.Loop() {
				h.Durable(batches)
			}
		})
	}
}
