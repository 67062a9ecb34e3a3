package mmap

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kiteq/kiteq/internal/kite"
)

// The benchmarks of doc/adr/0017-pwrite.md.

// BenchmarkRoll measures the Append that begins a segment of the default size.
func BenchmarkRoll(b *testing.B) {
	for _, sync := range []Sync{SyncAlways, SyncOS} {
		b.Run("sync="+sync.String(), func(b *testing.B) {
			j := mustOpen(b, Options{Dir: b.TempDir(), Sync: sync})
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error, 1)
			go func() { done <- j.Run(ctx) }()
			var took []time.Duration
			seq := 0
			for b.Loop() {
				const fill = 64 // batches of a segment; then it counts as full
				for i := range fill + 1 {
					batch := make([]*kite.Record, 64)
					for k := range batch {
						seq++
						batch[k] = message("topic", seq, 512)
					}
					if i == fill/2 { // sealing keeps up with a real segment
						if err := j.seal(); err != nil {
							b.Fatal(err)
						}
					}
					if i == fill {
						j.open.data = j.open.data[:j.open.end]
					}
					start := time.Now()
					mustAppend(b, j, batch...)
					if i == fill {
						took = append(took, time.Since(start))
					}
					mustSync(b, j)
				}
				if len(j.segments) > 6 { // keep the disk small
					trimBenchmark(b, j)
				}
			}
			reportTimes(b, took)
			cancel()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkWriteWays compares pwrite with writing through a mapping, into allocated space, with a sync
// after each batch and without; and allocated space with space that was written before (filled).
func BenchmarkWriteWays(b *testing.B) {
	for _, size := range []int{1 << 10, 24 << 10, 1 << 20} {
		for _, way := range []string{"pwrite", "mapping", "filled"} {
			for _, sync := range []bool{false, true} {
				if way == "filled" && !sync {
					continue
				}
				b.Run(fmt.Sprintf("size=%d/%s/sync=%v", size, way, sync), func(b *testing.B) { writeWay(b, size, way, sync) })
			}
		}
	}
}

func writeWay(b *testing.B, size int, way string, sync bool) {
	const space = 64 << 20
	file, err := os.Create(filepath.Join(b.TempDir(), "f"))
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	must(err)
	defer func() { must(file.Close()) }()
	must(osFile{file}.Allocate(space))
	if way == "filled" {
		_, err := file.WriteAt(make([]byte, space), 0)
		must(err)
	}
	must(file.Sync())
	fd := int(file.Fd())
	var mapping []byte
	if way == "mapping" {
		mapping, err = unix.Mmap(fd, 0, space, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		must(err)
		defer func() { must(unix.Munmap(mapping)) }()
	}
	batch := []byte(strings.Repeat("kiteq!", size/6+1))[:size]
	page := int64(os.Getpagesize())
	var took []time.Duration
	at, written, cpu := int64(0), writtenBytes(b), cpuTime(b)
	b.SetBytes(int64(size))
	for b.Loop() {
		if at+int64(size) > space {
			b.StopTimer() // into new blocks again
			must(file.Truncate(0))
			must(osFile{file}.Allocate(space))
			if way == "filled" {
				_, err := file.WriteAt(make([]byte, space), 0)
				must(err)
			}
			must(file.Sync())
			at = 0
			b.StartTimer()
		}
		start := time.Now()
		if mapping == nil {
			_, err = file.WriteAt(batch, at)
		} else {
			copy(mapping[at:], batch)
		}
		must(err)
		switch from := at / page * page; {
		case sync && mapping == nil:
			must(osFile{file}.Sync())
		case sync:
			must(unix.Msync(mapping[from:at+int64(size)], unix.MS_SYNC))
		}
		took = append(took, time.Since(start))
		at += int64(size)
	}
	cpu = cpuTime(b) - cpu
	must(file.Sync())
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N), "cpu-ns/op")
	if n := writtenBytes(b) - written; way != "filled" { // there the filling counts, too
		b.ReportMetric(float64(n)/float64(b.N)/float64(size), "written/byte")
	}
	reportTimes(b, took)
}

func reportTimes(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
	b.ReportMetric(float64(took[len(took)-1].Nanoseconds())/1e3, "max-µs")
}

func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// writtenBytes returns what this process has caused to be written to the disk, 0 where nobody counts it.
func writtenBytes(b *testing.B) (n int64) {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			if _, err := fmt.Sscan(value, &n); err != nil {
				b.Fatal(err)
			}
		}
	}
	return n
}
