package transport

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, // gnet's worker pool is package-wide and never ends
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"))
}

// fake answers every heartbeat, joins at ConnMeta, and shows its sessions.
type fake struct {
	directory *session.Directory
	opened    chan *session.Session
	closed    chan *session.Session
	writable  chan *session.Session
	mu        sync.Mutex
	ids       uint64
}

func newFake() *fake {
	return &fake{
		directory: session.NewDirectory(0), opened: make(chan *session.Session, 64),
		closed: make(chan *session.Session, 64), writable: make(chan *session.Session, 64),
	}
}

func (f *fake) Opened(conn session.Conn) *session.Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ids++
	s := session.New(f.ids, conn)
	f.opened <- s
	return s
}

func (f *fake) Closed(s *session.Session)   { f.closed <- s }
func (f *fake) Writable(s *session.Session) { f.writable <- s }

func (f *fake) Frames(s *session.Session, frames []protocol.Frame, reply []byte) ([]byte, error) {
	framing := protocol.Framing(s.Framing)
	for _, frame := range frames {
		switch frame.Command {
		case protocol.CmdConnMeta:
			f.directory.Join(s, "g", 0, time.Now())
			reply = protocol.AppendConnAuthAck(reply, framing, frame.Opaque, protocol.ConnAuthAck{OK: true})
		case protocol.CmdHeartbeat:
			version, err := protocol.DecodeHeartbeat(frame.Payload)
			if err != nil {
				return reply, err
			}
			reply = protocol.AppendHeartbeat(reply, framing, frame.Opaque, version)
		case protocol.CmdTxAck:
			return protocol.AppendHeartbeat(reply, framing, 99, 99), errors.New("last words")
		}
	}
	return reply, nil
}

// start runs a transport until the test ends.
func start(t testing.TB, o Options, h Handler) *Transport {
	t.Helper()
	o.Addr = "127.0.0.1:0"
	tr := New(o.WithDefaults(), h, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-tr.Ready():
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	return tr
}

func dial(t testing.TB, tr *Transport) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", tr.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func read(t testing.TB, c net.Conn, framing protocol.Framing) protocol.Frame {
	t.Helper()
	var buf []byte
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, one); err != nil {
			t.Fatal(err)
		}
		buf = append(buf, one...)
		f, size, err := framing.Next(buf)
		if err != nil {
			t.Fatal(err)
		}
		if size > 0 {
			return f
		}
	}
}

// TestFramings sends frames whole, byte by byte and many at once: each connection is answered in its kind.
func TestFramings(t *testing.T) {
	t.Parallel()
	tr := start(t, Options{}, newFake())
	for _, framing := range []protocol.Framing{protocol.FramingG, protocol.FramingL} {
		for _, step := range []int{1, 7, 1 << 20} {
			c := dial(t, tr)
			out := protocol.AppendConnMeta(nil, framing, 0, protocol.ConnMeta{GroupID: "g"})
			for n := range 100 {
				out = protocol.AppendHeartbeat(out, framing, uint32(n), int64(n))
			}
			go func() {
				for len(out) > 0 {
					n := min(step, len(out))
					if _, err := c.Write(out[:n]); err != nil {
						return
					}
					out = out[n:]
				}
			}()
			if f := read(t, c, framing); f.Command != protocol.CmdConnAuthAck || f.Opaque != 0 {
				t.Fatalf("%v: %+v", framing, f)
			}
			for n := range 100 {
				if f := read(t, c, framing); f.Command != protocol.CmdHeartbeat || f.Opaque != uint32(n) {
					t.Fatalf("%v: %+v, want pong %d", framing, f, n)
				}
			}
		}
	}
}

// TestBrokenFrameClosesItsConnectionOnly also shows that what was said before still leaves.
func TestBrokenFrameClosesItsConnectionOnly(t *testing.T) {
	t.Parallel()
	h := newFake()
	tr := start(t, Options{}, h)
	good, bad := dial(t, tr), dial(t, tr)
	broken := protocol.AppendHeartbeat(nil, protocol.FramingG, 5, 5)
	broken = append(broken, 0, 0, 0, 6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff)
	if _, err := bad.Write(broken); err != nil {
		t.Fatal(err)
	}
	if f := read(t, bad, protocol.FramingG); f.Opaque != 5 {
		t.Errorf("%+v", f)
	}
	if rest, err := io.ReadAll(bad); err != nil || len(rest) > 0 {
		t.Errorf("after the break: %x %v", rest, err)
	}
	words := dial(t, tr)
	if _, err := words.Write(protocol.FramingG.AppendFrame(nil, 1, protocol.CmdTxAck, nil)); err != nil {
		t.Fatal(err)
	}
	if f := read(t, words, protocol.FramingG); f.Opaque != 99 {
		t.Errorf("the last words are lost: %+v", f)
	}
	if _, err := good.Write(protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7)); err != nil {
		t.Fatal(err)
	}
	if f := read(t, good, protocol.FramingG); f.Opaque != 7 {
		t.Errorf("%+v", f)
	}
}

