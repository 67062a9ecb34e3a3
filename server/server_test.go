package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/internal/kite"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, // gnet's worker pool is package-wide and never ends
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"))
}

// testConfig is a broker that keeps everything in memory, on ports that the system chooses.
func testConfig() conf.Config {
	c := conf.Default()
	c.Bind, c.Network.Addr = "127.0.0.1:0", "127.0.0.1:0"
	c.ZKHost, c.Store = "embedded://127.0.0.1:0?data=", "memory://"
	c.Topics = []string{"trade"}
	c.DrainTimeout = 100 * time.Millisecond
	return c
}

// start runs a broker until the test ends, and returns it when clients can find it.
func start(t testing.TB, c conf.Config, control Control) (*Server, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	s, err := New(c, control, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the broker ended: %v", err)
		}
		if t.Failed() {
			t.Logf("log of the broker:\n%s", log)
		}
	})
	select {
	case <-s.Started():
	case err := <-ended:
		ended <- err
		t.Fatalf("the broker did not start: %v", err)
	}
	return s, log
}

// logBuffer is a log that tests look into.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// eventually waits until what returns "", or fails with what it returned last.
func eventually(t testing.TB, within time.Duration, what func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		problem := what()
		if problem == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after %v: %s", within, problem)
		case <-tick.C:
		}
	}
}

// TestNotes: what a file of the original sets to no effect is in the log.
func TestNotes(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.Notes = []string{"recoverSeconds=10 means nothing here"}
	_, log := start(t, c, Control{})
	if !strings.Contains(log.String(), `level=INFO msg=configuration note="recoverSeconds=10 means nothing here"`) {
		t.Errorf("the note is not in the log:\n%s", log)
	}
}

// TestSyncOfMemory ends the start: what is in memory cannot be synced.
func TestSyncOfMemory(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.Sync = map[string]string{"trade": "always"}
	if _, err := New(c, Control{}, (&logBuffer{}).logger()); !errors.Is(err, kite.Invalid) || !strings.Contains(err.Error(), "sync of topic trade: the memory store cannot") {
		t.Errorf("%v", err)
	}
}

func TestHeapDump(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.LogPath = t.TempDir()
	signals := make(chan os.Signal)
	_, log := start(t, c, Control{DumpHeap: signals})
	from := time.Now().Unix()
	signals <- syscall.SIGUSR1
	eventually(t, 10*time.Second, func() string {
		if !strings.Contains(log.String(), "heap dumped") {
			return "the dump is not in the log"
		}
		return ""
	})
	files, err := filepath.Glob(filepath.Join(c.LogPath, "heapdump-kiteq-*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files %q, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil || !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		t.Errorf("%s does not begin as a profile does: %x, %v", files[0], data[:min(len(data), 8)], err)
	}
	var unix int64
	if _, err := fmt.Sscanf(filepath.Base(files[0]), "heapdump-kiteq-%d", &unix); err != nil || unix < from || unix > time.Now().Unix() {
		t.Errorf("%s is not named by its time: %v", files[0], err)
	}
	if !strings.Contains(log.String(), files[0]) {
		t.Errorf("the log does not name %s:\n%s", files[0], log)
	}
}

// TestHeapDumpFails: a directory that is gone is no reason to end.
func TestHeapDumpFails(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.LogPath = filepath.Join(t.TempDir(), "gone")
	signals := make(chan os.Signal)
	_, log := start(t, c, Control{DumpHeap: signals})
	signals <- syscall.SIGUSR1
	signals <- syscall.SIGUSR1 // taken when the first is done
	if !strings.Contains(log.String(), "heap not dumped") || !strings.Contains(log.String(), "gone") {
		t.Errorf("the problem is not in the log:\n%s", log)
	}
}

// TestDrainTells: a stopping broker says who is still there, and when the last one has left.
func TestDrainTells(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.DrainTimeout = time.Minute
	log := &logBuffer{}
	s, err := New(c, Control{}, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-s.Started()
	p := connect(t, s, "p-test")
	cancel()
	eventually(t, 20*time.Second, func() string {
		if !strings.Contains(log.String(), `msg="clients are served until they leave" connections=1 in_flight=0 waiting=0 at_most=`) {
			return log.String()
		}
		return ""
	})
	if answers := p.publish("trade", 1); !strings.HasPrefix(answers[0], "true") {
		t.Errorf("while it drains: %q", answers)
	}
	p.conn.Close()
	if err := <-ended; err != nil || !strings.Contains(log.String(), `msg="every client has left"`) {
		t.Errorf("%v, log:\n%s", err, log)
	}
}
