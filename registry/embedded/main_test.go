package embedded

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/goleak"
)

// dirVariable makes the test binary a server on that directory, which tests kill.
const dirVariable = "KITEQ_TEST_EMBEDDED_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirVariable); dir != "" {
		serveForKill(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func serveForKill(dir string) {
	s, err := Listen(Options{Addr: "127.0.0.1:0", Dir: dir, MaxSessionTimeout: time.Minute}, nil)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println(s.Addr())
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // the test has gone: so do we
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	s.Run(ctx)
}

// startKillable runs a server in a process of its own.
func startKillable(t *testing.T, dir string) (addr string, kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), dirVariable+"="+dir)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	addr = strings.TrimSpace(line)
	if strings.HasPrefix(addr, "error") {
		t.Fatal(addr)
	}
	return addr, func() {
		t.Helper()
		must(t, cmd.Process.Kill())
		cmd.Wait()
		in.Close()
	}
}

// running is a server under test.
type running struct {
	*Server
	stop func() // ends Run and waits; twice is harmless
}

// start runs a server until the test ends. Its timeouts are short: expiry within tests.
func start(t testing.TB, o Options) running {
	t.Helper()
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.MinSessionTimeout == 0 {
		o.MinSessionTimeout = 50 * time.Millisecond
	}
	s, err := Listen(o, slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})))
	must(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	r := running{s, func() {
		t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		must(t, <-done)
	}}
	t.Cleanup(r.stop)
	return r
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(b)))
	return len(b), nil
}

type quietLogger struct{}

func (quietLogger) Printf(string, ...any) {}

const generous = 10 * time.Second

// dial connects a go-zookeeper client and waits for its session.
func dial(t testing.TB, addr string, timeout time.Duration) *zk.Conn {
	t.Helper()
	c, _ := dialEvents(t, addr, timeout)
	return c
}

// dialEvents gives the client's session events too.
func dialEvents(t testing.TB, addr string, timeout time.Duration) (*zk.Conn, <-chan zk.Event) {
	t.Helper()
	events := make(chan zk.Event, 1000)
	c, _, err := zk.Connect([]string{addr}, timeout, zk.WithLogger(quietLogger{}), zk.WithLogInfo(false),
		zk.WithEventCallback(func(e zk.Event) { events <- e }))
	must(t, err)
	t.Cleanup(c.Close)
	awaitState(t, events, zk.StateHasSession)
	return c, events
}

func awaitState(t testing.TB, events <-chan zk.Event, want zk.State) {
	t.Helper()
	deadline := time.After(generous)
	for {
		select {
		case e := <-events:
			if e.Type == zk.EventSession && e.State == want {
				return
			}
		case <-deadline:
			t.Fatalf("state %v did not come", want)
		}
	}
}

// awaitEvent waits for a watch to fire.
func awaitEvent(t testing.TB, events <-chan zk.Event, want zk.EventType, path string) {
	t.Helper()
	select {
	case e := <-events:
		if e.Type != want || e.Path != path {
			t.Fatalf("event %v on %q, want %v on %q", e.Type, e.Path, want, path)
		}
	case <-time.After(generous):
		t.Fatalf("event %v on %q did not come", want, path)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustCreate(t testing.TB, c *zk.Conn, path, data string, flags int32) string {
	t.Helper()
	made, err := c.Create(path, []byte(data), flags, zk.WorldACL(zk.PermAll))
	if err != nil {
		t.Fatalf("create %s: %v", path, err)
	}
	return made
}

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
