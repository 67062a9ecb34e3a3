package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/protocol/wire"
)

// goClient opens a connection of framing G and sends the ConnMeta of an old Go client for the group.
func goClient(t *testing.T, b *broker, group string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp4", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	meta, err := proto.Marshal(&wire.ConnMeta{GroupId: &group, SecretKey: proto.String("x"), WarmingupSec: proto.Int32(0)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(goFrame(1, 0x02, meta)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func goFrame(opaque uint32, command byte, payload []byte) []byte {
	head := make([]byte, 19)
	binary.BigEndian.PutUint32(head, opaque)
	head[4] = command
	binary.BigEndian.PutUint32(head[15:], uint32(len(payload)))
	return append(head, payload...)
}

// readGoFrame returns the next frame's command.
func readGoFrame(r io.Reader) (command byte, err error) {
	head := make([]byte, 19)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, err
	}
	_, err = io.CopyN(io.Discard, r, int64(binary.BigEndian.Uint32(head[15:])))
	return head[4], err
}

// TestUnansweredDeliveries publishes 500 messages to an old client that answers none, over more than two
// timeouts: it never holds the 100 at which Go clients stop reading.
func TestUnansweredDeliveries(t *testing.T) {
	t.Parallel()
	zk := freeAddr(t)
	b := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "trade")
	b.Start()
	binder := dial(t, client.Options{ZKHost: zk, Group: "s-deaf"})
	if _, err := binder.Subscribe(patient(t), []client.Binding{fast()}, newInbox().take); err != nil {
		t.Fatal(err)
	}
	b.bound("s-deaf")
	if err := binder.Close(patient(t)); err != nil {
		t.Fatal(err)
	}
	conn := goClient(t, b, "s-deaf")
	producer := dial(t, client.Options{ZKHost: zk, Group: "p-deaf", Topics: []string{"trade"}})
	for range 500 {
		if err := producer.Publish(patient(t), &client.Message{Topic: "trade", Type: "x", Body: []byte("unanswered")}); err != nil {
			t.Fatal(err)
		}
	}
	const timeouts = 13 * time.Second // a delivery is late after 5 s
	_ = conn.SetReadDeadline(time.Now().Add(timeouts))
	held := 0
	for {
		command, err := readGoFrame(conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatalf("after %d deliveries: %v", held, err)
		}
		if command == 0x11 || command == 0x12 {
			held++
		}
	}
	if held < 32 || held > 90 {
		t.Errorf("the client holds %d deliveries that it has not answered, want 32 to 90", held)
	}
	ping := unhex(t, loadVectors(t), "06_heartbeat_ping")
	if _, err := conn.Write(ping); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		command, err := readGoFrame(conn)
		if err != nil {
			t.Fatalf("no answer to a heartbeat: %v", err)
		}
		if command == 0x01 {
			break
		}
	}
	t.Logf("%d deliveries", held)
}

// TestClientsThatDoNotRead has clients that stop reading: one to which large messages are delivered, and
// some that go on asking. They cost the broker their bytes at most, and others hardly notice: the slowest
// hundredth of their messages is compared with that under the same load when all clients read.
func TestClientsThatDoNotRead(t *testing.T) {
	t.Parallel()
	zk := freeAddr(t)
	b := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "trade,large")
	b.Start()
	binder := dial(t, client.Options{ZKHost: zk, Group: "s-large"})
	if _, err := binder.Subscribe(patient(t), []client.Binding{client.Fanout("large")}, newInbox().take); err != nil {
		t.Fatal(err)
	}
	if err := binder.Close(patient(t)); err != nil {
		t.Fatal(err)
	}
	l := newLatencies(t, zk)
	var ratio float64
	for attempt := range 3 { // the machine does other things, too
		stop := talk(t, b, true)
		good, before := l.measure(), heap(t, b)
		stop()
		stop = talk(t, b, false)
		bad, after := l.measure(), heap(t, b)
		stop()
		ratio = float64(bad) / float64(max(good, noise))
		t.Logf("attempt %d: slowest hundredth %v, with clients that do not read %v; heap of %d KiB, then %d KiB",
			attempt, good, bad, before>>10, after>>10)
		// Four times outbound_bytes is the most that may wait for one connection, in buffers that double.
		const budget = (1 + talkers) * 2 * 16 << 20
		if grown := after - before; grown > budget {
			t.Errorf("%d clients that do not read cost %d bytes, at most 16 MiB may wait for each", 1+talkers, grown)
		}
		if ratio <= 2 {
			return
		}
	}
	t.Errorf("others take %.1f times as long while clients do not read", ratio)
}

