package transport

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
	"github.com/kiteq/kiteq/internal/tlstest"
)

// secured is a transport with a TLS port and what its clients need.
type secured struct {
	*Transport
	certificates *Certificates
	authority    *tlstest.Authority
	files        TLS
}

// startTLS runs one until the test ends. mutual: clients need certificates.
func startTLS(t testing.TB, o Options, h Handler, mutual, only bool) secured {
	t.Helper()
	s := secured{authority: tlstest.NewAuthority(t, "kiteq test")}
	s.files = TLS{Listen: "127.0.0.1:0", Only: only}
	s.files.Cert, s.files.Key = s.authority.Issue(t, "broker")
	if mutual {
		s.files.ClientCA = s.authority.File
	}
	var err error
	if s.certificates, err = LoadCertificates(s.files, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	o.Addr = "127.0.0.1:0"
	s.Transport = New(o.WithDefaults(), h, slog.New(slog.DiscardHandler))
	s.Secure(s.files, s.certificates)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	return s
}

// dialTLS connects; the error is that of the handshake or, with TLS 1.3, may come with the first read.
func (s secured) dialTLS(t testing.TB, c *tls.Config) (*tls.Conn, error) {
	t.Helper()
	conn, err := tls.Dial("tcp4", s.SecureAddr(), c)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn, nil
}

func (s secured) mustDial(t testing.TB) *tls.Conn {
	t.Helper()
	c, err := s.dialTLS(t, s.authority.Client(t, "some client"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTLSFramings speaks both framings over TLS, in pieces of any size, beside a plain connection.
func TestTLSFramings(t *testing.T) {
	t.Parallel()
	tr := startTLS(t, Options{}, newFake(), false, false)
	for _, framing := range []protocol.Framing{protocol.FramingG, protocol.FramingL} {
		for _, step := range []int{1, 7, 1 << 20} {
			c := tr.mustDial(t)
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
	plain := dial(t, tr.Transport)
	say(t, plain, protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7))
	if n := tr.Connections(); n != 7 {
		t.Errorf("%d connections, want 7", n)
	}
}

// TestTLSVersions refuses what is older than TLS 1.2, plain bytes, and with mutual TLS who has no certificate
// of the authority. None of them reaches the handler.
func TestTLSVersions(t *testing.T) {
	t.Parallel()
	h := newFake()
	tr := startTLS(t, Options{}, h, true, true)
	if tr.Addr() != tr.SecureAddr() {
		t.Errorf("only TLS is served, and clients are told of %s, not of %s", tr.Addr(), tr.SecureAddr())
	}
	stranger := tlstest.NewAuthority(t, "somebody else").Client(t, "some client")
	stranger.RootCAs = tr.authority.Pool
	old := tr.authority.Client(t, "some client")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 //nolint:gosec // it must be refused
	for name, config := range map[string]*tls.Config{"no certificate": tr.authority.Client(t, ""), "foreign certificate": stranger, "TLS 1.1": old} {
		c, err := tr.dialTLS(t, config)
		if err == nil {
			_, _ = c.Write(protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7))
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil || os.IsTimeout(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	raw, err := net.Dial("tcp4", tr.SecureAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_, _ = raw.Write(protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7))
	_ = raw.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(raw); os.IsTimeout(err) {
		t.Error("plain bytes on the TLS port: the connection stays")
	}
	good := tr.mustDial(t)
	say(t, good, protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7))
	if len(h.opened) != 1 {
		t.Errorf("the handler saw %d connections, want that of the good client", len(h.opened))
	}
	if n := tr.Stats().Handshakes; n < 4 {
		t.Errorf("%d failed handshakes are counted, want 4", n)
	}
}

// TestTLSReload replaces the certificate, breaks the file and mends it. A connection stays in any case.
func TestTLSReload(t *testing.T) {
	t.Parallel()
	tr := startTLS(t, Options{}, newFake(), false, false)
	ping := protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7)
	serial := func() string {
		c := tr.mustDial(t)
		say(t, c, ping)
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	old := tr.mustDial(t)
	first := serial()
	if changed, err := tr.certificates.Reload(); changed || err != nil {
		t.Errorf("nothing has changed: %v %v", changed, err)
	}
	tr.authority.Issue(t, "broker") // over the same files
	if changed, err := tr.certificates.Reload(); !changed || err != nil {
		t.Fatalf("renewed: %v %v", changed, err)
	}
	second := serial()
	if second == first {
		t.Error("a new connection still sees the old certificate")
	}
	if err := os.WriteFile(tr.files.Cert, []byte("half a cert"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.certificates.Reload(); kite.CodeOf(err) != kite.Invalid || !strings.Contains(err.Error(), tr.files.Cert) {
		t.Errorf("a broken file: %v", err)
	}
	if serial() != second {
		t.Error("the good certificate is gone after a bad file")
	}
	say(t, old, ping)
	for _, bad := range []TLS{{Cert: "gone", Key: tr.files.Key}, {Cert: tr.authority.File, Key: tr.files.Key}, {Cert: tr.files.Cert, Key: tr.files.Key, ClientCA: tr.files.Key}} {
		if _, err := LoadCertificates(bad, slog.New(slog.DiscardHandler)); kite.CodeOf(err) != kite.Invalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestTLSSlowReader fills a connection that nobody reads, as TestSlowReader does with a plain one.
func TestTLSSlowReader(t *testing.T) {
	t.Parallel()
	h := newFake()
	tr := startTLS(t, Options{OutboundBytes: 1 << 20}, h, false, false)
	slow := tr.mustDial(t)
	s := <-h.opened
	total := 0
	for s.Conn.Writable() { // the kernel's buffers fill first
		write(s, 256<<10)
		total += 256 << 10
		if total > 256<<20 {
			t.Fatal("there is no bound")
		}
	}
	other := tr.mustDial(t)
	<-h.opened
	say(t, other, protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7))
	if _, err := io.CopyN(io.Discard, slow, int64(total)); err != nil {
		t.Fatal(err)
	}
	for !s.Conn.Writable() {
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

// eager writes a delivery to every member as soon as it has joined, from another goroutine, before the
// handler has returned.
type eager struct{ *fake }

func (e eager) Frames(s *session.Session, frames []protocol.Frame, reply []byte) ([]byte, error) {
	reply, err := e.fake.Frames(s, frames, reply)
	written := make(chan struct{})
	go func() {
		defer close(written)
		s.Conn.Write(&session.Buffer{B: protocol.FramingG.AppendFrame(nil, 1<<31, protocol.CmdBytesMessage, []byte("delivery"))})
	}()
	<-written
	return reply, err
}

// TestTLSReplyBeforeDelivery keeps what Conn.Write promises: what is written while a request is worked on
// leaves after its reply.
func TestTLSReplyBeforeDelivery(t *testing.T) {
	t.Parallel()
	tr := startTLS(t, Options{}, eager{newFake()}, false, false)
	for range 20 {
		c := tr.mustDial(t)
		if _, err := c.Write(protocol.AppendConnMeta(nil, protocol.FramingG, 1, protocol.ConnMeta{GroupID: "g"})); err != nil {
			t.Fatal(err)
		}
		if f := read(t, c, protocol.FramingG); f.Command != protocol.CmdConnAuthAck {
			t.Fatalf("the delivery came before the answer: %+v", f)
		}
		if f := read(t, c, protocol.FramingG); f.Command != protocol.CmdBytesMessage {
			t.Fatalf("%+v", f)
		}
	}
}

// TestTLSLastWords lets a reply leave before the broker closes for a broken frame, and takes what a client said
// before it ended.
func TestTLSLastWords(t *testing.T) {
	t.Parallel()
	h := newFake()
	tr := startTLS(t, Options{}, h, false, false)
	c := tr.mustDial(t)
	if _, err := c.Write(protocol.FramingG.AppendFrame(nil, 1, protocol.CmdTxAck, nil)); err != nil {
		t.Fatal(err)
	}
	if f := read(t, c, protocol.FramingG); f.Opaque != 99 {
		t.Errorf("the last words are lost: %+v", f)
	}
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %x %v", rest, err)
	}
	<-h.closed
	half := tr.mustDial(t)
	if _, err := half.Write(protocol.AppendHeartbeat(nil, protocol.FramingG, 7, 7)); err != nil {
		t.Fatal(err)
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if f := read(t, half, protocol.FramingG); f.Opaque != 7 {
		t.Errorf("%+v", f)
	}
	<-h.closed
	if n := tr.Connections(); n > 1 {
		t.Errorf("%d connections are counted", n)
	}
}

func TestTLSOptions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		o    TLS
		want string
	}{
		{TLS{}, ""},
		{TLS{Listen: ":1", Cert: "c", Key: "k"}, ""},
		{TLS{Admin: true, Cert: "c", Key: "k"}, ""},
		{TLS{Listen: ":1", Cert: "c"}, "cert and key"},
		{TLS{Cert: "c", Key: "k"}, "nothing uses them"},
		{TLS{Admin: true, Only: true, Cert: "c", Key: "k"}, "only needs listen"},
	} {
		err := test.o.Validate()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", test.o, err, test.want)
		}
	}
	tr := startTLS(t, Options{}, newFake(), false, false)
	again := New(Options{Addr: "127.0.0.1:0"}.WithDefaults(), newFake(), slog.New(slog.DiscardHandler))
	again.Secure(TLS{Listen: tr.SecureAddr()}, tr.certificates)
	if err := again.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "the port is in use") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Dir(tr.files.Cert)); err != nil {
		t.Error(err)
	}
}
