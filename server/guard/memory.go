package guard

import (
	"iter"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// held is what the Go runtime has of the system's memory, bytes. Mapped files are not among it: the system takes
// those pages back when it needs them.
func held() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}

// available is how much memory the process may have, bytes: the least that its control groups allow and the machine
// has; 0: not known. root is "/", but for tests.
func available(root string) (bytes int64) {
	least := func(n int64) {
		if n > 0 && (bytes == 0 || n < bytes) {
			bytes = n
		}
	}
	for line := range lines(root, "proc/meminfo") {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "MemTotal:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			least(kib << 10)
		}
	}
	for line := range lines(root, "proc/self/cgroup") {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		dir, name := "sys/fs/cgroup", "memory.max"
		switch fields[1] {
		case "":
		case "memory":
			dir, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for group := filepath.Clean("/" + fields[2]); ; group = filepath.Dir(group) { // each above it bounds it, too
			for text := range lines(root, filepath.Join(dir, group, name)) {
				n, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64) // "max" is none
				least(n)
			}
			if group == "/" {
				break
			}
		}
	}
	return bytes
}

// lines are those of a file, none of one that cannot be read.
func lines(root, path string) iter.Seq[string] {
	text, _ := os.ReadFile(filepath.Join(root, path))
	return strings.Lines(string(text))
}

// CollectBelow has the runtime collect garbage as often as it takes to stay below the bound at which publishes are
// refused, unless GOMEMLIMIT says something else: what is refused then is for what is in use. It is the process's.
func (o Options) CollectBelow() {
	high := int64(o.MemoryHigh)
	if high == 0 {
		high = available("/") / 5 * 4
	}
	if high > 0 && debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(high / 20 * 19)
	}
}
