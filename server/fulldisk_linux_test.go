package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiteq/kiteq/internal/protocol"
	"github.com/kiteq/kiteq/server/guard"
	"github.com/kiteq/kiteq/store/mmap"
)

// smallDisk mounts a file system of so many bytes, which takes root.
func smallDisk(t *testing.T, bytes int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("mount a file system of %d bytes: %v", bytes, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// TestFullDisk fills the file system of a broker with messages, once with a mark below which publishes are refused
// and once without, up to the journal's reserve: each refusal says that there is no room, the consumer gets
// all that was answered true while nothing more is taken, and publishes are taken again when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ low, refusal string }{
		"mark":    {"16MiB", " disk low: "},
		"reserve": {"1B", "]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := smallDisk(t, 32<<20)
			filler := filepath.Join(dir, "filler")
			if err := os.WriteFile(filler, make([]byte, 16<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			c := testConfig()
			c.Store = "mmap://" + filepath.Join(dir, "journal") + "?sync=os&segment=1MiB"
			if err := c.Limits.DiskLow.UnmarshalText([]byte(test.low)); err != nil {
				t.Fatal(err)
			}
			s, log := start(t, c, Control{})
			bind(t, directory(t, s), "s-all", true, "trade")
			eventually(t, 10*time.Second, func() string {
				if len(s.exchange.Routes()) == 0 {
					return "the binding is not read"
				}
				return ""
			})
			producer := connect(t, s, "p-test")
			stored := map[string]bool{}
			fill := func(most int) string {
				for range most {
					id, answer := producer.large("trade", 16<<10)
					if !strings.HasPrefix(answer, "true") {
						return answer
					}
					stored[id] = true
					if free, size, err := s.journal.(*mmap.Journal).Space(); err != nil || free < min(int64(c.Limits.DiskLow), size/20) {
						held(t, s)
					}
				}
				return ""
			}
			refusal := fill(10_000)
			if !strings.HasPrefix(refusal, "false Store Result KiteQ OverFlow [") || !strings.Contains(refusal, test.refusal) {
				t.Fatalf("after %d messages: %q", len(stored), refusal)
			}
			if n := len(stored); n < 500 {
				t.Errorf("only %d messages of 16 KiB on 16 MiB", n)
			}
			consumer := connect(t, s, "s-all")
			for left := len(stored); left > 0; left-- {
				id := consumer.acknowledge()
				if !stored[id] {
					t.Fatalf("%s was delivered, and refused or delivered before", id)
				}
				delete(stored, id)
			}
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			eventually(t, 20*time.Second, func() string { // the reserve is made again by who publishes
				if refusal := fill(1); refusal != "" {
					return refusal
				}
				return ""
			})
			consumer.acknowledge()
			if strings.Contains(log.String(), "level=ERROR msg=\"journal write failed") {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

// held waits until the guard has seen that little is free: it looks ten times a second, and the test is fast.
func held(t *testing.T, s *Server) {
	t.Helper()
	eventually(t, 10*time.Second, func() string {
		if sight := s.guard.Newest(); sight.Held != guard.Disk {
			return fmt.Sprintf("publishes are not refused: %+v", sight)
		}
		return ""
	})
}

// large publishes one message of the size and returns its id and the answer.
func (p *peer) large(topic string, size int) (id, answer string) {
	p.t.Helper()
	p.next++
	id = fmt.Sprintf("%032x", time.Now().UnixNano())
	h := &protocol.Header{MessageID: id, Topic: topic, MessageType: "pay", GroupID: "p-test", ExpiredTime: -1, DeliverLimit: 100, Commit: true}
	p.write(protocol.AppendMessage(nil, protocol.FramingG, p.next, protocol.CmdBytesMessage, h, make([]byte, size)))
	var ack protocol.StoreAckView
	if err := ack.Decode(p.read().Payload); err != nil {
		p.t.Fatal(err)
	}
	return id, fmt.Sprintf("%t %s", ack.Status, ack.Feedback)
}

// acknowledge takes one delivery and returns the message's id.
func (p *peer) acknowledge() string {
	p.t.Helper()
	f := p.read()
	var m protocol.MessageView
	if err := m.Decode(f.Payload); err != nil {
		p.t.Fatal(err)
	}
	p.write(protocol.AppendDeliverAck(nil, protocol.FramingG, f.Opaque, &m.Header, true, ""))
	return string(m.Header.MessageID)
}
