package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/registry/zk"
)

// peer is a client that speaks the wire itself.
type peer struct {
	t    testing.TB
	conn net.Conn
	buf  []byte
	more []byte // what is read at once
	next uint32
}

// connect opens a connection of the group.
func connect(t testing.TB, s *Server, group string) *peer {
	t.Helper()
	conn, err := net.Dial("tcp4", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	p := &peer{t: t, conn: conn, next: 1}
	p.write(protocol.AppendConnMeta(nil, protocol.FramingG, 1, protocol.ConnMeta{GroupID: group}))
	if f := p.read(); f.Command != protocol.CmdConnAuthAck {
		t.Fatalf("answer to ConnMeta: %+v", f)
	}
	return p
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) read() protocol.Frame {
	p.t.Helper()
	f, err := p.receive()
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

func (p *peer) receive() (protocol.Frame, error) {
	for {
		f, size, err := protocol.FramingG.Next(p.buf)
		if err != nil {
			return f, err
		}
		if size > 0 {
			f.Payload = slices.Clone(f.Payload)
			p.buf = p.buf[size:]
			return f, nil
		}
		if p.more == nil {
			p.more = make([]byte, 64<<10)
		}
		n, err := p.conn.Read(p.more)
		if err != nil {
			return f, err
		}
		p.buf = append(p.buf, p.more[:n]...)
	}
}

// publish sends n messages in one write and returns the answers.
func (p *peer) publish(topic string, n int) (answers []string) {
	p.t.Helper()
	var out []byte
	for range n {
		out = append(out, p.message(topic)...)
	}
	p.write(out)
	for range n {
		var a protocol.StoreAckView
		if err := a.Decode(p.read().Payload); err != nil {
			p.t.Fatal(err)
		}
		answers = append(answers, fmt.Sprintf("%t %s", a.Status, a.Feedback))
	}
	return answers
}

// message returns the frame of a new message.
func (p *peer) message(topic string) []byte {
	p.next++
	h := &protocol.Header{
		MessageID: fmt.Sprintf("%032x", time.Now().UnixNano()+int64(p.next)), Topic: topic, MessageType: "pay",
		GroupID: "p-test", ExpiredTime: -1, DeliverLimit: 100, Commit: true,
	}
	return protocol.AppendMessage(nil, protocol.FramingG, p.next, protocol.CmdBytesMessage, h, []byte("body"))
}

// consume takes n deliveries, acknowledges them and returns their topics.
func (p *peer) consume(n int) (topics []string) {
	p.t.Helper()
	for range n {
		f := p.read()
		var m protocol.MessageView
		if err := m.Decode(f.Payload); err != nil {
			p.t.Fatal(err)
		}
		topics = append(topics, string(m.Header.Topic))
		p.write(protocol.AppendDeliverAck(nil, protocol.FramingG, f.Opaque, &m.Header, true, ""))
	}
	return topics
}

// directory is a session with the broker's registry, as clients have one.
func directory(t *testing.T, s *Server) *zk.Registry {
	t.Helper()
	r, err := zk.Connect(zk.Options{Hosts: []string{s.RegistryAddr()}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

// bind binds the group to everything of each topic.
func bind(t *testing.T, r registry.Registry, group string, durable bool, topics ...string) {
	t.Helper()
	var bindings []kite.Binding
	for _, topic := range topics {
		b := kite.Fanout(group, topic)
		b.Durable = durable
		bindings = append(bindings, b)
	}
	if err := r.Bind(t.Context(), bindings); err != nil {
		t.Fatal(err)
	}
}

// get asks the admin server and decodes its JSON.
func get(t *testing.T, s *Server, path string, into any) string {
	t.Helper()
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + s.AdminAddr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || kind != "text/json" {
		t.Errorf("%s: status %d, %s", path, response.StatusCode, kind)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("%s: %v in %s", path, err, body)
	}
	return string(body)
}
