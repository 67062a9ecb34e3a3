package embedded

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

// BenchmarkServer measures whole operations of go-zookeeper clients over loopback. With a directory
// every write waits for the disk; clients together share its syncs.
func BenchmarkServer(b *testing.B) {
	for _, kind := range []string{"memory", "disk"} {
		for _, clients := range []int{1, 32} {
			for _, op := range []string{"create", "set", "get"} {
				b.Run(fmt.Sprintf("%s/%s/clients=%d", kind, op, clients), func(b *testing.B) {
					o := Options{}
					if kind == "disk" {
						o.Dir = b.TempDir()
					}
					benchmark(b, o, op, clients)
				})
			}
		}
	}
}

func benchmark(b *testing.B, o Options, op string, clients int) {
	s := start(b, o)
	data := make([]byte, 100)
	conns := make([]*zk.Conn, clients)
	for i := range conns {
		conns[i] = dial(b, s.Addr(), 10*time.Second)
		mustCreate(b, conns[i], fmt.Sprintf("/%d", i), string(data), 0)
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan error, clients)
	b.ReportAllocs()
	b.ResetTimer()
	for i, c := range conns {
		go func() {
			path := fmt.Sprintf("/%d", i)
			var err error
			for left.Add(-1) >= 0 && err == nil {
				switch op {
				case "create":
					_, err = c.Create(path+"/s-", data, zk.FlagSequence, zk.WorldACL(zk.PermAll))
				case "set":
					_, err = c.Set(path, data, -1)
				case "get":
					_, _, err = c.Get(path)
				}
			}
			done <- err
		}()
	}
	for range conns {
		must(b, <-done)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}
