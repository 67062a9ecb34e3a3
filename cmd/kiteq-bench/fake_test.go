package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/protocol"
)

// fakeBroker confirms every publish and delivers it as often as copies says to one consumer.
type fakeBroker struct {
	listener net.Listener
	copies   func(s stamp, body []byte) [][]byte

	mu       sync.Mutex
	consumer net.Conn
	next     uint32
	running  sync.WaitGroup
}

func startFake(t *testing.T, copies func(s stamp, body []byte) [][]byte) *fakeBroker {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeBroker{listener: listener, copies: copies}
	f.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.running.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() { // the connections end with the run
		_ = listener.Close()
		f.running.Wait()
	})
	return f
}

func (f *fakeBroker) serve(conn net.Conn) {
	l := &link{conn: conn, in: make([]byte, 4096)}
	defer l.close()
	for {
		frame, err := l.next()
		if err != nil {
			return
		}
		switch frame.Command {
		case protocol.CmdConnMeta:
			meta, _ := protocol.DecodeConnMeta(frame.Payload)
			f.mu.Lock()
			if strings.HasPrefix(meta.GroupID, "s-") {
				f.consumer = conn
			}
			_, _ = conn.Write(protocol.AppendConnAuthAck(nil, protocol.FramingG, frame.Opaque, protocol.ConnAuthAck{OK: true, Feedback: protocol.FeedbackAuthorized}))
			f.mu.Unlock()
		case protocol.CmdBytesMessage:
			f.publish(conn, frame)
		}
	}
}

func (f *fakeBroker) publish(conn net.Conn, frame protocol.Frame) {
	var m protocol.MessageView
	if err := m.Decode(frame.Payload); err != nil {
		return
	}
	s, _ := readStamp(m.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	h := protocol.Header{
		MessageID: string(m.Header.MessageID), Topic: string(m.Header.Topic), MessageType: string(m.Header.MessageType),
		GroupID: string(m.Header.GroupID), Commit: true,
	}
	copies := [][]byte{m.Body}
	if s.stream != probeStream {
		copies = f.copies(s, m.Body)
	}
	for _, body := range copies {
		f.next++
		_, _ = f.consumer.Write(protocol.AppendMessage(nil, protocol.FramingG, f.next, protocol.CmdBytesMessage, &h, body))
	}
	_, _ = conn.Write(protocol.AppendStoreAck(nil, protocol.FramingG, frame.Opaque, m.Header.MessageID, true, protocol.FeedbackStored+"0 synced"))
}

// unbound binds nowhere: the fake knows its consumer.
type unbound struct{}

func (unbound) bind(context.Context, *receipt) error   { return nil }
func (unbound) unbind(context.Context, *receipt) error { return nil }

// TestCheck: what a broker does wrong is seen, and nothing else.
func TestCheck(t *testing.T) {
	t.Parallel()
	var held []byte
	cases := []struct {
		name   string
		copies func(s stamp, body []byte) [][]byte
		want   check
	}{
		{"nothing", func(_ stamp, body []byte) [][]byte { return [][]byte{body} }, check{}},
		{"lost", func(s stamp, body []byte) [][]byte {
			if s.place == 7 {
				return nil
			}
			return [][]byte{body}
		}, check{Lost: 1}},
		{"twice", func(s stamp, body []byte) [][]byte {
			if s.place == 7 {
				return [][]byte{body, body}
			}
			return [][]byte{body}
		}, check{Duplicate: 1}},
		{"late", func(s stamp, body []byte) [][]byte {
			switch s.place {
			case 7:
				held = bytes.Clone(body)
				return nil
			case 9:
				return [][]byte{body, held}
			}
			return [][]byte{body}
		}, check{OutOfOrder: 1}},
		{"alien", func(s stamp, body []byte) [][]byte {
			if s.place != 7 {
				return [][]byte{body}
			}
			var all [][]byte
			for _, wrong := range []stamp{{s.run + 1, 0, 1, s.due}, {s.run, 5, 1, s.due}, {s.run, 0, 1 << 40, s.due}} {
				other := bytes.Clone(body)
				wrong.write(other)
				all = append(all, other)
			}
			return append(all, body, body[:20], append(bytes.Clone(body), 0))
		}, check{Alien: 5}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, c.copies)
			o, err := parseOptions([]string{
				"-broker", f.listener.Addr().String(), "-conns", "1", "-consumers", "1", "-n", "50", "-patience", "300ms",
			}, t.Output())
			if err != nil {
				t.Fatal(err)
			}
			b := newBench(o)
			b.binder = unbound{}
			r, err := b.run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.Check != c.want || r.Publish.Messages != 50 || r.Class != "synced" {
				t.Errorf("%s\nwant %+v", r, c.want)
			}
			wantCode := exitOK
			if c.want.Lost+c.want.Alien > 0 {
				wantCode = exitWrong
			}
			if code := r.code(); code != wantCode {
				t.Errorf("exit code %d, want %d", code, wantCode)
			}
		})
	}
}

// TestSilentBroker: a broker that confirms nothing ends the run with an error, not never.
func TestSilentBroker(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var problems bytes.Buffer
	code := run(t.Context(), []string{"-mode", "publish", "-broker", listener.Addr().String(), "-patience", "50ms", "-n", "1"}, t.Output(), &problems)
	if code != exitError || !strings.Contains(problems.String(), "introduce group") {
		t.Errorf("exit code %d, %q", code, &problems)
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	start := time.Unix(100, 0)
	var all []time.Duration
	for conn := range 3 {
		p := newPace(options{n: 8, rate: 1000}, conn, 3, start)
		for {
			due, ok := p.next(start.Add(time.Hour)) // a generator that is late sends what was due, as of when it was
			if !ok {
				break
			}
			p.took()
			all = append(all, due.Sub(start))
		}
	}
	want := []time.Duration{0, 3, 6, 1, 4, 7, 2, 5}
	if len(all) != len(want) {
		t.Fatalf("%d messages, want %d", len(all), len(want))
	}
	for i := range want {
		if all[i].Round(time.Millisecond) != want[i]*time.Millisecond {
			t.Errorf("message %d due at %v, want %vms", i, all[i], int64(want[i]))
		}
	}
}

func FuzzReadStamp(f *testing.F) {
	seed := make([]byte, stampSize)
	stamp{1, 2, 3, time.Unix(0, 4)}.write(seed)
	f.Add(seed)
	f.Add(seed[:27])
	f.Fuzz(func(t *testing.T, body []byte) {
		s, ok := readStamp(body)
		if ok != (len(body) >= stampSize) {
			t.Fatalf("%d bytes: %v", len(body), ok)
		}
		if !ok {
			return
		}
		again := make([]byte, stampSize)
		s.write(again)
		if !bytes.Equal(again, body[:stampSize]) {
			t.Errorf("%x became %x", body[:stampSize], again)
		}
	})
}
