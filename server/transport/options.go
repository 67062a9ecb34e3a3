package transport

import (
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Options of the network.
type Options struct {
	// Addr is the address to listen on, "ip:port"; an empty ip means all, port 0 any free one.
	Addr string `toml:"-"`
	// EventLoops is how many goroutines serve connections. Default 2, 1 to 256.
	EventLoops int `toml:"event_loops"`
	// MaxConnections bounds the open connections; more are closed at once. Default 20000, at least 1.
	MaxConnections int `toml:"max_connections" reload:"live"`
	// MaxConnectionsPerAddress bounds those of one address; more are closed at once. Default 5000, at least 1;
	// -1: no bound of its own.
	MaxConnectionsPerAddress int `toml:"max_connections_per_address" reload:"live"`
	// FrameBytes is the largest payload of a frame that a client may send. Default 2 MiB, 4 KiB to 2 MiB.
	FrameBytes kite.ByteSize `toml:"frame_bytes" reload:"live"`
	// FrameTimeout is how long a frame may take to come whole. Default 1m, 1s to 1h.
	FrameTimeout time.Duration `toml:"frame_timeout" reload:"live"`
	// InboundBytes is what the frames that are not whole may hold in memory, of all connections together;
	// over it those that wait longest are closed. Default 256 MiB, at least 4 MiB.
	InboundBytes kite.ByteSize `toml:"inbound_bytes" reload:"live"`
	// UnauthenticatedTimeout is how long a connection may stay without a ConnMeta. Default 30s, 1s to 1h.
	UnauthenticatedTimeout time.Duration `toml:"unauthenticated_timeout" reload:"live"`
	// OutboundBytes is how many unsent bytes a connection may have before it gets no more deliveries; at
	// four times as many it is closed. Default 4 MiB, at least 64 KiB.
	OutboundBytes kite.ByteSize `toml:"outbound_bytes" reload:"live"`
}

// WithDefaults returns the options with the default in place of every zero.
func (o Options) WithDefaults() Options {
	if o.EventLoops == 0 {
		o.EventLoops = 2
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 20000
	}
	if o.MaxConnectionsPerAddress == 0 {
		o.MaxConnectionsPerAddress = 5000
	}
	if o.FrameBytes == 0 {
		o.FrameBytes = kite.MaxPayload
	}
	if o.FrameTimeout == 0 {
		o.FrameTimeout = time.Minute
	}
	if o.InboundBytes == 0 {
		o.InboundBytes = 256 << 20
	}
	if o.UnauthenticatedTimeout == 0 {
		o.UnauthenticatedTimeout = 30 * time.Second
	}
	if o.OutboundBytes == 0 {
		o.OutboundBytes = 4 << 20
	}
	return o
}

// Validate returns every problem, joined.
func (o Options) Validate() error {
	var problems kite.Problems
	problems.Check(o.EventLoops >= 1 && o.EventLoops <= 256, "event loops %d: use 1 to 256", o.EventLoops)
	problems.Check(o.MaxConnections >= 1, "max connections %d: use 1 or more", o.MaxConnections)
	problems.Check(o.MaxConnectionsPerAddress >= 1 || o.MaxConnectionsPerAddress == -1, "max connections per address %d: use 1 or more, or -1 for no bound", o.MaxConnectionsPerAddress)
	problems.Check(o.FrameBytes >= helloBytes && o.FrameBytes <= kite.MaxPayload, "frame bytes %v: use 4KiB to 2MiB", o.FrameBytes)
	problems.Check(o.FrameTimeout >= time.Second && o.FrameTimeout <= time.Hour, "frame timeout %v: use 1s to 1h", o.FrameTimeout)
	problems.Check(o.InboundBytes >= 2*kite.MaxPayload, "inbound bytes %v: use 4MiB or more", o.InboundBytes)
	problems.Check(o.UnauthenticatedTimeout >= time.Second && o.UnauthenticatedTimeout <= time.Hour, "unauthenticated timeout %v: use 1s to 1h", o.UnauthenticatedTimeout)
	problems.Check(o.OutboundBytes >= 64<<10, "outbound bytes %v: use 64KiB or more", o.OutboundBytes)
	return problems.Err()
}
