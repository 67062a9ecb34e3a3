package server

import (
	"context"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/server/metrics"
)

// Metrics implements admin.Broker.
func (s *Server) Metrics() http.Handler {
	return metrics.NewPage(s.snapshot, s.config.MetricsNames, s.log)
}

// snapshot reads every counter once. It waits for the flows, until ctx ends.
func (s *Server) snapshot(ctx context.Context) (metrics.Snapshot, error) {
	flows, err := s.dispatcher.Stats(ctx)
	if err != nil {
		return metrics.Snapshot{}, err
	}
	publishes, lane, totals := s.handler.Stats(), s.lane.Stats(), s.dispatcher.Totals()
	checks, hooks, network := s.checker.Stats(), s.hooks.Stats(), s.transport.Stats()
	live, room := s.live.Load(), s.guard.Newest()
	m := metrics.Snapshot{
		DiskFree: room.Free, DiskLow: room.DiskLow, Memory: room.Memory, MemoryHigh: room.MemoryHigh, Held: room.Held != "",
		Version: version(), At: time.Now(),
		Ready: s.Ready() == nil, RegistryReady: s.registry.Ready() == nil, Poisoned: s.journal.Err() != nil,
		Members:  map[string]int{},
		Accepted: publishes.Accepted, Refused: publishes.Refused, Acked: publishes.Acked,
		Waited: totals.Waited, Appended: lane.Appended, Synced: lane.Synced, Busy: lane.Busy,
		Waiting: lane.Waiting, WaitingMax: live.Lane.InboxItems,
		WaitingBytes: lane.WaitingBytes, WaitingBytesMax: int64(live.Lane.InboxBytes),
		Open: checks.Open, Parked: checks.Parked, OldestTx: checks.OldestMs, Checks: checks.Sent,
		Conflicts: lane.Conflicts, HookChecks: hooks.Requests, HookFailures: hooks.Failures,
		Delayed: lane.Delayed, DelayedNear: int64(s.scheduler.Stats().Entries), FlyDropped: totals.Dropped, BadBindings: s.badBindings.Load(),
		Connections: network.Connections, ConnectionsMax: live.Network.MaxConnections,
		ConnectionsRefused: network.Refused, Handshakes: network.Handshakes,
		Reads: network.Reads, ReadBytes: network.ReadBytes, Writes: network.Writes, WriteBytes: network.WriteBytes,
		PartialBytes: network.Partial,
	}
	if s.gate != nil {
		keys := s.gate.Stats()
		m.KeysRefused, m.KeysHeld, m.KeysWaiting = keys.Refused, keys.Waiting+keys.Busy, int64(keys.Queue)
	}
	if s.gate != nil {
		k := s.gate.Stats()
		m.Keys = map[string]int64{
			"granted": k.Granted, "remembered": k.Remembered, "refused": k.Refused, "waiting": k.Waiting, "busy": k.Busy,
		}
	}
	s.directory.Groups(func(group string, members []*session.Session) { m.Members[group] = len(members) })
	for _, topic := range *s.topics.Load() {
		m.Topics = append(m.Topics, metrics.Topic{Name: topic, Received: publishes.Received[topic], Stored: s.ever(topic)})
	}
	for i := range flows {
		f := &flows[i]
		if !f.Bound {
			continue // nothing waits for it
		}
		m.Flows = append(m.Flows, metrics.Flow{
			Topic: f.Topic, Group: f.Group,
			Attempts: f.Acquired, Failed: f.Failed, Flown: f.Flown, DeadEver: s.ever(kite.DeadStream(f.Topic, f.Group)),
			Backlog: f.Unsettled, Lag: f.Lag, InFlight: int64(f.InFlight), Armed: int64(f.Armed), Dead: f.Letters,
			OldestMs: f.OldestMs, OfflineMs: f.OfflineMs, Paused: f.Paused, BreakerOpen: f.BreakerOpen,
		})
	}
	return m, nil
}

// ever returns how many records a stream ever had.
func (s *Server) ever(stream string) int64 {
	_, next := s.journal.Bounds(stream)
	return int64(next) - 1
}

// version names the module's version that this binary was built from.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
