package handler

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

func record(size int) *kite.Record {
	return &kite.Record{Command: 0x12, Body: []byte(strings.Repeat("b", size))}
}

// TestCourier frames each delivery as its member speaks and writes once to each.
func TestCourier(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g, connG := r.member(protocol.FramingG, "s-g")
	l, connL := r.member(protocol.FramingL, "s-l")
	c := NewCourier(r.directory)
	for n, group := range []string{"s-g", "s-l", "s-g", "s-l", "s-l"} {
		m, err := c.Send(group, 0x80000000+uint32(n), record(10*n))
		if err != nil || m != kite.Member(g) && m != kite.Member(l) {
			t.Fatalf("delivery %d: %v, %v", n, m, err)
		}
	}
	if len(connG.writes)+len(connL.writes) != 0 {
		t.Error("written before the flush")
	}
	c.Flush()
	c.Flush()
	if len(connG.writes) != 1 || len(connL.writes) != 1 {
		t.Fatalf("%d and %d writes, want one each", len(connG.writes), len(connL.writes))
	}
	expect(t, words(t, protocol.FramingG, connG.writes[0]), "stringMessage 2147483648 0 bytes", "stringMessage 2147483650 20 bytes")
	expect(t, words(t, protocol.FramingL, connL.writes[0]), "stringMessage 2147483649 10 bytes", "stringMessage 2147483651 30 bytes", "stringMessage 2147483652 40 bytes")
	if g.InFlight() != 2 || l.InFlight() != 3 {
		t.Errorf("%d and %d credits taken", g.InFlight(), l.InFlight())
	}
	if m, err := c.Send("s-none", 1, record(1)); m != nil || err != nil || c.Online("s-none") || !c.Online("s-l") {
		t.Errorf("a delivery to nobody: %v, %v", m, err)
	}
}

// TestCourierFlushBytes writes early what would make a buffer large, and a message that is larger alone.
func TestCourierFlushBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, conn := r.member(protocol.FramingG, "s-g")
	c := NewCourier(r.directory)
	for n, size := range []int{100 << 10, 100 << 10, 100 << 10, 300 << 10, 1 << 10} {
		if m, err := c.Send("s-g", uint32(n), record(size)); m == nil || err != nil {
			t.Fatal(m, err)
		}
	}
	if len(conn.writes) != 3 {
		t.Fatalf("%d writes before the flush", len(conn.writes))
	}
	c.Flush()
	if len(conn.writes) != 4 {
		t.Fatalf("%d writes", len(conn.writes))
	}
	next := 0
	for i, want := range []int{2, 1, 1, 1} {
		got := words(t, protocol.FramingG, conn.writes[i])
		if len(got) != want || !strings.HasPrefix(got[0], fmt.Sprintf("stringMessage %d ", next)) {
			t.Errorf("write %d: %q, want %d deliveries from %d on", i, got, want, next)
		}
		next += want
	}
}

// TestCourierTooLarge sends a large message only to members that take it, and waits for their credit.
func TestCourierTooLarge(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old, _ := r.member(protocol.FramingL, "s-a")
	most := protocol.FramingL.MaxPayload()
	c := NewCourier(r.directory)
	if m, err := c.Send("s-a", 1, record(most)); m != kite.Member(old) || err != nil {
		t.Errorf("the largest for framing L: %v, %v", m, err)
	}
	m, err := c.Send("s-a", 2, record(most+1))
	if m != nil || !errors.Is(err, kite.TooLarge) || err.Error() != "payload of 32746 bytes, clients of framing L take 32745" {
		t.Errorf("one byte more: %v, %v", m, err)
	}
	if old.InFlight() != 1 {
		t.Errorf("%d credits taken, want 1", old.InFlight())
	}
	young, conn := r.member(protocol.FramingG, "s-a")
	for n := range session.DefaultInFlight {
		if m, err := c.Send("s-a", uint32(n), record(most+1)); m != kite.Member(young) || err != nil {
			t.Fatalf("delivery %d beside a member of framing G: %v, %v", n, m, err)
		}
	}
	if m, err := c.Send("s-a", 99, record(most+1)); m != nil || err != nil {
		t.Errorf("without credit: %v, %v; want to wait", m, err)
	}
	young.Release(false)
	conn.choked = true
	if m, err := c.Send("s-a", 99, record(most+1)); m != nil || err != nil {
		t.Errorf("a choked connection: %v, %v; want to wait", m, err)
	}
	if old.InFlight() != 1 {
		t.Errorf("%d credits of the old member taken, want 1", old.InFlight())
	}
}

// loader has one undecided message.
type loader struct {
	body []byte
	err  error
}

func (l loader) Load(pos kite.Position, visit func(*kite.Record)) error {
	if l.err == nil {
		visit(&kite.Record{Position: pos, Body: l.body})
	}
	return l.err
}

// deputy notes whom it is asked for.
type deputy struct{ asked []string }

func (d *deputy) Ask(group string, id kite.MessageID, position kite.Position, checks int) {
	d.asked = append(d.asked, fmt.Sprintf("%s %v %d %d", group, id, position, checks))
}

