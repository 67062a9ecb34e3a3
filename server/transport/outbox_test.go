package transport

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/panjf2000/gnet/v2"

	"github.com/kiteq/kiteq/handler/session"
)

// loop is a connection whose event loop runs when the test says so. It notes each write.
type loop struct {
	gnet.Conn // nothing else is called
	context   any
	tasks     []func()
	writes    []string
	broken    error  // of every write
	failed    int    // writes
	during    func() // runs in the next write
}

func (l *loop) SetContext(c any)      { l.context = c }
func (l *loop) RemoteAddr() net.Addr  { return &net.TCPAddr{} }
func (l *loop) OutboundBuffered() int { return 0 }

func (l *loop) AsyncWrite(b []byte, done gnet.AsyncCallback) error {
	l.tasks = append(l.tasks, func() {
		_, err := l.Write(b)
		_ = done(l, err)
	})
	return nil
}

func (l *loop) Write(b []byte) (int, error) { return l.Writev([][]byte{b}) }

func (l *loop) Writev(vector [][]byte) (int, error) {
	if during := l.during; during != nil {
		l.during = nil
		during()
	}
	if l.broken != nil {
		l.failed++
		return 0, l.broken
	}
	var parts []string
	for _, b := range vector {
		parts = append(parts, string(b))
	}
	l.writes = append(l.writes, strings.Join(parts, " "))
	return 0, nil
}

func (l *loop) run() {
	tasks := l.tasks
	l.tasks = nil
	for _, task := range tasks {
		task()
	}
}

func open(t testing.TB) (*Transport, *conn, *loop) {
	t.Helper()
	tr, l := New(Options{}.WithDefaults(), newFake(), slog.New(slog.DiscardHandler)), &loop{}
	tr.OnOpen(l)
	return tr, l.context.(*conn), l
}

func text(s string) *session.Buffer { return &session.Buffer{B: []byte(s)} }

// TestOutbox writes what gathers behind a busy event loop in order, in one go, by one task.
func TestOutbox(t *testing.T) {
	t.Parallel()
	tr, c, l := open(t)
	for _, s := range []string{"a", "b", "c"} {
		c.Write(text(s))
	}
	if len(l.tasks) != 1 || c.unsent() != 3 {
		t.Fatalf("%d tasks, %d bytes unsent", len(l.tasks), c.unsent())
	}
	l.during = func() { c.Write(text("d")) }
	l.run()
	if want := []string{"a", "b c d"}; !slices.Equal(l.writes, want) || len(l.tasks) != 0 || c.unsent() != 0 {
		t.Errorf("written %q, want %q; %d tasks, %d bytes unsent", l.writes, want, len(l.tasks), c.unsent())
	}
	var want []string
	for n := range 2*vectorLength + 2 {
		want = append(want, strconv.Itoa(n))
		c.Write(text(want[n]))
	}
	l.writes = nil
	l.run()
	if len(l.writes) != 4 || strings.Join(l.writes, " ") != strings.Join(want, " ") {
		t.Errorf("%d writes: %q", len(l.writes), l.writes)
	}
	if s := tr.Stats(); s.Writes != 6 {
		t.Errorf("%d writes counted", s.Writes)
	}
}

// TestOutboxBroken writes nothing more after an error, and forgets no byte of its account.
func TestOutboxBroken(t *testing.T) {
	t.Parallel()
	for broken, want := range []string{"[]", "[a]"} {
		_, c, l := open(t)
		for range 2 * vectorLength {
			c.Write(text("a"))
		}
		if broken == 0 {
			l.broken = io.ErrClosedPipe
		} else {
			l.during = func() { l.during = func() { l.broken = errors.New("reset") } } // the second write
		}
		l.run()
		if fmt.Sprint(l.writes) != want || l.failed != 1 || c.unsent() != 0 {
			t.Errorf("written %q, want %s; %d tries failed, %d bytes unsent", l.writes, want, l.failed, c.unsent())
		}
		l.broken, l.writes = nil, nil
		c.Write(text("again"))
		if l.run(); !slices.Equal(l.writes, []string{"again"}) {
			t.Errorf("the outbox is stuck: %q", l.writes)
		}
	}
}

// BenchmarkWrite hands buffers to one connection, some at a time, as the shards and the lane do.
func BenchmarkWrite(b *testing.B) {
	for _, burst := range []int{1, 4} {
		b.Run("burst="+strconv.Itoa(burst), func(b *testing.B) {
			h := newFake()
			tr := start(b, Options{}, h)
			client := dial(b, tr)
			s := <-h.opened
			got := make([]byte, burst*256)
			b.ReportAllocs()
			for b.Loop() {
				for range burst {
					out := session.NewBuffer()
					out.B = append(out.B, got[:256]...)
					s.Conn.Write(out)
				}
				if _, err := io.ReadFull(client, got); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(tr.Stats().Writes)/float64(b.N), "writes/op")
		})
	}
}
