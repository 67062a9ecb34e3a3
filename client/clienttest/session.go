package clienttest

import (
	"net"
	"sync"

	"github.com/kiteq/kiteq/internal/protocol"
)

const framing = protocol.FramingG

// session is one connection of a Broker. What is sent is collected for its writer, so that neither
// the reader nor a test waits for the client to read.
type session struct {
	broker *Broker
	nc     net.Conn
	group  string // set by the handshake
	once   sync.Once
	quit   chan struct{}
	wake   chan struct{}

	mu  sync.Mutex
	out []byte
}

func (s *session) close() {
	s.once.Do(func() {
		close(s.quit)
		s.nc.Close()
	})
}

func (s *session) send(appendTo func(dst []byte) []byte) {
	s.mu.Lock()
	s.out = appendTo(s.out)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *session) write() {
	var spare []byte
	for {
		select {
		case <-s.wake:
		case <-s.quit:
			return
		}
		s.mu.Lock()
		full := s.out
		s.out = spare[:0]
		s.mu.Unlock()
		if _, err := s.nc.Write(full); err != nil {
			s.close()
			return
		}
		spare = full
	}
}

// read serves what arrives until the connection ends.
func (s *session) read() {
	buf, used := make([]byte, 64<<10), 0
	for {
		n, err := s.nc.Read(buf[used:])
		if used += n; n == 0 && err != nil {
			return
		}
		start := 0
		for {
			f, size, err := framing.Next(buf[start:used])
			if err != nil || size > 0 && !s.serve(f) {
				return
			}
			if size == 0 {
				break
			}
			start += size
		}
		used = copy(buf, buf[start:used])
		if used == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
	}
}

// serve answers one frame; false ends the connection.
func (s *session) serve(f protocol.Frame) bool {
	if s.group == "" && f.Command != protocol.CmdConnMeta {
		return false // whoever speaks before the handshake is cut off, as the original does
	}
	switch f.Command {
	case protocol.CmdConnMeta:
		return s.connect(f)
	case protocol.CmdHeartbeat:
		return s.beat(f)
	case protocol.CmdBytesMessage, protocol.CmdStringMessage:
		return s.publish(f)
	case protocol.CmdDeliverAck:
		return s.ack(f)
	case protocol.CmdTxAck:
		return s.verdict(f)
	}
	return true
}

func (s *session) connect(f protocol.Frame) bool {
	meta, err := protocol.DecodeConnMeta(f.Payload)
	if err != nil {
		return false
	}
	b := s.broker
	c := Connect{meta.GroupID, meta.SecretKey, meta.WarmingUpSec}
	b.mu.Lock()
	decide, receipts := b.onConnect, b.onVerdict != nil
	b.mu.Unlock()
	refusal := ""
	if decide != nil {
		refusal = decide(c)
	}
	feedback := protocol.FeedbackAuthorized
	if refusal != "" {
		feedback = refusal
	}
	ack := func(dst []byte) []byte {
		answer := protocol.ConnAuthAck{OK: refusal == "", Feedback: feedback}
		if receipts {
			answer.Level = min(meta.Level, protocol.Level)
		}
		return protocol.AppendConnAuthAck(dst, framing, f.Opaque, answer)
	}
	if refusal != "" {
		s.send(ack)
		return true
	}
	s.group = meta.GroupID
	b.mu.Lock()
	s.send(ack) // under the lock: the client that has it is found by Deliver, and Deliver comes after it
	b.sessions = append(b.sessions, s)
	relay := b.relay
	b.mu.Unlock()
	b.Connects.Put(c)
	relay.connected()
	return true
}

func (s *session) beat(f protocol.Frame) bool {
	version, err := protocol.DecodeHeartbeat(f.Payload)
	if err != nil {
		return false
	}
	s.broker.mu.Lock()
	mute := s.broker.mute
	s.broker.mu.Unlock()
	if !mute {
		s.send(func(dst []byte) []byte { return protocol.AppendHeartbeat(dst, framing, f.Opaque, version) })
	}
	s.broker.Beats.Put(f.Opaque)
	return true
}

func (s *session) publish(f protocol.Frame) bool {
	b := s.broker
	b.mu.Lock()
	decide, relay, discard := b.onPublish, b.relay, b.discard
	b.mu.Unlock()
	if discard {
		return s.discard(f)
	}
	p, err := decodePublished(f)
	if err != nil {
		return false
	}
	answer := Accept()
	if decide != nil {
		answer = decide(p)
	}
	if answer.ok {
		relay.stored(p) // before the answer: who publishes and then looks must find it
	}
	b.Published.Put(p)
	switch {
	case answer.hangup:
		return false
	case !answer.silent:
		s.send(func(dst []byte) []byte {
			return protocol.AppendStoreAck(dst, framing, f.Opaque, []byte(p.ID), answer.ok, answer.feedback)
		})
	}
	return true
}

