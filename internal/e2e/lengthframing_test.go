package e2e

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"google.golang.org/protobuf/proto"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/protocol/wire"
	"github.com/kiteq/kiteq/internal/zktest"
)

// TestLifeOfLengthClients is the life of clients that put a length before each frame, as Java, C++ and
// PHP do. It speaks only what the golden vectors hold: each frame begins as its vector, and gets
// another id, group or type where the story needs one.
func TestLifeOfLengthClients(t *testing.T) {
	t.Parallel()
	zkAddr := freeAddr(t)
	b := newBroker(t, embeddedURL(zkAddr, filepath.Join(t.TempDir(), "registry")), "trade")
	b.Start()
	vectors := loadVectors(t)
	publishGolden(t, zkAddr, vectors)

	consumer := dialLength(t, b.addr, vectors, "s-golden")
	producer := dialLength(t, b.addr, vectors, "p-golden")

	// A heartbeat comes back byte for byte.
	ping := vectors.frame(t, "52_java_heartbeat_ping")
	producer.send(ping.raw)
	if pong := producer.next(); hex.EncodeToString(pong.raw) != hex.EncodeToString(vectors.frame(t, "53_java_heartbeat_pong").raw) {
		t.Fatalf("heartbeat %x became %x", ping.raw, pong.raw)
	}

	// Plain, committed, rolled back, committed by a check, rolled back by a check.
	const each = 200
	kinds := []struct {
		commit, verdict bool
		status          int32
		delivered       bool
	}{{commit: true, delivered: true}, {verdict: true, status: 1, delivered: true}, {verdict: true, status: 2}, {status: 1, delivered: true}, {status: 2}}
	want := map[string]bool{}
	answers := map[string]int32{}
	var ids []string
	for n := range each * len(kinds) {
		kind := kinds[n%len(kinds)]
		id := client.NewID()
		ids = append(ids, id)
		if kind.delivered {
			want[id] = true
		}
		if !kind.commit && !kind.verdict {
			answers[id] = kind.status
		}
	}
	producer.answering.Go(func() { producer.answerChecks(answers) })
	for n, id := range ids {
		kind := kinds[n%len(kinds)]
		producer.publish(id, kind.commit)
		if kind.verdict {
			producer.verdict(id, kind.status)
		}
	}
	got := map[string]int{}
	deadline := time.Now().Add(40 * time.Second)
	for len(got) < len(want) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d messages came", len(got), len(want))
		}
		got[consumer.consume()]++
	}
	for id := range got {
		if !want[id] {
			t.Errorf("message %s was rolled back and delivered", id)
		}
	}
}

type vector struct {
	raw     []byte
	opaque  uint32
	command byte
	payload []byte
}

type vectorFile struct {
	Frames []struct{ Name, Hex string }
	Bind   []struct{ Name, Znode, Data string } `json:"bindings"`
}

func loadVectors(t *testing.T) *vectorFile {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "protocol", "testdata", "golden", "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	v := &vectorFile{}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *vectorFile) frame(t *testing.T, name string) vector {
	t.Helper()
	for _, f := range v.Frames {
		if f.Name == name {
			raw, err := hex.DecodeString(f.Hex)
			if err != nil {
				t.Fatal(err)
			}
			return splitLength(raw)
		}
	}
	t.Fatalf("no vector %s", name)
	return vector{}
}

