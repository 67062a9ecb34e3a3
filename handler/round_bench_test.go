package handler

import (
	"log/slog"
	"testing"
	"time"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// releaser settles every delivery.
type releaser struct{ settler }

func (r *releaser) Acked(_ string, acks []kite.Ack) {
	for i := range acks {
		acks[i].Member.Release(false)
	}
}

// BenchmarkRound sends a member as many messages as it has credit for, and takes its answers: an op is
// one message, without the flow and the socket.
func BenchmarkRound(b *testing.B) {
	h := New(session.NewDirectory(0), kite.Classes{Store: kite.ClassSynced}, address, slog.New(slog.DiscardHandler))
	h.Connect(&lane{}, &releaser{}, &watcher{})
	s := h.Opened(&sink{})
	s.Framing = uint8(protocol.FramingG)
	h.directory.Join(s, "s-pay", 0, time.Now())
	c := NewCourier(h.directory)
	body := protocol.AppendMessage(nil, protocol.FramingG, 1, protocol.CmdBytesMessage, header(nil), make([]byte, 256))[19:]
	r := &kite.Record{Command: uint8(protocol.CmdBytesMessage), Body: body}
	var m protocol.MessageView
	if err := m.Decode(body); err != nil {
		b.Fatal(err)
	}
	ack := protocol.AppendDeliverAck(nil, protocol.FramingG, 1, &m.Header, true, "")
	frame, _, err := protocol.FramingG.Next(ack)
	if err != nil {
		b.Fatal(err)
	}
	var frames []protocol.Frame
	for range session.DefaultInFlight {
		frames = append(frames, frame)
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += len(frames) {
		for range frames {
			if m, err := c.Send("s-pay", 1, r); m == nil {
				b.Fatal(err)
			}
		}
		if m, _ := c.Send("s-pay", 1, r); m != nil {
			b.Fatal("no end of credit")
		}
		c.Flush()
		if _, err := h.Frames(s, frames, nil); err != nil {
			b.Fatal(err)
		}
	}
}
