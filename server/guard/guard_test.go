package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// gate notes what the guard does to the door.
type gate struct{ told []string }

func (g *gate) Hold(cause Cause, text string) { g.told = append(g.told, string(cause)+": "+text) }
func (g *gate) Open()                         { g.told = append(g.told, "open") }

// world is what the guard sees.
type world struct {
	free, memory atomic.Int64
	err          error
}

const mib = 1 << 20

func watched(w *world, door Door) *Guard {
	g := New(Options{DiskLow: 100 * mib, MemoryHigh: 1000 * mib}, func() (Space, error) { return Space{w.free.Load(), 10_000 * mib}, w.err }, door, slog.New(slog.DiscardHandler))
	g.memory = func() int64 { return w.memory.Load() }
	return g
}

// TestGuard closes and opens the door at different marks, and prefers the disk.
func TestGuard(t *testing.T) {
	t.Parallel()
	w, door := &world{}, &gate{}
	w.free.Store(200 * mib)
	g := watched(w, door)
	for _, step := range []struct {
		free, memory int64
		err          error
		want         string // of this step
	}{
		{200, 900, nil, ""},
		{100, 1000, nil, ""},
		{99, 1000, nil, "disk: disk low: 99 MiB free, 100 MiB are kept"},
		{124, 0, nil, ""}, // not a quarter more yet
		{125, 0, nil, "open"},
		{125, 1001, nil, "memory: memory high: 1001 MiB of 1000 MiB"},
		{125, 901, nil, ""},
		{99, 901, nil, "disk: disk low: 99 MiB free, 100 MiB are kept"},
		{200, 1001, nil, "memory: memory high: 1001 MiB of 1000 MiB"},
		{200, 900, nil, "open"},
		{0, 0, errors.New("no such file system"), ""},
	} {
		w.free.Store(step.free * mib)
		w.memory.Store(step.memory * mib)
		w.err, door.told = step.err, nil
		g.look()
		if got := strings.Join(door.told, "; "); got != step.want {
			t.Errorf("%d free, %d memory: %q, want %q", step.free, step.memory, got, step.want)
		}
	}
	g.Tune(Options{DiskLow: 8000 * mib, MemoryHigh: 100 * mib}) // a twentieth is 500
	w.free.Store(501 * mib)
	w.memory.Store(0)
	w.err, door.told = nil, nil
	if g.look(); len(door.told) != 0 || g.Newest().DiskLow != 500*mib {
		t.Errorf("%q, %+v", door.told, g.Newest())
	}
	w.memory.Store(101 * mib)
	if g.look(); len(door.told) != 1 {
		t.Errorf("%q", door.told)
	}
}

// TestGuardRuns looks again and again, until it is stopped.
func TestGuardRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, door := &world{}, &gate{}
		w.free.Store(200 * mib)
		g := watched(w, door)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()
		synctest.Wait()
		w.free.Store(1)
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		w.free.Store(200 * mib)
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil || fmt.Sprint(len(door.told)) != "2" {
			t.Errorf("%v, %q", err, door.told)
		}
	})
}

// TestMemory: what is asked of the system is plausible.
func TestMemory(t *testing.T) {
	t.Parallel()
	before := held()
	some := make([]byte, 64*mib)
	for i := range some {
		some[i] = 1
	}
	if after := held(); before <= 0 || after < before+32*mib {
		t.Errorf("%d before, %d with 64 MiB more", before, after)
	}
	if some[len(some)-1] != 1 || available("/") < 0 {
		t.Error("the machine has less than nothing")
	}
}

// TestAvailable takes the least of the machine and of the control groups, those above it, too.
func TestAvailable(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"nothing":     {nil, 0},
		"a machine":   {map[string]string{"proc/meminfo": "MemFree: 7 kB\nMemTotal:  2048 kB\n"}, 2 * mib},
		"unlimited":   {map[string]string{"proc/meminfo": "MemTotal: 2048 kB\n", "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, 2 * mib},
		"a service":   {map[string]string{"proc/meminfo": "MemTotal: 2048 kB\n", "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "1048576\n"}, mib},
		"its slice":   {map[string]string{"proc/meminfo": "MemTotal: 2048 kB\n", "proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "1048576\n", "sys/fs/cgroup/a/b/memory.max": "1572864\n"}, mib},
		"a container": {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1048576\n"}, mib},
		"version 1":   {map[string]string{"proc/meminfo": "MemTotal: 2048 kB\n", "proc/self/cgroup": "9:cpu:/x\n4:memory:/x\n0::/\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "1048576\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, mib},
	} {
		root := t.TempDir()
		for path, text := range test.files {
			path = filepath.Join(root, path)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if got := available(root); got != test.want {
			t.Errorf("%s: %d bytes, want %d", name, got, test.want)
		}
	}
}
