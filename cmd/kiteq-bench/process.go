package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// usage is what a process has used since its start, as Linux counts it.
type usage struct {
	cpu     time.Duration // user and system
	written int64         // bytes that it caused to be written to disks: dirtied pages, each as often as it was
	anon    int64         // RssAnon: bytes of its own memory, without mapped files
}

// ticksPerSecond is the unit of the times in /proc/PID/stat: 100 on every architecture of Linux that Go knows.
const ticksPerSecond = 100

// usageOf reads /proc/PID/stat, io and status. Other systems have none of them, which is the error.
func usageOf(pid int) (usage, error) {
	var u usage
	read := func(name string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			return ""
		}
		return string(b)
	}
	stat := read("stat")
	after := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // the name may have spaces
	if len(after) < 13 {
		return u, fmt.Errorf("process %d: no /proc/%d/stat: does it run, and is this Linux?", pid, pid)
	}
	user, err := strconv.ParseInt(after[11], 10, 64)
	system, err2 := strconv.ParseInt(after[12], 10, 64)
	written, ok := number(read("io"), "write_bytes:")
	anon, ok2 := number(read("status"), "RssAnon:")
	if err != nil || err2 != nil || !ok || !ok2 {
		return u, fmt.Errorf("process %d: /proc/%d/stat, io or status cannot be read: is it another user's?", pid, pid)
	}
	return usage{time.Duration(user+system) * time.Second / ticksPerSecond, written, anon << 10}, nil
}

// number finds the line that begins with name, and its first number.
func number(text, name string) (int64, bool) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			fields := strings.Fields(rest)
			if len(fields) == 0 {
				return 0, false
			}
			n, err := strconv.ParseInt(fields[0], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// cost is what a run cost the broker's process, from the first message due to the last one that came.
type cost struct {
	CPU            float64 `json:"cpu_seconds"`
	CPUPerMessage  float64 `json:"cpu_us_per_message"` // of the messages published, or else delivered
	Written        int64   `json:"written_bytes"`      // to disks
	Received       int64   `json:"received_bytes"`     // of publishes, as frames; 0 when that was not seen
	WrittenPerByte float64 `json:"written_per_received_byte,omitempty"`
	Anon           int64   `json:"rss_anon_bytes"` // at the end
	AnonPeak       int64   `json:"rss_anon_peak_bytes"`
}

// meter watches a process until its stop. A nil one watches nothing.
type meter struct {
	pid     int
	before  usage
	peak    int64 // the watching goroutine's
	end     context.CancelFunc
	running sync.WaitGroup
}

// startMeter reads what pid has used so far, and looks at its memory every 100 ms from now on.
func startMeter(ctx context.Context, pid int) (*meter, error) {
	before, err := usageOf(pid)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	m := &meter{pid: pid, before: before, peak: before.anon, end: cancel}
	m.running.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if now, err := usageOf(pid); err == nil {
				m.peak = max(m.peak, now.anon)
			}
		}
	})
	return m, nil
}

// stop ends the watching. A second stop does nothing.
func (m *meter) stop() {
	if m == nil {
		return
	}
	m.end()
	m.running.Wait()
}

// cost stops, and returns what so many messages cost, of which the broker received so many bytes.
func (m *meter) cost(messages, received int64) (*cost, error) {
	if m == nil {
		return nil, nil
	}
	m.stop()
	now, err := usageOf(m.pid)
	if err != nil {
		return nil, fmt.Errorf("after the run: %w", err)
	}
	cpu := now.cpu - m.before.cpu
	c := &cost{CPU: cpu.Seconds(), Written: now.written - m.before.written, Received: received, Anon: now.anon, AnonPeak: max(m.peak, now.anon)}
	if messages > 0 {
		c.CPUPerMessage = float64(cpu.Microseconds()) / float64(messages)
	}
	if received > 0 {
		c.WrittenPerByte = float64(c.Written) / float64(received)
	}
	return c, nil
}
