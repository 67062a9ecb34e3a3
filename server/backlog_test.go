package server

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io/fs"
	"log/slog"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	libzk "github.com/go-zookeeper/zk"

	"github.com/kiteq/kiteq/handler/sequence"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/zktest"
)

// What a backlog may cost. The bounds hold for the whole process, the test itself included.
const (
	million         = 1_000_000
	backlogMessages = 10 * million
	backlogBound    = kite.ByteSize(200 << 20)
	backlogGrowth   = kite.ByteSize(32 << 20) // from the first million on
)

// TestBacklogCostsNoMemory stores ten million messages while a durable group stays away, and looks at what
// the broker holds in memory then, and at a journal of that size: how long it takes to open after a stop and
// after a kill is printed.
func TestBacklogCostsNoMemory(t *testing.T) {
	if raceDetector {
		t.Skip("ten million messages take too long under the race detector: ./build.sh test runs this test without it, too")
	}
	if testing.Short() {
		t.Skip("-short: stores ten million messages, 0.9 GB")
	}
	dir := t.TempDir()
	killed := t.TempDir()
	t.Run("fill", func(t *testing.T) { // ends with the broker stopped
		c := testConfig()
		c.Store = backlogStore(dir)
		s, _ := start(t, c, Control{})
		bindBehind(t, s)
		fill := newFiller(s.lane)
		watch := startWatch(t)
		fill.upTo(t, million)
		first := residentMemory(t)
		fill.upTo(t, backlogMessages)
		eventually(t, 30*time.Second, func() string { // a sealed segment may still be worked on
			all := residentMemory(t)
			return all.over(backlogBound, resident{}) + all.over(backlogGrowth, first)
		})
		t.Logf("%d messages stored: %v; memory after a million %v, after all %v", backlogMessages, watch.split(), first, residentMemory(t))
		if _, next := s.journal.Bounds("trade"); next != backlogMessages+1 {
			t.Errorf("%d messages are in the journal, want %d", next-1, backlogMessages)
		}
		imageOfKill(t, dir, killed)
	})
	for _, life := range []struct{ end, dir string }{{"a stop", dir}, {"a kill", killed}} {
		t.Run("open after "+life.end, func(t *testing.T) { openBacklog(t, life.dir) })
	}
}

// backlogStore is a journal whose first segment is full before a million: what an open segment costs in memory,
// by its messages, is there from then on.
func backlogStore(dir string) string { return "mmap://" + dir + "?sync=os&segment=64MiB" }

// bindBehind binds a durable group, of which nobody ever connects, to all messages.
func bindBehind(t *testing.T, s *Server) {
	t.Helper()
	c := zktest.Raw(t, s.RegistryAddr())
	binding := `[{"groupId":"s-behind","topic":"trade","messageType":"*","bindType":2,"version":"1.0.0","watermark":1000,"persistent":true}]`
	if _, err := c.Create("/kiteq/sub/trade/s-behind-bind", []byte(binding), 0, libzk.WorldACL(libzk.PermAll)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() string {
		if s.exchange.Route("trade", "s-behind") == nil {
			return "the binding is not read"
		}
		return ""
	})
}

// filler publishes as the handler does, without the network. Its batches go round.
type filler struct {
	lane *sequence.Lane
	free chan *kite.Batch
	sent int
}

const (
	fillBatches = 16
	fillItems   = 1000
)

func newFiller(lane *sequence.Lane) *filler {
	f := &filler{lane: lane, free: make(chan *kite.Batch, fillBatches)}
	for range fillBatches {
		b := &kite.Batch{Items: make([]kite.Item, fillItems), Arena: make([]byte, 8*fillItems)}
		b.Release = func(b *kite.Batch) { f.free <- b }
		f.free <- b
	}
	return f
}

// upTo publishes until so many messages are stored.
func (f *filler) upTo(t testing.TB, messages int) {
	t.Helper()
	one, expiresMs := []byte("x"), time.Now().Add(time.Hour).UnixMilli()
	for ; f.sent < messages; f.sent += fillItems {
		b := <-f.free
		f.verify(t, b)
		for i := range b.Items {
			n := uint64(f.sent + i)
			body := binary.BigEndian.AppendUint64(b.Arena[8*i:8*i:8*i+8], n)
			b.Items[i] = kite.Item{Record: kite.Record{
				Kind: kite.KindMessage, Command: 0x12, Limit: 100, ID: spread(n), ExpiresMs: expiresMs,
				Topic: "trade", Type: one, Group: one, Body: body,
			}}
		}
		if err := f.lane.Submit(b); err != nil {
			t.Fatal(err)
		}
	}
	for range fillBatches { // all back: all stored
		b := <-f.free
		f.verify(t, b)
		defer func() { f.free <- b }()
	}
}

