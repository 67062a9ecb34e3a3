package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	libzk "github.com/go-zookeeper/zk"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
	"github.com/kiteq/kiteq/internal/zktest"
)

// TestAttacks has somebody at the port who means harm, in each known way, while a publisher and a consumer go on:
// everything published is answered and delivered, and the broker's memory stays bounded.
func TestAttacks(t *testing.T) {
	const inbound, connections = 8 << 20, 120
	c := testConfig()
	c.Network.InboundBytes, c.Network.MaxConnectionsPerAddress = inbound, connections
	c.Network.FrameTimeout = time.Hour // it is the bound on memory that is tested here
	c.Accept.PatternBytes = 100
	s, _ := start(t, c, Control{})
	raw := zktest.Raw(t, s.RegistryAddr())
	bind(t, directory(t, s), "s-books", true, "trade")
	consumer, publisher := connect(t, s, "s-books"), connect(t, s, "p-till")
	served := func(t *testing.T) {
		t.Helper()
		for range 5 {
			for i, answer := range publisher.publish("trade", 10) {
				if !strings.HasPrefix(answer, "true") {
					t.Fatalf("message %d: %s", i, answer)
				}
			}
			consumer.consume(10)
		}
	}
	served(t)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC() // pools are empty after two
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	before := heap()
	for _, attack := range []struct {
		name string
		run  func(t *testing.T, s *Server, raw *libzk.Conn, during func())
	}{
		{"half frames", halfFrames}, {"a flood of connections", flood}, {"2 GiB", giants},
		{"a pattern of 1 MiB", longPattern}, {"a million properties", properties},
	} {
		t.Run(attack.name, func(t *testing.T) {
			attack.run(t, s, raw, func() {
				served(t)
				if now := heap(); now > before+4*inbound {
					t.Errorf("the heap grew from %d to %d MiB", before>>20, now>>20)
				}
			})
			served(t)
		})
	}
	if n := s.transport.Stats(); n.Refused == 0 {
		t.Errorf("%+v", n)
	}
}

// dialMany opens up to n connections at once, which end with the test, and returns those that were not refused.
func dialMany(t *testing.T, s *Server, n int, hello bool) (open []net.Conn) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			c, err := net.Dial("tcp4", s.Addr())
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			if hello {
				_, _ = c.Write(protocol.AppendConnMeta(nil, protocol.FramingG, 1, protocol.ConnMeta{GroupID: "s-harm"}))
				if _, err := c.Read(make([]byte, 256)); err != nil {
					_ = c.Close()
					return
				}
			}
			mu.Lock()
			defer mu.Unlock()
			open = append(open, c)
		})
	}
	all.Wait()
	t.Cleanup(func() {
		for _, c := range open {
			_ = c.Close()
		}
		waitFor(t, "the connections to be gone", func() bool { return s.transport.Connections() <= 2 })
	})
	return open
}

// halfFrames sends the first MiB of a frame on each of a hundred connections, and nothing more.
func halfFrames(t *testing.T, s *Server, _ *libzk.Conn, during func()) {
	frame := protocol.FramingG.AppendFrame(nil, 1, protocol.CmdBytesMessage, make([]byte, kite.MaxPayload))
	var all sync.WaitGroup
	open := dialMany(t, s, 100, true)
	for _, c := range open {
		all.Go(func() { _, _ = c.Write(frame[:1<<20]) })
	}
	all.Wait()
	waitFor(t, "the bound", func() bool { return s.transport.Stats().Partial <= int64(s.config.Network.InboundBytes) })
	if len(open) < 100 {
		t.Errorf("only %d of 100 came to send", len(open))
	}
	during()
}

// flood opens far more connections than an address may have.
func flood(t *testing.T, s *Server, _ *libzk.Conn, during func()) {
	refused := s.transport.Stats().Refused
	dialMany(t, s, 1000, false)
	during()
	if n := s.transport.Connections(); n > s.config.Network.MaxConnectionsPerAddress {
		t.Errorf("%d connections", n)
	}
	waitFor(t, "refusals", func() bool { return s.transport.Stats().Refused > refused+500 })
}

// giants announces frames of all but 2 GiB.
func giants(t *testing.T, s *Server, _ *libzk.Conn, during func()) {
	for _, c := range dialMany(t, s, 50, true) {
		head := append([]byte{0, 0, 0, 9, byte(protocol.CmdBytesMessage), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0x7f, 0xff, 0xff, 0xff)
		_, _ = c.Write(append(head, make([]byte, 1000)...))
	}
	during()
	waitFor(t, "their end", func() bool { return s.transport.Connections() <= 2 })
}

// longPattern binds a group by a pattern that is longer than allowed, and by one of a MiB if the registry takes it.
func longPattern(t *testing.T, s *Server, raw *libzk.Conn, during func()) {
	binding := `[{"groupId":"s-%d","topic":"trade","messageType":"%s","bindType":1,"version":"1.0.0","watermark":1000,"persistent":true}]`
	bad := 0
	for i, n := range []int{130, 2000, 500 << 10, 1<<20 - 500} {
		data := fmt.Sprintf(binding, i, strings.Repeat("(a|b)*", n/6+1)[:n-n%6])
		_, err := raw.Create(fmt.Sprintf("/kiteq/sub/trade/s-%d-bind", i), []byte(data), 0, libzk.WorldACL(libzk.PermAll))
		if err == nil {
			bad++
		} else if n < 1<<19 || errors.Is(err, libzk.ErrNodeExists) {
			t.Fatal(err)
		}
	}
	waitFor(t, "the bindings to be left out", func() bool { return len(*s.bad.Load()) >= bad })
	during()
	for i := range 4 {
		if s.exchange.Route("trade", fmt.Sprintf("s-%d", i)) != nil {
			t.Errorf("pattern %d is in force", i)
		}
	}
}

// properties sends messages with more properties than allowed, and with as many as fit a frame, which are not even
// read to their end.
func properties(t *testing.T, s *Server, _ *libzk.Conn, during func()) {
	p := connect(t, s, "p-harm")
	h := &protocol.Header{MessageID: strings.Repeat("a", 32), Topic: "trade", MessageType: "pay", GroupID: "p-harm", ExpiredTime: -1, DeliverLimit: 100, Commit: true}
	head := protocol.AppendMessage(nil, protocol.FramingG, 1, protocol.CmdBytesMessage, h, nil)[19:]
	for _, n := range []int{1025, kite.MaxProperties, 300_000} {
		// Protobuf merges a field that comes again: the properties come in a header of their own.
		entry := []byte{9<<3 | 2, 4, 1<<3 | 2, 0, 2<<3 | 2, 0}
		more := bytes.Repeat(entry, n)
		payload := binary.AppendUvarint(append([]byte{}, head...), 1<<3|2)
		payload = append(binary.AppendUvarint(payload, uint64(len(more))), more...)
		p.write(protocol.FramingG.AppendFrame(nil, 7, protocol.CmdBytesMessage, payload))
		during()
		if n > kite.MaxProperties {
			p.write(protocol.AppendHeartbeat(nil, protocol.FramingG, 8, 8))
			if f := p.read(); f.Command != protocol.CmdHeartbeat {
				t.Errorf("%d properties: %v", n, f.Command)
			}
			continue
		}
		var a protocol.StoreAckView
		if err := a.Decode(p.read().Payload); err != nil || a.Status || !strings.HasPrefix(string(a.Feedback), protocol.FeedbackProperties) {
			t.Errorf("%d properties: %v %q, %v", n, a.Status, a.Feedback, err)
		}
	}
}
