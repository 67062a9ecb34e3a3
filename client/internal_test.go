package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

func TestOpaquesWrapAndSkipOpenCalls(t *testing.T) {
	t.Parallel()
	table := newCalls()
	table.last = math.MaxUint32 - 1
	table.open[firstOpaque+1] = &call{}
	var got []uint32
	for range 3 {
		c := &call{}
		if err := table.add(c, time.Time{}); err != nil {
			t.Fatal(err)
		}
		got = append(got, c.opaque)
	}
	want := []uint32{math.MaxUint32, firstOpaque, firstOpaque + 2}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("opaques %#x, want %#x", got, want)
			break
		}
	}
	if table.take(7) != nil || table.take(firstOpaque) == nil || table.take(firstOpaque) != nil {
		t.Error("take gives what was added, once")
	}
	for range 100 {
		if first := newCalls().opaque(); first < firstOpaque {
			t.Fatalf("first opaque %#x", first)
		}
	}
}

func TestCallsClosed(t *testing.T) {
	t.Parallel()
	table := newCalls()
	if err := table.add(&call{}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n := len(table.close(io.EOF)); n != 1 {
		t.Errorf("%d calls left, want 1", n)
	}
	if table.close(io.EOF) != nil {
		t.Error("a second close gave calls again")
	}
	if err := table.add(&call{}, time.Time{}); !errors.Is(err, io.EOF) || !errors.Is(err, kite.Unavailable) {
		t.Errorf("add after close: %v", err)
	}
}

// text is a frame for tests.
type text string

func (s text) appendTo(dst []byte, _ uint32) []byte { return append(dst, s...) }

func TestOutboxBatches(t *testing.T) {
	t.Parallel()
	o := newOutbox()
	near, far := net.Pipe()
	defer far.Close()
	ended := make(chan error)
	go func() { ended <- o.run(near) }()
	var want strings.Builder
	for _, s := range []text{"a", "bc", "def", "g"} {
		if err := o.put(t.Context(), s, 0); err != nil {
			t.Fatal(err)
		}
		want.WriteString(string(s))
	}
	buf := make([]byte, 7)
	if _, err := io.ReadFull(far, buf); err != nil || string(buf) != want.String() {
		t.Errorf("read %q, %v", buf, err)
	}
	if err := o.flush(t.Context()); err != nil {
		t.Error(err)
	}
	o.close(errClosed)
	if err := <-ended; !errors.Is(err, errClosed) {
		t.Errorf("run ended with %v", err)
	}
	if err := o.push(text("x"), 0); !errors.Is(err, errClosed) {
		t.Errorf("push after close: %v", err)
	}
	if err := o.flush(t.Context()); err != nil {
		t.Errorf("flush of nothing after close: %v", err)
	}
}

func TestOutboxBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox() // nobody writes
		large := text(strings.Repeat("x", outboxRoom))
		if err := o.put(t.Context(), large, 0); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := o.put(ctx, text("y"), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("put into a full outbox: %v", err)
		}
		if err := o.flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("flush without a writer: %v", err)
		}
		for range outboxLimit / outboxRoom {
			if err := o.push(large, 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.push(large, 0); !errors.Is(err, kite.Unavailable) {
			t.Errorf("push beyond the limit: %v", err)
		}
		waiting := make(chan error)
		go func() { waiting <- o.put(t.Context(), text("z"), 0) }()
		synctest.Wait()
		o.close(io.EOF)
		if err := <-waiting; !errors.Is(err, io.EOF) {
			t.Errorf("put when the outbox closes: %v", err)
		}
		if err := o.flush(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("flush of what was never written: %v", err)
		}
	})
}

