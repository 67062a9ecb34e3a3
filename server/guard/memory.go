package guard

import (
	"math"
	"os"
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

// available is how much memory the process may have, bytes: of its control group, or of the machine; 0: not known.
func available() int64 {
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			return n
		}
	}
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "MemTotal:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// CollectBelow has the runtime collect garbage as often as it takes to stay below the bound at which publishes are
// refused, unless GOMEMLIMIT says something else: what is refused then is for what is in use. It is the process's.
func (o Options) CollectBelow() {
	high := int64(o.MemoryHigh)
	if high == 0 {
		high = available() / 5 * 4
	}
	if high > 0 && debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(high / 20 * 19)
	}
}