const (
	// talkers is how many clients ask all the time.
	talkers = 4
	// noise is what a busy machine takes for nothing at all: below it a ratio means nothing.
	noise = 20 * time.Millisecond
)

// talk runs a client of group s-large and the talkers until stop is called. The talkers publish what is
// refused, and each refusal repeats the long id that it is about: 10 MB a second each. They read the answers,
// or do not, until the broker closes them.
func talk(t *testing.T, b *broker, reading bool) (stop func()) {
	t.Helper()
	var m wire.BytesMessage
	like := unhex(t, loadVectors(t), "11_bytes_min")
	mustUnmarshal(t, like[19:], &m)
	m.Header.MessageId = proto.String(strings.Repeat("f", 64<<10))
	payload, err := proto.Marshal(&m)
	if err != nil {
		t.Fatal(err)
	}
	refused := goFrame(7, 0x11, payload)
	conns := []net.Conn{goClient(t, b, "s-large")}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	for n := range talkers {
		conn := goClient(t, b, fmt.Sprintf("s-talker-%d", n))
		conns = append(conns, conn)
		wait.Go(func() {
			tick := time.NewTicker(6 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
				if _, err := conn.Write(refused); err != nil {
					return
				}
			}
		})
	}
	if reading {
		for _, conn := range conns {
			wait.Go(func() { _, _ = io.Copy(io.Discard, conn) })
		}
	}
	stop = sync.OnceFunc(func() {
		cancel()
		for _, conn := range conns {
			conn.Close()
		}
		wait.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// latencies measures how long messages take from publish to handler.
type latencies struct {
	t        *testing.T
	producer *client.Client
	mu       sync.Mutex
	took     []time.Duration
}

func newLatencies(t *testing.T, zk string) *latencies {
	t.Helper()
	l := &latencies{t: t}
	consumer := dial(t, client.Options{ZKHost: zk, Group: "s-quick"})
	_, err := consumer.Subscribe(patient(t), []client.Binding{fast()}, func(_ context.Context, d *client.Delivery) error {
		sent, err := strconv.ParseInt(string(d.Body), 10, 64)
		if err != nil {
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.took = append(l.took, time.Since(time.Unix(0, sent)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	l.producer = dial(t, client.Options{ZKHost: zk, Group: "p-quick", Topics: []string{"trade", "large"}})
	return l
}

// measure publishes 200 small messages a second for a while, and large ones to the other group beside
// them, and returns the time that the slowest hundredth of the small ones took.
func (l *latencies) measure() time.Duration {
	l.t.Helper()
	l.mu.Lock()
	l.took = l.took[:0]
	l.mu.Unlock()
	const small, every = 800, 5 * time.Millisecond
	body := make([]byte, 256<<10)
	tick := time.NewTicker(every)
	defer tick.Stop()
	var wait sync.WaitGroup
	defer wait.Wait()
	for n := range small {
		<-tick.C
		m := &client.Message{Topic: "trade", Type: "x", Body: strconv.AppendInt(nil, time.Now().UnixNano(), 10)}
		wait.Go(func() { l.publish(m) })
		if n%10 == 0 {
			wait.Go(func() { l.publish(&client.Message{Topic: "large", Type: "x", Body: body}) })
		}
	}
	eventually(l.t, 30*time.Second, func() string {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.took) < small {
			return fmt.Sprintf("%d of %d messages have come", len(l.took), small)
		}
		return ""
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.took)
	return l.took[len(l.took)*99/100]
}

func (l *latencies) publish(m *client.Message) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.t.Context()), time.Minute)
	defer cancel()
	if err := l.producer.Publish(ctx, m); err != nil {
		l.t.Errorf("publish: %v", err)
	}
}

// heap is how much the broker's objects take after a collection, bytes.
func heap(t *testing.T, b *broker) int {
	t.Helper()
	http := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := http.Get("http://" + b.admin + "/debug/pprof/heap?debug=1&gc=1")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	profile, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(profile)) {
		if rest, ok := strings.CutPrefix(line, "# HeapAlloc = "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(rest))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no HeapAlloc in\n%s", profile)
	return 0
}
