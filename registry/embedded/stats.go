package embedded

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// counters are the figures that others may read while the owner works.
type counters struct {
	connections, received, sent       atomic.Int64
	refused, slow, expired, malformed atomic.Int64
	zxid, nodes, ephemerals           atomic.Int64
	watches, bytes, sessions          atomic.Int64
	waits, waitTotal, waitMax         atomic.Int64 // latency, in microseconds
	warned                            atomic.Int64 // when, Unix seconds
}

// warn logs what a client can cause as often as it likes: as a warning at most once a second, else
// for debugging. The counters have every case.
func (s *counters) warn(log *slog.Logger, msg string, args ...any) {
	if now, last := time.Now().Unix(), s.warned.Load(); now != last && s.warned.CompareAndSwap(last, now) {
		log.Warn(msg, args...)
		return
	}
	log.Debug(msg, args...)
}

// publish copies the owner's figures.
func (s *counters) publish(t *tree, w *watches, sessions int) {
	s.zxid.Store(t.zxid)
	s.nodes.Store(int64(len(t.nodes)))
	s.bytes.Store(t.bytes)
	s.watches.Store(int64(len(w.byKey)))
	s.sessions.Store(int64(sessions))
	s.ephemerals.Store(int64(len(t.ephemerals)))
}

// latency counts how long the oldest request of one connection's batch took. Only the owner calls it.
func (s *counters) latency(d time.Duration) {
	us := d.Microseconds()
	s.waits.Add(1)
	s.waitTotal.Add(us)
	s.waitMax.Store(max(us, s.waitMax.Load()))
}

// Stats are a server's figures at one moment.
type Stats struct {
	Connections int64 // open now
	Sessions    int64 // open now, with or without a connection
	Nodes       int64
	Watched     int64 // paths with at least one watch
	TreeBytes   int64 // as MaxTreeBytes counts
	Zxid        int64 // of the last transaction
	Received    int64 // requests, since the start
	Sent        int64 // replies and events, since the start
	Expired     int64 // sessions that were not closed by their client, since the start
	Refused     int64 // connections and sessions over a bound, since the start
	Malformed   int64 // connections closed for a packet that could not be understood, since the start
	Slow        int64 // connections closed for not reading, since the start
}

func (s *counters) stats() Stats {
	return Stats{
		Connections: s.connections.Load(), Sessions: s.sessions.Load(), Nodes: s.nodes.Load(),
		Watched: s.watches.Load(), TreeBytes: s.bytes.Load(), Zxid: s.zxid.Load(),
		Received: s.received.Load(), Sent: s.sent.Load(), Expired: s.expired.Load(),
		Refused: s.refused.Load(), Malformed: s.malformed.Load(), Slow: s.slow.Load(),
	}
}
