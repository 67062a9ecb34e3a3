package mmap

import (
	"fmt"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

func BenchmarkAppend(b *testing.B) {
	for _, sync := range []Sync{SyncOS, SyncAlways} {
		for _, size := range []int{1, 64, 1000} {
			b.Run(fmt.Sprintf("sync=%s/batch=%d", sync, size), func(b *testing.B) {
				j := mustOpen(b, Options{Dir: b.TempDir(), Sync: sync})
				batch := make([]*kite.Record, size)
				for i := range batch {
					batch[i] = message("topic", i, 256)
				}
				seq := kite.Seq(0)
				b.SetBytes(int64(256 * size))
				b.ReportAllocs()
				for b.Loop() {
					for _, r := range batch {
						seq++
						r.Seq, r.TimeMs = seq, int64(seq)
					}
					mustAppend(b, j, batch...)
					mustSync(b, j)
					if len(j.segments) > 3 { // keep the disk small
						b.StopTimer()
						trimBenchmark(b, j)
						b.StartTimer()
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/msg")
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for _, sealed := range []bool{false, true} {
		for _, run := range []int{1, 64, 1000} {
			b.Run(fmt.Sprintf("sealed=%v/run=%d", sealed, run), func(b *testing.B) {
				const stored = 100_000
				o := Options{Dir: b.TempDir(), Sync: SyncOS}
				if sealed {
					o.SegmentBytes = 1 << 20
				}
				j := mustOpen(b, o)
				for seq := 1; seq <= stored; seq += 1000 {
					batch := make([]*kite.Record, 1000)
					for i := range batch {
						batch[i] = message("topic", seq+i, 256)
					}
					mustAppend(b, j, batch...)
				}
				from := 1
				b.SetBytes(int64(256 * run))
				b.ReportAllocs()
				for b.Loop() {
					n := 0
					err := j.Read("topic", kite.Seq(from), func(*kite.Record) bool { n++; return n < run })
					if err != nil || n != run {
						b.Fatalf("read %d of %d from %d: %v", n, run, from, err)
					}
					if from += run; from+run > stored {
						from = 1
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*run), "ns/msg")
			})
		}
	}
}

func trimBenchmark(b *testing.B, j *Journal) {
	b.Helper()
	if err := j.Checkpoint(func(func(*kite.Record) bool) {}); err != nil {
		b.Fatal(err)
	}
	if _, err := j.Trim(store.Needs{BeforeMs: 1 << 60}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCompact looks through a segment of 256 MiB, of which a hundredth is needed, and punches it.
func BenchmarkCompact(b *testing.B) {
	const segment = 256 << 20
	for _, body := range []int{200, 2000} {
		b.Run(fmt.Sprintf("body=%d", body), func(b *testing.B) {
			b.SetBytes(segment)
			for range b.N {
				b.StopTimer()
				dir := b.TempDir()
				j := mustOpen(b, Options{Dir: dir, SegmentBytes: segment, Sync: SyncOS})
				batch, slow, fast := make([]*kite.Record, 0, 101), 0, 0
				for len(j.segments) < 2 {
					slow++
					batch = append(batch[:0], message("slow", slow, body))
					for range 100 {
						fast++
						batch = append(batch, message("fast", fast, body))
					}
					mustAppend(b, j, batch[:1]...)
					for at := 1; at <= 100; at += 20 {
						mustAppend(b, j, batch[at:at+20]...)
					}
				}
				if err := j.Checkpoint(func(func(*kite.Record) bool) {}); err != nil {
					b.Fatal(err)
				}
				needs := store.Needs{BeforeMs: 1 << 60, Floors: map[string]kite.Seq{"slow": kite.Seq(slow - slow/10)}}
				b.StartTimer()
				if _, err := j.Trim(needs); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				seg := j.segments[0]
				if len(seg.gaps) == 0 {
					b.Fatal("not compacted")
				}
				b.ReportMetric(float64(len(seg.gaps)), "gaps")
				b.ReportMetric(float64(seg.size()), "left-B")
				mustClose(b, j)
				removeAll(b, dir+"/*")
				b.StartTimer()
			}
		})
	}
}