// publishGolden writes the direct binding as the golden file has it.
func publishGolden(t *testing.T, addr string, v *vectorFile) {
	t.Helper()
	c := zktest.Raw(t, addr)
	for _, path := range []string{"/kiteq", "/kiteq/sub", "/kiteq/sub/trade"} {
		if _, err := c.Create(path, nil, 0, zk.WorldACL(zk.PermAll)); err != nil && err != zk.ErrNodeExists {
			t.Fatal(err)
		}
	}
	for _, b := range v.Bind {
		if b.Name == "binding_direct" {
			if _, err := c.Create(b.Znode, []byte(b.Data), 0, zk.WorldACL(zk.PermAll)); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("no vector binding_direct")
}

// splitLength takes a frame with a length prefix apart: 4 bytes length, 19 bytes header, payload.
func splitLength(raw []byte) vector {
	return vector{raw: raw, opaque: binary.BigEndian.Uint32(raw[4:]), command: raw[8], payload: raw[23:]}
}

// lengthClient is a scripted client of the length framing. What comes in is handed to the story by kind.
type lengthClient struct {
	t         *testing.T
	vectors   *vectorFile
	conn      net.Conn
	in        *bufio.Reader
	mu        sync.Mutex // guards writes
	opaque    uint32
	acks      chan vector
	ended     atomic.Bool    // the test is over: a check may have come too late to be answered
	answering sync.WaitGroup // answerChecks
}

func dialLength(t *testing.T, addr string, vectors *vectorFile, group string) *lengthClient {
	t.Helper()
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &lengthClient{
		t: t, vectors: vectors, conn: conn, in: bufio.NewReader(conn), opaque: 1,
		acks: make(chan vector, 64),
	}
	t.Cleanup(func() {
		c.ended.Store(true)
		conn.Close()
		c.answering.Wait()
	})
	meta := vectors.frame(t, "50_java_connmeta")
	m := &wire.ConnMeta{}
	mustUnmarshal(t, meta.payload, m)
	m.GroupId, m.WarmingupSec = proto.String(group), proto.Int32(0)
	c.sendMessage(meta, meta.opaque, m)
	if ack := c.next(); hex.EncodeToString(ack.raw) != hex.EncodeToString(vectors.frame(t, "51_java_connauthack_ok").raw) {
		t.Fatalf("handshake answered %x", ack.raw)
	}
	return c
}

func mustUnmarshal(t *testing.T, b []byte, m proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
}

func (c *lengthClient) send(raw []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.conn.Write(raw); err != nil && !c.ended.Load() {
		c.t.Errorf("write: %v", err)
	}
}

// sendMessage sends the message in the frame of like: its command, version and extension.
func (c *lengthClient) sendMessage(like vector, opaque uint32, m proto.Message) {
	payload, err := proto.Marshal(m)
	if err != nil {
		c.t.Error(err)
		return
	}
	raw := append([]byte(nil), like.raw[:23]...)
	binary.BigEndian.PutUint32(raw, uint32(19+len(payload)))
	binary.BigEndian.PutUint32(raw[4:], opaque)
	binary.BigEndian.PutUint32(raw[19:], uint32(len(payload)))
	c.send(append(raw, payload...))
}

func (c *lengthClient) next() vector {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	v, err := c.read()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	return v
}

func (c *lengthClient) read() (vector, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return vector{}, err
	}
	total := binary.BigEndian.Uint32(head[:])
	if total < 19 || total > 32768-4 {
		return vector{}, fmt.Errorf("frame of %d bytes: these clients take 32768", total+4)
	}
	raw := make([]byte, 4+total)
	copy(raw, head[:])
	if _, err := io.ReadFull(c.in, raw[4:]); err != nil {
		return vector{}, err
	}
	v := splitLength(raw)
	if got := binary.BigEndian.Uint32(raw[19:]); got != total-19 {
		return vector{}, fmt.Errorf("lengths %d and %d disagree", total, got)
	}
	return v, nil
}

// answerChecks reads what comes to a producer: store acks go to publish, checks are answered.
func (c *lengthClient) answerChecks(answers map[string]int32) {
	defer close(c.acks)
	_ = c.conn.SetReadDeadline(time.Time{})
	like := c.vectors.frame(c.t, "58_java_txack_client_commit")
	for {
		v, err := c.read()
		if err != nil {
			return // the test closes the connection
		}
		switch v.command {
		case 0x04:
			c.acks <- v
		case 0x06:
			check := &wire.TxACKPacket{}
			if err := proto.Unmarshal(v.payload, check); err != nil {
				c.t.Errorf("check: %v", err)
				return
			}
			status, known := answers[check.GetHeader().GetMessageId()]
			if !known {
				c.t.Errorf("asked about %s, which was decided", check.GetHeader().GetMessageId())
			}
			if check.GetStatus() != 0 || v.opaque < 1<<31 {
				c.t.Errorf("check with status %d and opaque %d", check.GetStatus(), v.opaque)
			}
			check.Status = proto.Int32(status)
			c.sendMessage(like, v.opaque, check)
		}
	}
}

// publish sends the vector's message under another id and waits for its ack.
func (c *lengthClient) publish(id string, commit bool) {
	c.t.Helper()
	like := c.vectors.frame(c.t, "54_java_string_message")
	m := &wire.StringMessage{}
	mustUnmarshal(c.t, like.payload, m)
	m.Header.MessageId, m.Header.Commit, m.Header.ExpiredTime = &id, &commit, proto.Int64(-1)
	c.opaque++
	c.sendMessage(like, c.opaque, m)
	var ack vector
	select {
	case v, ok := <-c.acks:
		if !ok {
			c.t.Fatal("the connection broke")
		}
		ack = v
	case <-time.After(30 * time.Second):
		c.t.Fatalf("no answer to the publish of %s", id)
	}
	a := &wire.MessageStoreAck{}
	mustUnmarshal(c.t, ack.payload, a)
	if ack.opaque != c.opaque || !a.GetStatus() || a.GetMessageId() != id {
		c.t.Fatalf("publish %s as %d answered %v as %d", id, c.opaque, a, ack.opaque)
	}
}

// verdict sends a TxACK as Java does: with a number of its own and header.commit true whatever it says.
func (c *lengthClient) verdict(id string, status int32) {
	like := c.vectors.frame(c.t, "58_java_txack_client_commit")
	tx := &wire.TxACKPacket{}
	mustUnmarshal(c.t, like.payload, tx)
	tx.Header.MessageId, tx.Status = &id, &status
	c.opaque++
	c.sendMessage(like, c.opaque, tx)
}

// consume takes one delivery, acknowledges it and returns its id.
func (c *lengthClient) consume() string {
	c.t.Helper()
	v := c.next()
	m := &wire.StringMessage{}
	mustUnmarshal(c.t, v.payload, m)
	if v.command != 0x12 || v.opaque < 1<<31 || !m.GetHeader().GetCommit() || m.GetHeader().GetExpiredTime() <= 0 || m.GetBody() != "hello" {
		c.t.Fatalf("delivery %#x %d %v", v.command, v.opaque, m)
	}
	like := c.vectors.frame(c.t, "57_java_deliverack_ok")
	a := &wire.DeliverAck{}
	mustUnmarshal(c.t, like.payload, a)
	a.MessageId = m.Header.MessageId
	c.sendMessage(like, v.opaque, a)
	return m.GetHeader().GetMessageId()
}