func (f *filler) verify(t testing.TB, b *kite.Batch) {
	t.Helper()
	for i := range b.Items {
		if b.Items[i].Verdict != kite.OK || b.Items[i].Repeat {
			t.Fatalf("message %d: %v, repeat %v", b.Items[i].Seq, b.Items[i].Verdict, b.Items[i].Repeat)
		}
	}
}

// spread gives the n-th id, all of them different and none near the last.
func spread(n uint64) (id kite.MessageID) {
	binary.BigEndian.PutUint64(id[:], bits.Reverse64(n*0x9e3779b97f4a7c15))
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

// resident is what the process holds: objects in Go's heap, and memory that belongs to no file.
type resident struct{ heap, anonymous kite.ByteSize }

func (r resident) String() string {
	return fmt.Sprintf("%d MiB heap, %d MiB anonymous", r.heap>>20, r.anonymous>>20)
}

// over says what of both is more than a bound, above what it was before. "" is nothing.
func (r resident) over(bound kite.ByteSize, before resident) string {
	if r.heap-before.heap <= bound && r.anonymous-before.anonymous <= bound {
		return ""
	}
	return fmt.Sprintf("memory %v; at most %d MiB are allowed over %v", r, bound>>20, before)
}

// residentMemory collects garbage and gives it back before it looks.
func residentMemory(t testing.TB) (r resident) {
	t.Helper()
	debug.FreeOSMemory()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	r.heap = kite.ByteSize(stats.HeapInuse)
	status, err := os.Open("/proc/self/status")
	if err != nil {
		t.Logf("anonymous memory is not looked at: %v", err) // not Linux
		return r
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "RssAnon:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(text), " kB"))
			if err != nil {
				t.Fatalf("RssAnon %q: %v", text, err)
			}
			r.anonymous = kite.ByteSize(kib) << 10
		}
	}
	return r
}

// imageOfKill makes another directory what a kill would leave of the journal. All files but the newest segment
// are complete: they are shared.
func imageOfKill(t *testing.T, from, to string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(from, "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments of %s: %v, %v", from, segments, err)
	}
	newest := filepath.Base(slices.Max(segments))
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "LOCK" {
			return err
		}
		if d.Name() != newest {
			return os.Link(path, filepath.Join(to, d.Name()))
		}
		bytes, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, newest), bytes, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// openBacklog opens the journal as a starting broker does, which costs what a small one does, but for what
// came after the last checkpoint.
func openBacklog(t *testing.T, dir string) {
	before := residentMemory(t)
	watch := startWatch(t)
	journal, _, err := openStore(backlogStore(dir), "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	opened := watch.split()
	defer func() {
		if err := journal.Close(); err != nil {
			t.Error(err)
		}
	}()
	lane, err := sequence.Open(sequence.Options{}.WithDefaults(), journal, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	replayed := watch.split()
	after := residentMemory(t)
	t.Logf("opened: %v, replayed: %v; memory before %v, after %v", opened, replayed, before, after)
	if why := after.over(backlogBound, resident{}); why != "" {
		t.Error(why)
	}
	if head := lane.Recovered().Heads["trade"]; head != backlogMessages {
		t.Errorf("the newest message is %d, want %d", head, backlogMessages)
	}
}

// watch measures the time that passes, and that of the processors, which other work on the machine changes less.
type watch struct {
	t    testing.TB
	wall time.Time
	cpu  time.Duration
}

func startWatch(t testing.TB) *watch {
	t.Helper()
	return &watch{t: t, wall: time.Now(), cpu: processorTime(t)}
}

// split says what passed since the start or the last split.
func (w *watch) split() string {
	w.t.Helper()
	wall, cpu := time.Now(), processorTime(w.t)
	text := fmt.Sprintf("%v, %v of a processor", wall.Sub(w.wall).Round(time.Millisecond), (cpu - w.cpu).Round(time.Millisecond))
	w.wall, w.cpu = wall, cpu
	return text
}

func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