func TestFrameReader(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 3*readBuffer)
	var stream []byte
	for _, payload := range []string{"one", "", large, "two"} {
		stream = framing.AppendFrame(stream, uint32(len(payload)), protocol.CmdHeartbeat, []byte(payload))
	}
	for _, step := range []int{1, 7, readBuffer, len(stream)} {
		r := newFrameReader(&chunks{stream, step})
		for _, want := range []string{"one", "", large, "two"} {
			f, err := r.next()
			if err != nil || string(f.Payload) != want || f.Opaque != uint32(len(want)) {
				t.Fatalf("step %d: frame of %d bytes, %v, want %d", step, len(f.Payload), err, len(want))
			}
		}
		if _, err := r.next(); err != io.EOF {
			t.Errorf("step %d: at the end %v", step, err)
		}
		if len(r.buf) > readBuffer {
			t.Errorf("step %d: the large frame's buffer of %d bytes is kept", step, len(r.buf))
		}
	}
	bad := framing.AppendFrame(nil, 1, protocol.CmdHeartbeat, nil)
	bad[15] = 0xff // negative length
	if _, err := newFrameReader(&chunks{bad, 100}).next(); !errors.Is(err, kite.Invalid) {
		t.Errorf("negative length: %v", err)
	}
}

// FuzzFrameReader holds the reader against the decoder: however a stream is cut into reads, the frames
// are those of the whole, and so is the end.
func FuzzFrameReader(f *testing.F) {
	good := protocol.AppendHeartbeat(protocol.AppendStoreAck(nil, framing, 1, []byte("id"), true, "ok"), framing, 2, 3)
	f.Add(good, 1)
	f.Add(good[:len(good)-1], 7)
	f.Add(append(good, 0xff), 1000)
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		r := newFrameReader(&chunks{stream, min(max(step, 1), readBuffer)})
		for rest := stream; ; {
			want, size, bad := framing.Next(rest)
			got, err := r.next()
			switch {
			case bad != nil || size == 0:
				if err == nil {
					t.Fatalf("a frame of %d bytes where there is none", len(got.Payload))
				}
				return
			case err != nil || got.Opaque != want.Opaque || got.Command != want.Command || !bytes.Equal(got.Payload, want.Payload):
				t.Fatalf("got %+v, %v, want %+v", got, err, want)
			}
			rest = rest[size:]
		}
	})
}

// chunks gives data step bytes at a time.
type chunks struct {
	data []byte
	step int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.data[:min(c.step, len(c.data))])
	c.data = c.data[n:]
	return n, nil
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	b := backoff{min: 100 * time.Millisecond, max: time.Second}
	for i, most := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		most *= time.Millisecond
		if d := b.next(); d > most || d < most/2 {
			t.Errorf("pause %d is %s, want %s to %s", i, d, most/2, most)
		}
	}
	b.reset()
	if d := b.next(); d > 100*time.Millisecond {
		t.Errorf("after reset %s", d)
	}
}

// The size that is checked must never be less than what is sent.
func TestSizeIsAnUpperBound(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", kite.MaxName)
	for _, m := range []Message{
		{Topic: "t", Type: "x"},
		{Topic: long, Type: long, Body: make([]byte, 1<<20), Expires: time.Now().Add(time.Hour)},
		{Topic: "t", Type: "x", Properties: map[string]string{"": "", "a": long, long: strings.Repeat("v", 70_000)}},
	} {
		o, err := m.outgoing(long, true, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		f, _, err := framing.Next(o.appendTo(nil, 1))
		if err != nil || len(f.Payload) > m.size(long, len(m.Body)) {
			t.Errorf("payload of %d bytes, counted %d, %v", len(f.Payload), m.size(long, len(m.Body)), err)
		}
	}
}

// Addresses may carry a password, and errors end up in logs.
func TestAddressesHideThePassword(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"zk://me:s3cret@h:1/x":    "zk://me:***@h:1/x",
		"me:s3cret@h:1":           "me:***@h:1",
		"zk://me:s3c@ret@h:1,k:1": "zk://me:***@h:1,k:1",
		"h:1":                     "h:1",
		"zk://h:1/chroot":         "zk://h:1/chroot",
		"file:///etc/a@b":         "file:///etc/a@b",
	} {
		o := Options{ZKHost: addr}
		if got := o.source(); got != "registry "+want {
			t.Errorf("%s: shown as %s, want %s", addr, got, want)
		}
	}
}
