package transport

import (
	"bytes"
	"log/slog"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// arriving is a connection whose bytes come piece by piece. It counts how many bytes it was asked for.
type arriving struct {
	gnet.Conn // nothing else is called
	context   any
	in        []byte
	peeked    int
}

func (a *arriving) Context() any         { return a.context }
func (a *arriving) SetContext(c any)     { a.context = c }
func (a *arriving) InboundBuffered() int { return len(a.in) }
func (a *arriving) RemoteAddr() net.Addr { return &net.TCPAddr{} }
func (a *arriving) Peek(int) ([]byte, error) {
	a.peeked += len(a.in)
	return a.in, nil
}

func (a *arriving) Discard(n int) (int, error) {
	a.in = a.in[n:]
	return n, nil
}

// payloads notes the sizes of the frames that came.
type payloads struct{ sizes []int }

func (p *payloads) Opened(c session.Conn) *session.Session { return session.New(1, c) }
func (p *payloads) Closed(*session.Session)                {}
func (p *payloads) Writable(*session.Session)              {}
func (p *payloads) Frames(s *session.Session, frames []protocol.Frame, reply []byte) ([]byte, error) {
	for _, f := range frames {
		if f.Command == protocol.CmdConnMeta {
			session.NewDirectory(0).Join(s, "g", 0, time.Now())
		}
		p.sizes = append(p.sizes, len(f.Payload))
	}
	return reply, nil
}

// TestLargeFrame lets a large frame come in small pieces: what has come is looked at once at the beginning
// and once at the end, or the pieces before would be copied again for each.
func TestLargeFrame(t *testing.T) {
	t.Parallel()
	for _, framing := range []protocol.Framing{protocol.FramingG, protocol.FramingL} {
		h := &payloads{}
		tr := New(Options{}.WithDefaults(), h, slog.New(slog.DiscardHandler))
		c := &arriving{}
		tr.OnOpen(c)
		wire := protocol.AppendConnMeta(nil, framing, 0, protocol.ConnMeta{GroupID: "g"})
		wire = framing.AppendFrame(wire, 1, protocol.CmdBytesMessage, make([]byte, kite.MaxPayload))
		wire = framing.AppendFrame(wire, 2, protocol.CmdBytesMessage, make([]byte, 300))
		whole := len(wire)
		for len(wire) > 0 {
			n := min(1000, len(wire))
			c.in = append(c.in, wire[:n]...)
			wire = wire[n:]
			if tr.OnTraffic(c) != gnet.None {
				t.Fatalf("%v: the connection was closed", framing)
			}
		}
		if len(h.sizes) != 3 || h.sizes[1] != kite.MaxPayload || h.sizes[2] != 300 || len(c.in) != 0 {
			t.Errorf("%v: frames of %d bytes, %d left", framing, h.sizes, len(c.in))
		}
		if c.peeked > whole+3000 {
			t.Errorf("%v: %d bytes looked at for %d", framing, c.peeked, whole)
		}
	}
}

// BenchmarkLargeFrame sends the largest frames in pieces.
func BenchmarkLargeFrame(b *testing.B) {
	for _, piece := range []int{4 << 10, 64 << 10} {
		b.Run("piece="+strconv.Itoa(piece), func(b *testing.B) {
			tr := start(b, Options{}, newFake())
			c := dial(b, tr)
			wire := protocol.FramingG.AppendFrame(nil, 1, protocol.CmdBytesMessage, bytes.Repeat([]byte{7}, kite.MaxPayload))
			ping := protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7)
			hello := protocol.AppendConnMeta(nil, protocol.FramingG, 0, protocol.ConnMeta{GroupID: "g"})
			say(b, c, hello)
			b.ReportAllocs()
			b.SetBytes(int64(len(wire)))
			for b.Loop() {
				for rest := wire; len(rest) > 0; {
					n, err := c.Write(rest[:min(piece, len(rest))])
					if err != nil {
						b.Fatal(err)
					}
					rest = rest[n:]
				}
				say(b, c, ping)
			}
		})
	}
}

// say sends a frame and waits for its answer.
func say(t testing.TB, c net.Conn, frame []byte) {
	t.Helper()
	if _, err := c.Write(frame); err != nil {
		t.Fatal(err)
	}
	read(t, c, protocol.FramingG)
}
