package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// broker is a kiteq process that a test can kill and start again on the same address and directory.
type broker struct {
	t     *testing.T
	dir   string
	args  []string
	addr  string
	admin string

	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended and all it wrote is in log
	log    *syncBuffer
}

// config shortens the waits that tests would sit through.
const config = `
drain_timeout = "1s"
[transaction]
first_check = "2s"
longest_pause = "4s"
`

// newBroker prepares a broker of its own directory and ports; Start runs it.
func newBroker(t *testing.T, zkhost string, topics string, more ...string) *broker {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "kiteq.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &broker{t: t, dir: dir, addr: freeAddr(t), admin: freeAddr(t)}
	_, adminPort, _ := net.SplitHostPort(b.admin)
	b.args = append([]string{
		"-bind=" + b.addr, "-pport=" + adminPort, "-zkhost=" + zkhost, "-topics=" + topics,
		"-db=mmap://" + filepath.Join(dir, "journal") + "?segment=16MiB", "-configPath=" + file,
	}, more...)
	t.Cleanup(func() {
		if b.cmd != nil {
			b.Kill()
		}
		if strings.Contains(b.log.String(), "DATA RACE") {
			t.Error("the broker reports a data race")
		}
		if t.Failed() {
			t.Logf("log of the broker at %s:\n%s", b.addr, b.log.tail(60))
		}
	})
	return b
}

// Start runs the process and waits until it is ready.
func (b *broker) Start() {
	b.t.Helper()
	b.launch()
	deadline := time.Now().Add(40 * time.Second)
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		select {
		case <-b.exited:
			b.t.Fatalf("the broker ended at its start: %v\n%s", b.cmd.ProcessState, b.log.tail(20))
		case <-tick.C:
		}
		response, err := client.Get("http://" + b.admin + "/readyz")
		if err != nil {
			continue
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return
		}
	}
	b.t.Fatalf("the broker is not ready\n%s", b.log.tail(20))
}

func (b *broker) launch() {
	b.t.Helper()
	b.cmd = exec.Command(filepath.Join(binaries, "kiteq"), b.args...)
	b.cmd.Dir = b.dir
	if b.log == nil {
		b.log = &syncBuffer{}
	}
	b.cmd.Stderr, b.cmd.Stdout = b.log, b.log
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func(cmd *exec.Cmd) {
		defer close(exited)
		_ = cmd.Wait() // what it returns is in ProcessState
	}(b.cmd)
	b.exited = exited
}

// Kill ends the process as a power cut would.
func (b *broker) Kill() {
	_ = b.cmd.Process.Kill()
	<-b.exited
	b.cmd = nil
}

// Stop asks the process to end and returns its exit code.
func (b *broker) Stop(signal os.Signal) int {
	b.t.Helper()
	_ = b.cmd.Process.Signal(signal)
	select {
	case <-b.exited:
	case <-time.After(30 * time.Second):
		b.t.Fatalf("the broker does not stop\n%s", b.log.tail(20))
	}
	code := b.cmd.ProcessState.ExitCode()
	b.cmd = nil
	return code
}

// given are the ports that freeAddr has returned: a broker that is killed gets its own again.
var given sync.Map //nolint:gochecknoglobals // a port is the whole process's

// freeAddr returns a loopback address that nobody listens on, each once. It is below the ports that the
// kernel gives to connections: none of these takes it before the broker does, or while it is away.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))
		if _, taken := given.LoadOrStore(addr, true); taken {
			continue
		}
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			continue
		}
		l.Close()
		return addr
	}
	t.Fatal("no port is free")
	return ""
}

// syncBuffer is a bytes.Buffer that a process may write while a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *syncBuffer) tail(n int) string {
	lines := strings.Split(strings.TrimSpace(s.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// embeddedURL is a -zkhost that serves the registry at addr from dir.
func embeddedURL(addr, dir string) string {
	return fmt.Sprintf("embedded://%s?data=%s", addr, dir)
}

// patient is a context for what takes a moment: a test that waits for ever says nothing.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until ok returns "", which it does with what is still missing.
func eventually(t *testing.T, patience time.Duration, ok func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		missing := ok()
		if missing == "" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("after %v: %s", patience, missing)
		}
	}
}

// TestKillOfTheDead: a broker that did not start is killed at the end of its test all the same.
func TestKillOfTheDead(t *testing.T) {
	t.Parallel()
	b := newBroker(t, freeAddr(t), "no/topic")
	b.launch()
	<-b.exited
	if b.Kill(); !strings.Contains(b.log.String(), "no/topic") {
		t.Errorf("log:\n%s", b.log.String())
	}
}
