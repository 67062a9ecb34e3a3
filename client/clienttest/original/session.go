package original

import (
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kiteq/kiteq/internal/protocol/wire"
)

// writeTimeout bounds a write to a client that does not read.
const writeTimeout = 10 * time.Second

// session is one connection.
type session struct {
	broker *Broker
	nc     net.Conn
	group  string // of the last ConnMeta; empty before the first
}

func (b *Broker) serve(nc net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		nc.Close()
		return
	}
	s := &session{broker: b, nc: nc}
	b.conns = append(b.conns, s)
	b.serving.Go(s.read)
}

// read hands each packet to a goroutine of its own.
func (s *session) read() {
	b := s.broker
	defer s.forget()
	for {
		f, err := readFrame(s.nc)
		if err != nil {
			return
		}
		b.serving.Go(func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			s.handleLocked(f)
		})
	}
}

func (s *session) forget() {
	b := s.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	s.nc.Close()
	isThis := func(other *session) bool { return other == s }
	b.conns = slices.DeleteFunc(b.conns, isThis)
	for group, all := range b.members {
		b.members[group] = slices.DeleteFunc(all, isThis)
	}
}

// write sends without waiting for an answer; a connection that fails ends in read.
func (s *session) write(frame []byte) {
	if s.nc.SetWriteDeadline(time.Now().Add(writeTimeout)) == nil {
		_, _ = s.nc.Write(frame)
	}
}

func (s *session) fault(format string, args ...any) {
	s.broker.Faults.Put(fmt.Sprintf(format, args...))
}

// handleLocked handles one packet.
func (s *session) handleLocked(f frame) {
	if f.version != 0 || f.extension != 0 {
		s.fault("command %#x with version %d and extension %d, want 0 and 0", f.command, f.version, f.extension)
	}
	if s.group == "" && f.command != connMeta {
		s.fault("command %#x before ConnMeta", f.command)
		refusal := &wire.ConnAuthAck{Status: proto.Bool(false), Feedback: proto.String("Unauthorized,Connection broken!")}
		s.write(encode(0, connAuthAck, marshal(refusal)))
		s.nc.Close()
		return
	}
	switch f.command {
	case heartbeat, connMeta, bytesMessage, stringMessage:
		if f.opaque == 0 {
			s.fault("request %#x with opaque 0", f.command)
		}
	}
	switch f.command {
	case heartbeat:
		s.beatLocked(f)
	case connMeta:
		s.connectLocked(f)
	case deliverAck:
		s.ackedLocked(f)
	case txAck:
		s.decidedLocked(f)
	case bytesMessage, stringMessage:
		s.publishedLocked(f)
	default:
		s.fault("command %#x, which no client sends", f.command)
	}
}

// decode reads the payload. One that does not parse or misses a required field is not answered.
func (s *session) decode(f frame, m proto.Message) bool {
	if err := proto.Unmarshal(f.payload, m); err != nil {
		s.fault("command %#x: %v", f.command, err)
		return false
	}
	return true
}

func (s *session) beatLocked(f frame) {
	var beat wire.HeartBeat
	if s.decode(f, &beat) {
		s.broker.Beats.Put(f.opaque)
		s.broker.replyLocked(s, f.opaque, heartbeat, &beat)
	}
}

func (s *session) connectLocked(f frame) {
	var meta wire.ConnMeta
	if !s.decode(f, &meta) {
		return
	}
	b := s.broker
	s.group = meta.GetGroupId()
	b.members[s.group] = append(b.members[s.group], s)
	b.replyLocked(s, f.opaque, connAuthAck, &wire.ConnAuthAck{Status: proto.Bool(true), Feedback: proto.String("Auth Succ")})
	b.Connects.Put(s.group)
}

func (s *session) publishedLocked(f frame) {
	b := s.broker
	p := Published{Opaque: f.opaque, Payload: f.payload, Text: f.command == stringMessage}
	if p.Text {
		var m wire.StringMessage
		if !s.decode(f, &m) {
			return
		}
		p.Header, p.Body = m.Header, []byte(m.GetBody())
	} else {
		var m wire.BytesMessage
		if !s.decode(f, &m) {
			return
		}
		p.Header, p.Body = m.Header, m.GetBody()
	}
	m := &message{command: f.command, header: proto.CloneOf(p.Header), body: p.Body, done: map[string]bool{}}
	ok, feedback := s.takeLocked(m)
	if b.acksLost > 0 {
		b.acksLost--
	} else {
		b.replyLocked(s, f.opaque, storeAck, &wire.MessageStoreAck{
			MessageId: p.Header.MessageId, Status: proto.Bool(ok), Feedback: proto.String(feedback),
		})
	}
	b.Published.Put(p)
}

// takeLocked stores the message and starts what follows, and returns what its StoreAck says.
func (s *session) takeLocked(m *message) (ok bool, feedback string) {
	b := s.broker
	if refusal := b.acceptLocked(m.header, time.Now()); refusal != "" {
		return false, refusal
	}
	m.committed = m.header.GetCommit()
	feedback = "FLY NO NEED SAVE"
	if !m.header.GetFly() {
		if !b.storeLocked(m) {
			return false, "Store Result false Cost:0"
		}
		feedback = "Store Result true Cost:0"
	}
	switch {
	case m.committed:
		b.deliverLocked(m)
	case b.options.CheckAtOnce:
		b.checkLocked(m)
	}
	return true, feedback
}

// ackedLocked takes a DeliverAck, by its opaque only, from whatever connection.
func (s *session) ackedLocked(f frame) {
	var ack wire.DeliverAck
	if !s.decode(f, &ack) {
		return
	}
	const immediately = 3
	b := s.broker
	a := b.answeredLocked(f.opaque)
	switch {
	case a == nil || a.of == nil:
	case ack.GetStatus():
		a.of.done[a.group] = true
		b.settleLocked(a.of)
	case a.tries < immediately:
		b.sendLocked(a)
	}
	b.Acks.Put(Ack{f.opaque, &ack, a != nil})
}

// decidedLocked takes a verdict, by the id only, from whatever connection. Nothing answers it.
func (s *session) decidedLocked(f frame) {
	var packet wire.TxACKPacket
	if !s.decode(f, &packet) {
		return
	}
	b := s.broker
	a, checked := b.table[f.opaque]
	if checked = checked && a != nil; checked {
		delete(b.table, f.opaque)
	}
	if m := b.findLocked(packet.Header.GetMessageId()); m != nil {
		switch packet.GetStatus() {
		case 1:
			if !m.committed {
				m.committed = true
				b.deliverLocked(m)
			}
		case 2:
			b.removeLocked(m)
		}
	}
	b.Verdicts.Put(Verdict{f.opaque, packet.Header.GetMessageId(), packet.GetStatus(), packet.GetFeedback(), checked})
}
