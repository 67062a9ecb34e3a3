package embedded

import (
	"fmt"
	"runtime/debug"
	"strings"
	"time"
)

// fourLetters answers the commands of four letters that monitoring tools send in place of a packet.
type fourLetters struct {
	counters *counters
	version  string
}

// protocolLevel is the ZooKeeper release whose client protocol is served.
const protocolLevel = "3.8.0"

func newFourLetters(c *counters) fourLetters {
	built := time.Unix(0, 0)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				built = t
			}
		}
	}
	version := fmt.Sprintf("%s-kiteq-embedded, built on %s UTC", protocolLevel, built.UTC().Format("01/02/2006 15:04"))
	return fourLetters{counters: c, version: version}
}

// answer returns the text for a command, and whether it is one. "isro" asks whether the server is
// read-only.
func (f fourLetters) answer(command string) (string, bool) {
	switch command {
	case "ruok":
		return "imok", true
	case "isro":
		return "rw", true
	case "srvr":
		return f.srvr(), true
	case "mntr":
		return f.mntr(), true
	}
	return "", false
}

// milliseconds returns the average and the greatest latency.
func (f fourLetters) milliseconds() (avg, most float64) {
	c := f.counters
	if n := c.waits.Load(); n > 0 {
		avg = float64(c.waitTotal.Load()) / float64(n) / 1000
	}
	return avg, float64(c.waitMax.Load()) / 1000
}

func (f fourLetters) srvr() string {
	c := f.counters
	avg, most := f.milliseconds()
	return fmt.Sprintf("Zookeeper version: %s\nLatency min/avg/max: 0/%.4f/%.0f\nReceived: %d\nSent: %d\n"+
		"Connections: %d\nOutstanding: 0\nZxid: 0x%x\nMode: standalone\nNode count: %d\n",
		f.version, avg, most, c.received.Load(), c.sent.Load(), c.connections.Load(), c.zxid.Load(), c.nodes.Load())
}

func (f fourLetters) mntr() string {
	var b strings.Builder
	line := func(key string, value any) { fmt.Fprintf(&b, "zk_%s\t%v\n", key, value) }
	c := f.counters
	avg, most := f.milliseconds()
	line("version", f.version)
	line("server_state", "standalone")
	line("avg_latency", fmt.Sprintf("%.4f", avg))
	line("max_latency", fmt.Sprintf("%.0f", most))
	line("packets_received", c.received.Load())
	line("packets_sent", c.sent.Load())
	line("num_alive_connections", c.connections.Load())
	line("outstanding_requests", 0)
	line("znode_count", c.nodes.Load())
	line("watch_count", c.watches.Load())
	line("ephemerals_count", c.ephemerals.Load())
	line("approximate_data_size", c.bytes.Load())
	line("global_sessions", c.sessions.Load())
	line("stale_sessions_expired", c.expired.Load())
	line("connection_rejected", c.refused.Load())
	return b.String()
}
