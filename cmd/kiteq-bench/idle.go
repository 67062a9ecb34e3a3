package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kiteq/kiteq/internal/protocol"
)

// herd is many connections that only send heartbeats.
type herd struct {
	links                  []*link
	beats, answered, ended atomic.Int64

	mu      sync.Mutex
	latency *latency
}

// idleFigures are what became of the idle connections.
type idleFigures struct {
	Connections int      `json:"connections"`
	Heartbeats  int64    `json:"heartbeats"`
	Answered    int64    `json:"answered"`
	Ended       int64    `json:"ended"` // connections that did not last
	Latency     *figures `json:"latency,omitempty"`
}

// openHerd connects them all, a few at a time.
func openHerd(ctx context.Context, o options, group string) (*herd, error) {
	h := &herd{links: make([]*link, o.idle), latency: newLatency()}
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for i := range h.links {
		g.Go(func() (err error) {
			h.links[i], err = dial(within, o.broker, protocol.ConnMeta{GroupID: group}, 256, o.patience)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		h.close()
		return nil, fmt.Errorf("open %d idle connections (see ulimit -n): %w", o.idle, err)
	}
	return h, nil
}

// run sends each connection's heartbeat once in the pause, evenly spread, until ctx ends.
func (h *herd) run(ctx context.Context, pause time.Duration) {
	var readers sync.WaitGroup
	for _, l := range h.links {
		readers.Go(func() { h.read(ctx, l) })
	}
	defer readers.Wait()
	defer h.close()
	tick := time.NewTicker(max(pause/time.Duration(len(h.links)), 100*time.Microsecond))
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l := h.links[i%len(h.links)]
		beat := protocol.AppendHeartbeat(nil, protocol.FramingG, l.number(), time.Now().UnixNano())
		if _, err := l.conn.Write(beat); err == nil {
			h.beats.Add(1)
		}
	}
}

func (h *herd) read(ctx context.Context, l *link) {
	for {
		f, err := l.next()
		if err != nil {
			if ctx.Err() == nil {
				h.ended.Add(1)
			}
			return
		}
		if f.Command != protocol.CmdHeartbeat {
			continue
		}
		if sent, err := protocol.DecodeHeartbeat(f.Payload); err == nil {
			h.answered.Add(1)
			h.mu.Lock()
			h.latency.record(time.Since(time.Unix(0, sent)))
			h.mu.Unlock()
		}
	}
}

func (h *herd) figures() *idleFigures {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &idleFigures{len(h.links), h.beats.Load(), h.answered.Load(), h.ended.Load(), h.latency.figures()}
}

func (h *herd) close() {
	for _, l := range h.links {
		if l != nil {
			l.close()
		}
	}
}
