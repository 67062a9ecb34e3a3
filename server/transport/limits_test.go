package transport

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// ports runs the test on both ports of a transport.
func ports(t *testing.T, o Options, test func(t *testing.T, tr secured, h *fake, dial func() net.Conn)) {
	t.Helper()
	for _, name := range []string{"plain", "TLS"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newFake()
			tr := startTLS(t, o, h, false, false)
			test(t, tr, h, func() net.Conn {
				if name == "plain" {
					return dial(t, tr.Transport)
				}
				return tr.mustDial(t)
			})
		})
	}
}

// ended waits for the broker to close the connection.
func ended(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
		t.Error("the connection stays open")
	}
}

// hello makes the connection a member.
func hello(t *testing.T, c net.Conn) {
	t.Helper()
	say(t, c, protocol.AppendConnMeta(nil, protocol.FramingG, 1, protocol.ConnMeta{GroupID: "g"}))
}

// half sends the beginning of a frame of that payload.
func half(t *testing.T, c net.Conn, payload, sent int) {
	t.Helper()
	frame := protocol.FramingG.AppendFrame(nil, 1, protocol.CmdBytesMessage, make([]byte, payload))
	if _, err := c.Write(frame[:sent]); err != nil {
		t.Fatal(err)
	}
}

// TestHalfFrame closes a member that never ends its frame, and one that ends each of them but slowly stays.
func TestHalfFrame(t *testing.T) {
	t.Parallel()
	ports(t, Options{FrameTimeout: time.Second}, func(t *testing.T, tr secured, h *fake, dial func() net.Conn) {
		slow, good := dial(), dial()
		hello(t, slow)
		hello(t, good)
		half(t, slow, 1000, 500)
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		ping := protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7)
		rest := ping
		for range 8 { // each read ends within a frame, for longer than the timeout, but another one each time
			if _, err := good.Write(append(rest, ping[:10]...)); err != nil {
				t.Fatal(err)
			}
			read(t, good, protocol.FramingG)
			rest = ping[10:len(ping):len(ping)]
			<-tick.C
		}
		ended(t, slow)
		say(t, good, rest)
		for tr.Stats().Partial != 0 {
			<-tick.C
		}
	})
}

// TestFrameBytes refuses a frame that is too large when its header is there, or at the latest when it is: 2 GiB,
// more than frame_bytes, and before the ConnMeta more than that needs.
func TestFrameBytes(t *testing.T) {
	t.Parallel()
	ports(t, Options{FrameBytes: 64 << 10}, func(t *testing.T, tr secured, _ *fake, dial func() net.Conn) {
		early, large, whole, giant, good := dial(), dial(), dial(), dial(), dial()
		hello(t, large)
		hello(t, giant)
		hello(t, good)
		half(t, early, helloBytes+1, 100)
		ended(t, early)
		half(t, large, 64<<10+1, 100)
		ended(t, large)
		out := protocol.AppendConnMeta(nil, protocol.FramingG, 1, protocol.ConnMeta{GroupID: "g"})
		out = protocol.FramingG.AppendFrame(out, 2, protocol.CmdBytesMessage, make([]byte, 64<<10+1))
		_, _ = whole.Write(out) // the broker may close before it has taken all
		ended(t, whole)
		for _, length := range [][]byte{{0x7f, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xff}} {
			c := dial()
			hello(t, c)
			if _, err := c.Write(append([]byte{0, 0, 0, 6, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, length...)); err != nil {
				t.Fatal(err)
			}
			ended(t, c)
		}
		say(t, good, protocol.FramingG.AppendFrame(nil, 2, protocol.CmdHeartbeat, protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7)[19:]))
	})
}

// TestInboundBytes lets many members hold halves of frames. Over the bound the oldest go, the broker holds no more
// than that, and who sends whole frames notices nothing.
func TestInboundBytes(t *testing.T) {
	t.Parallel()
	const bound = 4 << 20
	ports(t, Options{InboundBytes: bound, FrameTimeout: time.Hour}, func(t *testing.T, tr secured, h *fake, dial func() net.Conn) {
		good := dial()
		hello(t, good)
		var slow []net.Conn
		for range 6 {
			c := dial()
			hello(t, c)
			half(t, c, kite.MaxPayload, 1<<20)
			slow = append(slow, c)
		}
		<-h.closed // at least one has to go
		ended(t, slow[0])
		ping := protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for tr.Stats().Partial > bound {
			<-tick.C
			say(t, good, ping)
		}
		say(t, good, ping)
		last := slow[len(slow)-1]
		if _, err := last.Write(make([]byte, kite.MaxPayload+19-1<<20)); err != nil {
			t.Errorf("the newest was not to go: %v", err)
		}
		say(t, last, ping)
	})
}

// TestConnectionsPerAddress refuses the third connection of an address, on whichever port, and takes another when
// one of the two is gone.
func TestConnectionsPerAddress(t *testing.T) {
	t.Parallel()
	h := newFake()
	tr := startTLS(t, Options{MaxConnectionsPerAddress: 2}, h, false, false)
	ping := protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7)
	plain, secure := dial(t, tr.Transport), tr.mustDial(t)
	say(t, plain, ping)
	say(t, secure, ping)
	ended(t, dial(t, tr.Transport))
	if c, err := tr.dialTLS(t, tr.authority.Client(t, "")); err == nil {
		ended(t, c)
	}
	elsewhere := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	other, err := elsewhere.Dial("tcp4", tr.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	say(t, other, ping)
	if n := tr.Stats(); n.Refused != 2 || n.Connections != 3 {
		t.Errorf("%+v: want 2 refused and 3 open", n)
	}
	<-h.opened
	plain.Close()
	<-h.closed
	say(t, dial(t, tr.Transport), ping)
}
