package original

import (
	"bytes"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/kiteq/kiteq/client/clienttest"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a client by hand.
type peer struct {
	t  *testing.T
	nc net.Conn
}

// setup returns a broker and a connection to it on which nothing was said.
func setup(t *testing.T, o Options) (*Broker, *peer) {
	t.Helper()
	b, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	nc, err := net.Dial("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return b, &peer{t, nc}
}

func (p *peer) send(frame []byte) {
	p.t.Helper()
	if _, err := p.nc.Write(frame); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) next() frame {
	p.t.Helper()
	f, err := readFrame(p.nc)
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

// mustGolden returns a golden frame.
func mustGolden(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "internal", "protocol", "testdata", "golden", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestGolden plays recorded frames and wants the recorded answers.
func TestGolden(t *testing.T) {
	t.Parallel()
	_, p := setup(t, Options{})
	for _, step := range [][2]string{
		{"01_connmeta_go", "03_connauthack_ok"},
		{"06_heartbeat_ping", "07_heartbeat_pong"},
		{"17_bytes_tx_uncommitted", ""},
		{"18_bytes_fly", "26_storeack_fly_ok"},
		{"19_bytes_bad_id", "23_storeack_bad_id"},
	} {
		p.send(mustGolden(t, step[0]))
		got := p.next()
		if step[1] == "" {
			continue
		}
		want := mustGolden(t, step[1])
		if raw := encode(got.opaque, got.command, got.payload); !bytes.Equal(raw, want) {
			t.Errorf("%s is answered %x, want %x", step[0], raw, want)
		}
	}
}

// A DeliverAck is lost when a reply took its delivery's place in the table; that is what clients with
// low opaques run into.
func TestLowOpaquesLoseAcks(t *testing.T) {
	t.Parallel()
	for _, beat := range []uint32{1, 0x8000_0001} {
		bindings := clienttest.NewRegistry()
		if err := bindings.Bind(t.Context(), []kite.Binding{kite.Fanout("s-golden", "trade")}); err != nil {
			t.Fatal(err)
		}
		b, p := setup(t, Options{Bindings: bindings.Bindings})
		p.send(mustGolden(t, "02_connmeta_go_warmup"))
		p.next()
		p.send(mustGolden(t, "11_bytes_min"))
		delivery := p.next()
		if stored := p.next(); delivery.command != bytesMessage || delivery.opaque != 1 || stored.command != storeAck {
			t.Fatalf("got %+v, then %+v, want the delivery before the StoreAck", delivery, stored)
		}
		p.send(encode(beat, heartbeat, marshal(&wire.HeartBeat{Version: proto.Int64(1)})))
		p.next()
		p.send(encode(1, deliverAck, marshal(&wire.DeliverAck{
			MessageId: proto.String("x"), Topic: proto.String("trade"), MessageType: proto.String("x"), GroupId: proto.String("p"), Status: proto.Bool(true),
		})))
		ack, err := b.Acks.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if lost := beat == 1; ack.Found == lost || (b.Stored() != 0) != lost {
			t.Errorf("heartbeat of opaque %#x: ack found %v, %d stored", beat, ack.Found, b.Stored())
		}
	}
}

func TestSpeakingTooEarly(t *testing.T) {
	t.Parallel()
	b, p := setup(t, Options{})
	p.send(mustGolden(t, "06_heartbeat_ping"))
	if f, err := readFrame(p.nc); err == nil {
		want := mustGolden(t, "04_connauthack_refused_unsolicited")
		if raw := encode(f.opaque, f.command, f.payload); !bytes.Equal(raw, want) {
			t.Errorf("answered %x, want %x", raw, want)
		}
		if f, err = readFrame(p.nc); err == nil {
			t.Errorf("and then %+v, want the end", f)
		}
	}
	if fault, err := b.Faults.Next(t.Context()); err != nil || !strings.Contains(fault, "before ConnMeta") {
		t.Errorf("fault %q, %v", fault, err)
	}
}

func TestOpaqueZeroIsReplaced(t *testing.T) {
	t.Parallel()
	b, p := setup(t, Options{})
	meta := mustGolden(t, "01_connmeta_go")
	copy(meta, []byte{0, 0, 0, 0})
	p.send(meta)
	if f := p.next(); f.command != connAuthAck || f.opaque != 1 {
		t.Errorf("answered %+v, want an opaque of the broker's", f)
	}
	if fault, err := b.Faults.Next(t.Context()); err != nil || !strings.Contains(fault, "opaque 0") {
		t.Errorf("fault %q, %v", fault, err)
	}
}

// Only topics behind the last one are refused, as in the original.
func TestTopicTest(t *testing.T) {
	t.Parallel()
	b := &Broker{options: Options{Topics: []string{"trade", "message"}}}
	for topic, refused := range map[string]bool{"message": false, "trade": false, "aaa": false, "zzz": true} {
		h := &wire.Header{MessageId: proto.String(strings.Repeat("a", 32)), Topic: proto.String(topic), Commit: proto.Bool(true)}
		if got := b.acceptLocked(h, time.Now()); (got != "") != refused {
			t.Errorf("topic %s: %q", topic, got)
		}
	}
}