func TestMaxConnections(t *testing.T) {
	t.Parallel()
	h := newFake()
	tr := start(t, Options{MaxConnections: 2}, h)
	first, second := dial(t, tr), dial(t, tr)
	<-h.opened
	<-h.opened
	third := dial(t, tr)
	if _, err := third.Read(make([]byte, 1)); err == nil {
		t.Error("the third connection is open")
	}
	first.Close()
	<-h.closed
	fourth := dial(t, tr)
	<-h.opened
	for _, c := range []net.Conn{second, fourth} {
		if _, err := c.Write(protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7)); err != nil {
			t.Fatal(err)
		}
		read(t, c, protocol.FramingG)
	}
}

func TestUnauthenticatedTimeout(t *testing.T) {
	t.Parallel()
	h := newFake()
	tr := start(t, Options{UnauthenticatedTimeout: time.Second}, h)
	silent, known := dial(t, tr), dial(t, tr)
	if _, err := known.Write(protocol.AppendConnMeta(nil, protocol.FramingG, 1, protocol.ConnMeta{GroupID: "g"})); err != nil {
		t.Fatal(err)
	}
	read(t, known, protocol.FramingG)
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the silent connection: %v", err)
	}
	if _, err := known.Write(protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7)); err != nil {
		t.Fatal(err)
	}
	read(t, known, protocol.FramingG)
}

// write sends n bytes in buffers of 64 KiB.
func write(s *session.Session, n int) {
	for ; n > 0; n -= 64 << 10 {
		b := session.NewBuffer()
		b.B = append(b.B, make([]byte, 64<<10)...)
		s.Conn.Write(b)
	}
}

// TestSlowReader fills a connection that nobody reads: it takes no deliveries over its bound, takes them
// again when the client has read, and is closed at four times the bound. Others do not notice.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	h := newFake()
	tr := start(t, Options{OutboundBytes: 1 << 20}, h)
	slow := dial(t, tr)
	s := <-h.opened
	total := 0
	for s.Conn.Writable() { // the kernel's buffers fill first
		write(s, 256<<10)
		total += 256 << 10
		if total > 256<<20 {
			t.Fatal("there is no bound")
		}
	}
	other := dial(t, tr)
	<-h.opened
	if _, err := other.Write(protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7)); err != nil {
		t.Fatal(err)
	}
	read(t, other, protocol.FramingG)

	if _, err := io.CopyN(io.Discard, slow, int64(total)); err != nil {
		t.Fatal(err)
	}
	for !s.Conn.Writable() { // it may have been so for a moment before
		if got := <-h.writable; got != s {
			t.Fatal("another session is writable again")
		}
	}
	for range 4096 {
		write(s, 256<<10)
		select {
		case got := <-h.closed:
			if got != s {
				t.Error("another session was closed")
			}
			return
		default:
		}
	}
	if got := <-h.closed; got != s {
		t.Error("another session was closed")
	}
}

// TestSpeakerThatDoesNotRead asks without reading the answers. They are bounded as deliveries are.
func TestSpeakerThatDoesNotRead(t *testing.T) {
	t.Parallel()
	h := newFake()
	tr := start(t, Options{OutboundBytes: 1 << 20}, h)
	deaf := dial(t, tr)
	s := <-h.opened
	var pings []byte
	for n := range 4096 {
		pings = protocol.AppendHeartbeat(pings, protocol.FramingG, uint32(n+1), int64(n))
	}
	for sent := 0; ; sent += len(pings) {
		if _, err := deaf.Write(pings); err != nil {
			break
		}
		if sent > 256<<20 {
			t.Fatalf("%d bytes of answers wait for a client that does not read", sent)
		}
	}
	if got := <-h.closed; got != s {
		t.Error("another session was closed")
	}
}

func TestListenErrors(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, test := range []struct{ addr, want string }{
		{l.Addr().String(), "the port is in use"},
		{"203.0.113.1:13800", "choose an address of this machine"},
	} {
		err := New(Options{Addr: test.addr}.WithDefaults(), newFake(), slog.New(slog.DiscardHandler)).Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), test.addr) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.addr, err)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if err := (Options{}).WithDefaults().Validate(); err != nil {
		t.Error(err)
	}
	err := Options{EventLoops: 1000, MaxConnections: -1, UnauthenticatedTimeout: time.Millisecond, OutboundBytes: 1}.Validate()
	for _, want := range []string{"1000", "-1", "1ms", "1B"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	err = errors.Join(err, Options{MaxConnectionsPerAddress: -2, FrameBytes: 4<<20 + 5, FrameTimeout: 2 * time.Millisecond, InboundBytes: 7}.Validate())
	for _, want := range []string{"per address -2", "frame bytes 4194309B", "frame timeout 2ms", "inbound bytes 7B"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if kite.CodeOf(err) != kite.Invalid {
		t.Errorf("code %v", kite.CodeOf(err))
	}
}