func (s *session) discard(f protocol.Frame) bool {
	var m protocol.MessageView
	if err := m.Decode(f.Payload); err != nil {
		return false
	}
	s.send(func(dst []byte) []byte {
		return protocol.AppendStoreAck(dst, framing, f.Opaque, m.Header.MessageID, true, protocol.FeedbackStored)
	})
	return true
}

func (s *session) ack(f protocol.Frame) bool {
	var view protocol.DeliverAckView
	if err := view.Decode(f.Payload); err != nil {
		return false
	}
	a := Ack{
		Opaque: f.Opaque, ID: string(view.MessageID), Topic: string(view.Topic), Type: string(view.MessageType),
		Group: string(view.GroupID), OK: view.Status, Feedback: string(view.Feedback),
	}
	s.broker.mu.Lock()
	relay := s.broker.relay
	s.broker.mu.Unlock()
	relay.acked(a)
	s.broker.Acks.Put(a)
	return true
}

func (s *session) verdict(f protocol.Frame) bool {
	var view protocol.TxAckView
	if err := view.Decode(f.Payload); err != nil {
		return false
	}
	v := Verdict{f.Opaque, string(view.Header.MessageID), string(view.Header.Topic), view.Status, string(view.Feedback)}
	s.broker.mu.Lock()
	relay, decide := s.broker.relay, s.broker.onVerdict
	s.broker.mu.Unlock()
	relay.decided(v)
	s.broker.Verdicts.Put(v)
	if decide == nil || v.Status == protocol.StatusUnknown {
		return true
	}
	if receipt := decide(v); receipt != nil {
		receipt.MessageID = v.ID
		s.send(func(dst []byte) []byte { return protocol.AppendTxReceipt(dst, framing, f.Opaque, receipt) })
	}
	return true
}

func decodePublished(f protocol.Frame) (Published, error) {
	var m protocol.MessageView
	payload := append([]byte(nil), f.Payload...)
	if err := m.Decode(payload); err != nil {
		return Published{}, err
	}
	h := &m.Header
	p := Published{
		Opaque: f.Opaque, ID: string(h.MessageID), Topic: string(h.Topic), Type: string(h.MessageType),
		Group: string(h.GroupID), Body: m.Body, Text: f.Command == protocol.CmdStringMessage,
		Commit: h.Commit, Fly: h.Fly, DeliverLimit: h.DeliverLimit, ExpiredTime: h.ExpiredTime, CreateTime: h.CreateTime,
		payload: payload, command: f.Command,
	}
	for key, value := range h.Properties {
		if p.Properties == nil {
			p.Properties = map[string]string{}
		}
		p.Properties[string(key)] = string(value)
	}
	return p, nil
}

// append appends the message as a frame. commit false leaves the header as it was published.
func (p *Published) append(dst []byte, opaque uint32, commit bool) []byte {
	payload, command := p.payload, p.command
	if payload == nil {
		f, _, _ := framing.Next(p.encode()) // our own encoding is well formed
		payload, command = f.Payload, f.Command
	}
	var m protocol.MessageView
	if commit && m.Decode(payload) == nil {
		h := &m.Header
		normal := protocol.Normal{ExpiredTime: h.ExpiredTime, DeliverLimit: h.DeliverLimit, CreateTime: h.CreateTime, Commit: true}
		payload = protocol.AppendNormalised(nil, payload, &m, normal)
	}
	return framing.AppendFrame(dst, opaque, command, payload)
}

// encode makes the frame of a message that no client published but the test.
func (p *Published) encode() []byte {
	command := protocol.CmdBytesMessage
	if p.Text {
		command = protocol.CmdStringMessage
	}
	return protocol.AppendMessage(nil, framing, 0, command, &protocol.Header{
		MessageID: p.ID, Topic: p.Topic, MessageType: p.Type, GroupID: p.Group, ExpiredTime: p.ExpiredTime,
		DeliverLimit: p.DeliverLimit, Commit: p.Commit, Fly: p.Fly, Properties: p.Properties, CreateTime: p.CreateTime,
		Snappy: p.Snappy,
	}, p.Body)
}

// Payload returns the message as a frame carries it, for Broker.Frame.
func (p Published) Payload() []byte {
	f, _, _ := framing.Next(p.append(nil, 0, true)) // our own encoding is well formed
	return f.Payload
}

// StoreAckPayload returns the payload of an answer to a publish, for Broker.Frame.
func StoreAckPayload(id string, ok bool, feedback string) []byte {
	f, _, _ := framing.Next(protocol.AppendStoreAck(nil, framing, 0, []byte(id), ok, feedback))
	return f.Payload
}
