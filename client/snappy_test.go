package client_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/clienttest"
)

// goldenPlain is what the original client had compressed in the golden vectors 15 and 16.
var goldenPlain = strings.Repeat("kiteq-snappy-", 8)

// mustGolden returns the payload of a golden frame of framing G.
func mustGolden(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "internal", "protocol", "testdata", "golden", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	frame, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	const header = 19
	return frame[header:]
}

// subscribe sends every delivery into the returned channel and acknowledges it.
func subscribe(t *testing.T, c *client.Client) <-chan *client.Delivery {
	t.Helper()
	got := make(chan *client.Delivery, 16)
	_, err := c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, func(_ context.Context, d *client.Delivery) error {
		got <- d
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestGoldenSnappyIsDecompressed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		command uint8
	}{{"15_bytes_snappy", 0x11}, {"16_string_snappy", 0x12}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			payload := mustGolden(t, tt.name)
			plain, raw := subscribe(t, b.dial(nil)), subscribe(t, b.dial(func(o *client.Options) { o.Group, o.RawSnappy = "raw", true }))
			for _, group := range []string{"g", "raw"} {
				if err := b.broker.Frame(group, 1, tt.command, payload); err != nil {
					t.Fatal(err)
				}
				if ack := mustNext(t, &b.broker.Acks); !ack.OK {
					t.Errorf("%s: acked %+v", group, ack)
				}
			}
			if d := <-plain; string(d.Body) != goldenPlain || !d.Snappy || d.Text != (tt.command == 0x12) {
				t.Errorf("delivered %q, %+v", d.Body, d)
			}
			if d := <-raw; !d.Snappy || !bytes.Contains(payload, d.Body) || len(d.Body) >= len(goldenPlain) {
				t.Errorf("raw delivery %q, want the body as it came", d.Body)
			}
		})
	}
}

func TestDamagedSnappyIsRefused(t *testing.T) {
	t.Parallel()
	huge := binary.AppendUvarint(nil, client.MaxDecompressed+1)
	tests := []struct {
		name     string
		text     bool
		body     []byte
		feedback string
	}{
		{"empty", false, nil, "no snappy block"},
		{"no block", false, []byte("plain bytes"), "no snappy block"},
		{"endless length", false, bytes.Repeat([]byte{0xff}, 20), "no snappy block"},
		{"cut short", false, []byte("\x04\x0cbod"), "no snappy block"},
		{"copy from before the start", false, []byte("\x04\x0a\x63\x00"), "no snappy block"},
		{"too long", false, append(huge, make([]byte, 1<<20)...), "declares 16777217 bytes: at most 16777216"},
		{"longer than possible", false, append(binary.AppendUvarint(nil, 1<<24), 0), "more than a snappy block of 5 can hold"},
		{"no base64", true, []byte("BAxib2R5!"), "no base64"},
		{"base64 without padding", true, []byte("BAxib2R"), "no base64"},
		{"base64 of no block", true, []byte(base64.StdEncoding.EncodeToString([]byte("\x04\x0cbod"))), "no snappy block"},
	}
	b := setup(t)
	c := b.dial(nil)
	got := subscribe(t, c)
	compressed := true
	for _, tt := range tests {
		p := stored("trade", "x", "")
		p.Text, p.Body, p.Snappy = tt.text, tt.body, &compressed
		mustDeliver(t, b, p)
		if ack := mustNext(t, &b.broker.Acks); ack.OK || ack.ID != p.ID || !strings.Contains(ack.Feedback, tt.feedback) {
			t.Errorf("%s: acked %+v, want a nack that says %q", tt.name, ack, tt.feedback)
		}
	}
	if s := c.Stats(); s.Corrupt != int64(len(tests)) || s.Delivered != 0 || len(got) != 0 {
		t.Errorf("stats %+v, %d deliveries reached the handler", s, len(got))
	}
	mustDeliver(t, b, stored("trade", "x", "plain"))
	if d := <-got; string(d.Body) != "plain" || d.Snappy {
		t.Errorf("delivered %+v", d)
	}
}

func TestCompressedMessageArrives(t *testing.T) {
	t.Parallel()
	for _, text := range []bool{false, true} {
		for _, size := range []int{0, 1, 1000, client.MaxDecompressed} {
			b := setup(t)
			b.broker.Relay(b.registry)
			c := b.dial(nil)
			got := subscribe(t, c)
			m := message()
			m.Text, m.Compress, m.Body = text, true, bytes.Repeat([]byte("x"), size)
			if err := c.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if p := mustNext(t, &b.broker.Published); size > 100 && len(p.Body) > size/10 {
				t.Errorf("body of %d bytes sent as %d", size, len(p.Body))
			}
			if d := <-got; !bytes.Equal(d.Body, m.Body) || d.Text != text || !d.Snappy {
				t.Errorf("text %v: %d bytes arrived, want %d", text, len(d.Body), size)
			}
		}
	}
}

// The original client compressed the caller's message in place, and twice when it was sent again.
func TestPublishAgainSendsEqualBytes(t *testing.T) {
	t.Parallel()
	for _, text := range []bool{false, true} {
		b := setup(t)
		c := b.dial(func(o *client.Options) { o.AckTimeout = 30 * time.Millisecond })
		m := message()
		m.ID, m.Text, m.Compress, m.Created = client.NewID(), text, true, time.Unix(1_700_000_000, 0)
		m.Body = []byte(goldenPlain)
		before := *m
		var first clienttest.Published
		for i, answer := range []clienttest.Answer{clienttest.Refuse("Expired Message!"), clienttest.Accept(), clienttest.Accept()} {
			b.broker.OnPublish(func(clienttest.Published) clienttest.Answer { return answer })
			if err := c.Publish(t.Context(), m); (err == nil) != (i > 0) {
				t.Fatalf("publish %d: %v", i, err)
			}
			p := mustNext(t, &b.broker.Published)
			for b.broker.Published.Len() > 0 { // a slow machine repeats
				p = mustNext(t, &b.broker.Published)
			}
			if i == 0 {
				first = p
			}
			if !bytes.Equal(p.Payload(), first.Payload()) {
				t.Errorf("publish %d sent %x, the first one %x", i, p.Payload(), first.Payload())
			}
		}
		if m.ID != before.ID || string(m.Body) != goldenPlain || !m.Compress || first.CreateTime != 1_700_000_000 {
			t.Errorf("the message became %+v", m)
		}
	}
}

func TestTooLongToCompress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := message()
	m.Compress, m.Body = true, make([]byte, client.MaxDecompressed+1)
	if err := b.dial(nil).Publish(t.Context(), m); client.CodeOf(err) != client.TooLarge {
		t.Errorf("got %v, want TooLarge", err)
	}
}