// TestInquirer asks a member of the publisher's group, as the message lies in the journal, and the deputy of a
// group without any.
func TestInquirer(t *testing.T) {
	t.Parallel()
	id, _ := kite.ParseMessageID(idLower)
	body := cut(t, protocol.FramingG, publish(protocol.FramingG, 1, header(nil)))[0].Payload
	for _, f := range []protocol.Framing{protocol.FramingG, protocol.FramingL} {
		r := newRig(t)
		s, conn := r.member(f, "p-trade")
		stand := &deputy{}
		q := NewInquirer(r.directory, loader{body: body}, stand, slog.New(slog.DiscardHandler))
		ask := func() string {
			defer q.Flush()
			return q.Ask("p-trade", id, 7, 0)
		}
		if ask() == "" || len(conn.writes) != 1 {
			t.Fatalf("not asked: %d writes", len(conn.writes))
		}
		frame := cut(t, f, conn.writes[0])[0]
		var check protocol.TxAckView
		if err := check.Decode(frame.Payload); err != nil {
			t.Fatal(err)
		}
		if frame.Command != protocol.CmdTxAck || frame.Opaque < 3<<30 || check.Status != 0 || string(check.Feedback) != "Server Check" ||
			string(check.Header.MessageID) != idLower || check.Header.Commit || string(check.Header.GroupID) != "p-trade" {
			t.Errorf("check %v %#x: %+v", frame.Command, frame.Opaque, check)
		}
		if s.InFlight() != 0 {
			t.Error("a check takes credit of deliveries")
		}
		conn.choked = true
		if ask() != "" {
			t.Error("asked on a connection that takes nothing")
		}
		conn.choked = false
		for name, bad := range map[string]loader{"trimmed": {err: errors.New("nothing there")}, "no message": {body: []byte("garbage")}} {
			q.loader = bad
			if ask() != "" || len(conn.writes) != 1 {
				t.Errorf("%s: asked, %d writes", name, len(conn.writes))
			}
		}
		q.loader = loader{body: body}
		if len(stand.asked) != 0 {
			t.Errorf("the deputy was asked %q while a member is connected", stand.asked)
		}
		if q.Ask("p-none", id, 7, 2) != "" || len(conn.writes) != 1 || !slices.Equal(stand.asked, []string{"p-none " + idLower + " 7 2"}) {
			t.Errorf("asked nobody; %d writes, the deputy was asked %q", len(conn.writes), stand.asked)
		}
		for range 3 {
			q.Ask("p-trade", id, 7, 0)
		}
		if len(conn.writes) != 1 {
			t.Errorf("%d writes before the flush", len(conn.writes)-1)
		}
		if q.Flush(); len(conn.writes) != 2 || len(cut(t, f, conn.writes[1])) != 3 {
			t.Errorf("three checks left in %d writes", len(conn.writes)-1)
		}
		many := flushBytes/len(conn.writes[0]) + 1
		for range many {
			q.Ask("p-trade", id, 7, 0)
		}
		if len(conn.writes) != 3 {
			t.Errorf("%d checks wait for the flush", many)
		}
		q.Flush()
	}
}

// TestCourierPlain delivers a compressed message: as it is to clients of framing G, plain to those of L,
// which know nothing of compression, and as it is when it cannot be decompressed.
func TestCourierPlain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, connG := r.member(protocol.FramingG, "s-g")
	_, connL := r.member(protocol.FramingL, "s-l")
	c := NewCourier(r.directory)
	good, err := protocol.Compress([]byte(strings.Repeat("plain ", 10_000)), false)
	if err != nil {
		t.Fatal(err)
	}
	small, err := protocol.Compress([]byte("plain"), false)
	if err != nil {
		t.Fatal(err)
	}
	snappy := true
	message := func(body []byte) *kite.Record {
		frame := protocol.AppendMessage(nil, protocol.FramingG, 1, protocol.CmdBytesMessage, &protocol.Header{
			MessageID: "0123456789abcdef0123456789abcdef", Topic: "trade", MessageType: "pay", GroupID: "p", Commit: true, Snappy: &snappy,
		}, body)
		return &kite.Record{Command: 0x11, Body: frame[19:]}
	}
	for _, group := range []string{"s-g", "s-l"} {
		for _, body := range [][]byte{small, []byte("damaged")} {
			if m, err := c.Send(group, 1, message(body)); m == nil || err != nil {
				t.Fatal(m, err)
			}
		}
	}
	if m, err := c.Send("s-g", 1, message(good)); m == nil || err != nil {
		t.Errorf("compressed it fits: %v, %v", m, err)
	}
	if _, err := c.Send("s-l", 1, message(good)); kite.CodeOf(err) != kite.TooLarge {
		t.Errorf("plain it is too large for clients of framing L: %v", err)
	}
	c.Flush()
	for _, test := range []struct {
		framing protocol.Framing
		bytes   []byte
		snappy  []bool
		bodies  []string
	}{
		{protocol.FramingG, connG.writes[0], []bool{true, true, true}, []string{string(small), "damaged", string(good)}},
		{protocol.FramingL, connL.writes[0], []bool{false, true}, []string{"plain", "damaged"}},
	} {
		for i, rest := 0, test.bytes; len(rest) > 0; i++ {
			f, size, err := test.framing.Next(rest)
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[size:]
			var m protocol.MessageView
			if err := m.Decode(f.Payload); err != nil {
				t.Fatal(err)
			}
			if m.Header.Snappy != test.snappy[i] || string(m.Body) != test.bodies[i] {
				t.Errorf("%s %d: snappy %v, %d bytes", test.framing, i, m.Header.Snappy, len(m.Body))
			}
		}
	}
}
