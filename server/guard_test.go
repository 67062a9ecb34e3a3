package server

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/server/guard"
)

// TestMemoryHigh: above the mark publishes are refused with the reason, what was taken before is delivered, and a
// reload that raises the mark has them taken again.
func TestMemoryHigh(t *testing.T) {
	t.Parallel()
	s, log := start(t, testConfig(), Control{})
	bind(t, directory(t, s), "s-all", true, "trade")
	eventually(t, 10*time.Second, func() string {
		if len(s.exchange.Routes()) == 0 {
			return "the binding is not read"
		}
		return ""
	})
	producer := connect(t, s, "p-test")
	if answers := producer.publish("trade", 3); !strings.HasPrefix(answers[2], "true") {
		t.Fatal(answers)
	}
	ballast := make([]byte, 80<<20)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	s.guard.Tune(guard.Options{DiskLow: 1, MemoryHigh: 64 << 20})
	eventually(t, 10*time.Second, func() string {
		if answer := producer.publish("trade", 1)[0]; !strings.Contains(answer, "] memory high: ") || !strings.HasSuffix(answer, "of 64 MiB") {
			return answer
		}
		return ""
	})
	if !strings.Contains(scrape(t, s), "\nkiteq_publish_held 1\n") || s.Ready() != nil {
		t.Errorf("ready: %v, and /metrics does not say that publishes are refused", s.Ready())
	}
	connect(t, s, "s-all").consume(3)
	runtime.KeepAlive(ballast)
	s.guard.Tune(guard.Options{DiskLow: 1, MemoryHigh: 1 << 40})
	eventually(t, 10*time.Second, func() string {
		if answer := producer.publish("trade", 1)[0]; !strings.HasPrefix(answer, "true") {
			return answer
		}
		return ""
	})
	if !strings.Contains(log.String(), `msg="publishes are taken again"`) {
		t.Errorf("log:\n%s", log)
	}
}
