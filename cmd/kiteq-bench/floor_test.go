package main

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/protocol"
)

// needProc skips a test of what only Linux tells about a process.
func needProc(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the figures of a process come from /proc, which only Linux has")
	}
}

// startTestFloor runs a floor until the test, or an earlier stop, ends it, and returns its address.
func startTestFloor(t *testing.T, dir, class string) (addr string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	listening, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		if err := serveFloor(ctx, "127.0.0.1:0", dir, class, func(a net.Addr) { listening <- a.String() }); err != nil {
			t.Errorf("the floor ended: %v", err)
		}
	}()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	select {
	case addr = <-listening:
	case <-ended:
		t.Fatal("the floor does not listen")
	}
	return addr, stop
}

// TestFloor: each publish is answered in the class, once it is in the file.
func TestFloor(t *testing.T) {
	t.Parallel()
	for _, class := range []string{classSynced, classWritten} {
		t.Run(class, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			addr, stop := startTestFloor(t, dir, class)
			o, err := parseOptions(strings.Fields("-mode publish -conns 3 -window 16 -n 300 -size 64 -broker "+addr), t.Output())
			if err != nil {
				t.Fatal(err)
			}
			r, err := newBench(o).run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.Class != class || r.Publish.Messages != 300 || r.Refused+r.Unanswered != 0 {
				t.Errorf("%v", r)
			}
			if ids := mustIDs(t, dir); len(ids) != 301 { // the probe is one
				t.Errorf("%d distinct messages in the file, want 301", len(ids))
			}
			stop()
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
				t.Errorf("the floor leaves %v", left)
			}
		})
	}
}

// mustIDs reads the floor's file in dir: the message ids.
func mustIDs(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "floor-*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files of the floor: %v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for len(b) > 0 {
		size := binary.LittleEndian.Uint64(b)
		var m protocol.MessageView
		if err := m.Decode(b[8 : 8+size]); err != nil || len(m.Body) != 64 {
			t.Fatalf("a record of the floor: %v, body %d bytes", err, len(m.Body))
		}
		ids[string(m.Header.MessageID)] = true
		b = b[8+size:]
	}
	return ids
}

func FuzzFirstID(f *testing.F) {
	h := protocol.Header{MessageID: "0123", Topic: "t", Commit: true}
	frame := protocol.AppendMessage(nil, protocol.FramingG, 1, protocol.CmdBytesMessage, &h, []byte("body"))
	one, _, err := protocol.FramingG.Next(frame)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(one.Payload)
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	if id, err := firstID(one.Payload); err != nil || string(id) != "0123" {
		f.Fatalf("%q, %v", id, err)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if id, err := firstID(payload); err == nil && len(id) > len(payload) {
			t.Errorf("%d bytes of %d", len(id), len(payload))
		}
	})
}

// TestCost: what -pid names is measured.
func TestCost(t *testing.T) {
	t.Parallel()
	needProc(t)
	before, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{pid: os.Getpid(), before: before, peak: 1 << 50, end: func() {}}
	m.before.cpu -= 3 * time.Second
	m.before.written -= 6000
	c, err := m.cost(1000, 4000)
	if err != nil {
		t.Fatal(err)
	}
	if c.CPU < 3 || c.CPUPerMessage < 3000 || c.Written < 6000 || c.WrittenPerByte < 1.5 || c.Anon <= 0 || c.AnonPeak != 1<<50 {
		t.Errorf("%+v", c)
	}
	if _, err := usageOf(1 << 30); err == nil {
		t.Error("a process that is not there has figures")
	}
}

// testFloors are contenders that are floors in the process of the test.
func testFloors(t *testing.T, class string) []contender {
	start := func(_ context.Context, o options) (*instance, error) {
		addr, stop := startTestFloor(t, o.dir, class)
		return &instance{addr, os.Getpid(), func() error { stop(); return nil }}, nil
	}
	return []contender{{"floor", start}, {"other", start}}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	needProc(t)
	dir := t.TempDir()
	o, err := parseOptions([]string{"-mode", modeCompare, "-rounds", "3", "-n", "200", "-dir", dir, "-class", classWritten, "-commit", "abc"}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	c := comparison{o: o, contenders: testFloors(t, classWritten)}
	if err := c.run(t.Context(), shapes[:2]); err != nil {
		t.Fatal(err)
	}
	if len(c.samples) != 2*2*3 {
		t.Fatalf("%d runs", len(c.samples))
	}
	for i, s := range c.samples {
		s.Result.Publish.PerSecond = float64(100 * (i + 1)) // rounds alternate: the floor has 1, 3, 5, the other 2, 4, 6
		if s.Result.Publish.Messages != 200 || s.Result.Broker == nil || s.Result.Broker.Received < 200*256 {
			t.Errorf("run %d: %v", i, s.Result)
		}
	}
	table := c.String()
	for _, want := range []string{"commit abc, class written", "| 1 at a time | floor | 300 |", "| 1 at a time | other | 400 |", "| 133 % |\n", "| 128 on 4 connections | other | 1000 |"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// TestCompareClass: sides of different classes are not compared.
func TestCompareClass(t *testing.T) {
	t.Parallel()
	needProc(t)
	o, err := parseOptions([]string{"-mode", modeCompare, "-n", "10", "-dir", t.TempDir()}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	c := comparison{o: o, contenders: testFloors(t, classWritten)}
	if err := c.run(t.Context(), shapes[:1]); err == nil || !strings.Contains(err.Error(), `class "written", not "synced"`) {
		t.Errorf("%v", err)
	}
}

// TestStartFails: a program that does not become a broker is an error with its own words, not a wait.
func TestStartFails(t *testing.T) {
	t.Parallel()
	o := options{kiteq: "/bin/false", dir: t.TempDir(), class: classSynced, topic: "bench", patience: 200 * time.Millisecond}
	if _, err := startKiteQ(t.Context(), o); err == nil || !strings.Contains(err.Error(), "not ready") {
		t.Errorf("%v", err)
	}
}
