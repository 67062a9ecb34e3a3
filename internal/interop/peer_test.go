package interop

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// peer is a scripted old client on one connection. Every frame that it takes must have all required
// fields, and must fit what clients of its framing can read.
type peer struct {
	t       *testing.T
	conn    net.Conn
	framing framing
	buf     []byte
	waiting []frame // came while ask waited for another
	last    uint32  // opaque of the newest request
	begun   bool
}

// dial opens a connection and says nothing.
func (b *broker) dial(t *testing.T, f framing) *peer {
	t.Helper()
	conn, err := net.Dial("tcp4", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &peer{t: t, conn: conn, framing: f}
}

// connect opens a connection of the group: the handshake is that of the golden frames.
func (b *broker) connect(t *testing.T, f framing, group string) *peer {
	t.Helper()
	p := b.dial(t, f)
	p.join(group, 0)
	return p
}

// join sends a ConnMeta and takes the answer.
func (p *peer) join(group string, warmingUp int) {
	p.t.Helper()
	name := "01_connmeta_go"
	if p.framing == framingL {
		name = "50_java_connmeta"
	}
	answer := p.ask(cmdConnMeta, vectorMessage(p.t, name).with(1, group).with(3, warmingUp))
	if m := p.parse(answer); answer.cmd != cmdConnAuth || m.number(1) != 1 || m.text(2) != "Auth Succ" {
		p.t.Fatalf("ConnMeta of %s is answered %#x %v", group, answer.cmd, m)
	}
}

// opaque draws the next number as the clients of the framing do: Go's begin with 1, Java's with 0.
func (p *peer) opaque() uint32 {
	if p.framing == framingL && !p.begun {
		p.begun = true
		return p.last
	}
	p.last++
	return p.last
}

func (p *peer) write(raw []byte) {
	p.t.Helper()
	_ = p.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := p.conn.Write(raw); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

// encode frames a message as the clients of the framing do: Java says version 2.
func (p *peer) encode(cmd byte, opaque uint32, m message) []byte {
	fr := frame{opaque: opaque, cmd: cmd, payload: m.encode()}
	if p.framing == framingL {
		fr.version = 2
	}
	return p.framing.encode(fr)
}

func (p *peer) send(cmd byte, opaque uint32, m message) {
	p.t.Helper()
	p.write(p.encode(cmd, opaque, m))
}

// ask sends a request and returns its answer. What else comes is kept for next.
func (p *peer) ask(cmd byte, m message) frame {
	p.t.Helper()
	opaque := p.opaque()
	p.send(cmd, opaque, m)
	return p.answer(opaque)
}

// answer waits for the answer to the request.
func (p *peer) answer(opaque uint32) frame {
	p.t.Helper()
	for i, fr := range p.waiting {
		if fr.opaque == opaque {
			p.waiting = slices.Delete(p.waiting, i, i+1)
			return fr
		}
	}
	for {
		fr := p.read(patience)
		if fr.opaque == opaque && fr.cmd != cmdBytes && fr.cmd != cmdString {
			return fr
		}
		p.waiting = append(p.waiting, fr)
	}
}

// next returns the next frame.
func (p *peer) next() frame {
	p.t.Helper()
	if len(p.waiting) > 0 {
		fr := p.waiting[0]
		p.waiting = p.waiting[1:]
		return fr
	}
	return p.read(patience)
}

func (p *peer) read(within time.Duration) frame {
	p.t.Helper()
	fr, err := p.tryRead(within)
	if err != nil {
		p.t.Fatalf("read: %v", err)
	}
	return fr
}

// tryRead returns an error of os.ErrDeadlineExceeded when nothing comes in time; half a frame is kept.
func (p *peer) tryRead(within time.Duration) (frame, error) {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(within))
	chunk := make([]byte, 64<<10)
	for {
		fr, size, err := p.framing.cut(p.buf)
		if err != nil {
			return fr, err
		}
		if size > 0 {
			p.buf = p.buf[size:]
			p.examine(fr)
			return fr, nil
		}
		n, err := p.conn.Read(chunk)
		p.buf = append(p.buf, chunk[:n]...)
		if err != nil && n == 0 {
			return frame{}, err
		}
	}
}

// examine holds what is true of every frame of a broker: the version of its family, and every required field.
func (p *peer) examine(fr frame) {
	p.t.Helper()
	if want := map[framing]uint16{framingG: 0, framingL: 2}[p.framing]; fr.version != want {
		p.t.Errorf("version %d in framing %s, want %d", fr.version, p.framing, want)
	}
	if lacks := missing(fr.cmd, p.parse(fr)); lacks != "" {
		p.t.Errorf("%s is missing", lacks)
	}
}

func (p *peer) parse(fr frame) message {
	p.t.Helper()
	m, err := parse(fr.payload)
	if err != nil {
		p.t.Fatalf("payload of command %#x: %v in %x", fr.cmd, err, fr.payload)
	}
	return m
}

// quiet holds that nothing comes for a while.
func (p *peer) quiet(d time.Duration) {
	p.t.Helper()
	if len(p.waiting) > 0 {
		p.t.Fatalf("frame %#x %d %v, want none", p.waiting[0].cmd, p.waiting[0].opaque, p.parse(p.waiting[0]))
	}
	fr, err := p.tryRead(d)
	switch {
	case err == nil:
		p.t.Fatalf("frame %#x %d %v, want none", fr.cmd, fr.opaque, p.parse(fr))
	case !errors.Is(err, os.ErrDeadlineExceeded):
		p.t.Fatalf("read: %v", err)
	}
}

// gone waits until the broker has closed the connection, and returns what it said before.
func (p *peer) gone() []frame {
	p.t.Helper()
	said := p.waiting
	for {
		fr, err := p.tryRead(patience)
		switch {
		case err == nil:
			said = append(said, fr)
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.t.Fatal("the connection is still open")
		case errors.Is(err, io.EOF):
			return said
		default: // reset: bytes were on their way to the broker
			return said
		}
	}
}

// alive holds that the connection answers a heartbeat.
func (p *peer) alive() {
	p.t.Helper()
	version := time.Now().UnixMilli()
	if fr := p.ask(cmdHeartbeat, message{}.with(1, version)); fr.cmd != cmdHeartbeat || p.parse(fr).number(1) != version {
		p.t.Fatalf("heartbeat %d is answered %#x %v", version, fr.cmd, p.parse(fr))
	}
}

// newID is a message id as old clients make them.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// newMessage is a message of topic trade as clients of the framing make it, of a new id.
func newMessage(t testing.TB, f framing, cmd byte) message {
	t.Helper()
	name := "11_bytes_min"
	switch {
	case cmd == cmdString && f == framingL:
		name = "54_java_string_message"
	case cmd == cmdString:
		name = "14_string_min"
	}
	return vectorMessage(t, name).head(headID, newID()).head(headExpires, -1)
}

// head returns a copy with a field of its header changed.
func (m message) head(num int, value any) message {
	return m.with(header, m.sub(header).with(fieldNumber(num), value))
}

// id is the message id in the header of a message or TxACK.
func (m message) id() string { return m.sub(header).text(headID) }

// publish sends the message and returns the answer's status and feedback.
func (p *peer) publish(cmd byte, m message) (ok bool, feedback string) {
	p.t.Helper()
	fr := p.ask(cmd, m)
	ack := p.parse(fr)
	if fr.cmd != cmdStoreAck || ack.text(1) != m.id() {
		p.t.Fatalf("publish of %s is answered %#x %v", m.id(), fr.cmd, ack)
	}
	return ack.number(2) == 1, ack.text(3)
}

// mustPublish publishes a new bytes message, with one thing or another changed, and returns its id.
func (p *peer) mustPublish(change func(message) message) string {
	p.t.Helper()
	m := newMessage(p.t, p.framing, cmdBytes)
	if change != nil {
		m = change(m)
	}
	if ok, feedback := p.publish(cmdBytes, m); !ok {
		p.t.Fatalf("publish is answered false: %s", feedback)
	}
	return m.id()
}

// delivery is one that came in.
type delivery struct {
	frame
	message
}

func (d delivery) head(num int) string           { return d.sub(header).text(fieldNumber(num)) }
func (d delivery) headN(num int) int64           { return d.sub(header).number(fieldNumber(num)) }
func (d delivery) String() string                { return fmt.Sprintf("%#x %#x %v", d.cmd, d.opaque, d.message) }
func (d delivery) isMessage() bool               { return d.cmd == cmdBytes || d.cmd == cmdString }
func fieldNumber[T ~int](num T) protowire.Number { return protowire.Number(num) }

// take returns the next delivery, which nobody has acknowledged yet.
func (p *peer) take() delivery {
	p.t.Helper()
	fr := p.next()
	d := delivery{fr, p.parse(fr)}
	if !d.isMessage() || fr.opaque < 1<<31 {
		p.t.Fatalf("%v, want a delivery", d)
	}
	return d
}

// ack answers a delivery as the clients of the framing do: with the publisher's group, and in Java with
// no feedback unless something was thrown.
func (p *peer) ack(d delivery, ok bool) {
	p.t.Helper()
	p.send(cmdDeliverAck, d.opaque, p.ackMessage(d, ok))
}

func (p *peer) ackMessage(d delivery, ok bool) message {
	name := "31_deliverack_ok"
	switch {
	case p.framing == framingL:
		name = "57_java_deliverack_ok"
	case !ok:
		name = "32_deliverack_fail"
	}
	return vectorMessage(p.t, name).with(1, d.id()).with(2, d.head(headTopic)).with(3, d.head(headType)).
		with(4, d.head(headGroup)).with(5, ok)
}

// consume takes and acknowledges deliveries until each of the ids has come. Others are errors.
func (p *peer) consume(ids ...string) {
	p.t.Helper()
	lacking := map[string]bool{}
	for _, id := range ids {
		lacking[id] = true
	}
	for len(lacking) > 0 {
		d := p.take()
		if !slices.Contains(ids, d.id()) {
			p.t.Fatalf("message %s was not expected", d.id())
		}
		delete(lacking, d.id())
		p.ack(d, true)
	}
}

// verdict sends a TxACK as the clients of the framing do: Go with opaque 0, Java with a number of its own
// and header.commit true whatever it says (§6.2, §6.3).
func (p *peer) verdict(m message, status int) {
	p.t.Helper()
	if p.framing == framingL {
		tx := vectorMessage(p.t, "58_java_txack_client_commit")
		p.send(cmdTxAck, p.opaque(), tx.head(headID, m.id()).with(2, status))
		return
	}
	name := map[int]string{0: "43_txack_check_reply_unknown", 1: "44_txack_client_commit", 2: "45_txack_client_rollback"}[status]
	p.send(cmdTxAck, 0, vectorMessage(p.t, name).with(header, m.sub(header)))
}

// prepare publishes a message of which the transaction is open.
func (p *peer) prepare(change func(message) message) message {
	p.t.Helper()
	m := vectorMessage(p.t, "17_bytes_tx_uncommitted").head(headID, newID())
	if change != nil {
		m = change(m)
	}
	if ok, feedback := p.publish(cmdBytes, m); !ok {
		p.t.Fatalf("prepare is answered false: %s", feedback)
	}
	return m
}

// check takes the next frame, which must be the broker's question about the message.
func (p *peer) check(m message) frame {
	p.t.Helper()
	fr := p.next()
	q := p.parse(fr)
	head := q.sub(header)
	if fr.cmd != cmdTxAck || fr.opaque < 1<<31 || q.number(2) != 0 || q.text(3) != "Server Check" || head.text(headID) != m.id() {
		p.t.Fatalf("%#x %#x %v, want a check about %s", fr.cmd, fr.opaque, q, m.id())
	}
	return fr
}

// reply answers a check: the header of the question goes back, and the check's own opaque.
func (p *peer) reply(check frame, status int, feedback string) {
	p.t.Helper()
	p.send(cmdTxAck, check.opaque, p.parse(check).with(2, status).with(3, feedback))
}
