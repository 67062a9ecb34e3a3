package transport

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/protocol"
)

// BenchmarkVector sends a turn's deliveries from a mapped file: bodies copied into the connection's buffer,
// as the courier does, or left in the mapping and named in a vector. cpu-us is what the process used for a
// delivery, the reading client's share included (doc/adr/0019-one-copy.md).
func BenchmarkVector(b *testing.B) {
	for _, size := range []int{256, 4 << 10, 16 << 10, 64 << 10, 1 << 20} {
		turn := min(32, (2<<20)/size) // deliveries: the credit of a connection, and below outbound_bytes
		mapped := mapFile(b, size*turn)
		bodies := make([][]byte, turn)
		for i := range bodies {
			bodies[i] = mapped[i*size : (i+1)*size]
		}
		for name, send := range map[string]func(*conn, [][]byte) error{"copy": copied, "vector": vectored} {
			b.Run("size="+strconv.Itoa(size)+"/"+name, func(b *testing.B) { benchVector(b, bodies, send) })
		}
	}
}

func benchVector(b *testing.B, bodies [][]byte, send func(*conn, [][]byte) error) {
	h := newFake()
	tr := start(b, Options{}, h)
	client := dial(b, tr)
	c := (<-h.opened).Conn.(*conn)
	got := make([]byte, 256<<10)
	total := len(bodies) * (19 + len(bodies[0]))
	b.SetBytes(int64(total))
	b.ReportAllocs()
	before := cpu()
	for b.Loop() {
		if err := send(c, bodies); err != nil {
			b.Fatal(err)
		}
		for n := 0; n < total; {
			k, err := client.Read(got[:min(len(got), total-n)])
			if err != nil && err != io.EOF {
				b.Fatal(err)
			}
			n += k
		}
	}
	b.ReportMetric(float64(cpu()-before)/1e3/float64(b.N*len(bodies)), "cpu-us/delivery")
}

// copied is the courier's way: buffers of at most 256 KiB.
func copied(c *conn, bodies [][]byte) error {
	out := session.NewBuffer()
	for i, body := range bodies {
		if len(out.B) > 0 && len(out.B)+len(body) > 256<<10 {
			c.Write(out)
			out = session.NewBuffer()
		}
		out.B = protocol.FramingG.AppendFrame(out.B, uint32(i), protocol.CmdBytesMessage, body)
	}
	c.Write(out)
	return nil
}

// vectored leaves the bodies where they are. Nobody counts references here: it would cost more.
func vectored(c *conn, bodies [][]byte) error {
	heads := session.NewBuffer()
	vector := make([][]byte, 0, 2*len(bodies))
	for i, body := range bodies {
		mark := len(heads.B)
		heads.B, _ = protocol.FramingG.Begin(heads.B, uint32(i), protocol.CmdBytesMessage)
		vector = append(vector, heads.B[mark:], body)
	}
	return c.conn.AsyncWritev(vector, func(gnet.Conn, error) error {
		heads.Recycle()
		return nil
	})
}

func cpu() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

func mapFile(b *testing.B, size int) []byte {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "segment"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, size)); err != nil {
		b.Fatal(err)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = unix.Munmap(mapped) })
	return mapped
}
