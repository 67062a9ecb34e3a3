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
	MaxConnections int `toml:"max_connections"`
	// UnauthenticatedTimeout is how long a connection may stay without a ConnMeta. Default 30s, 1s to 1h.
	UnauthenticatedTimeout time.Duration `toml:"unauthenticated_timeout"`
	// OutboundBytes is how many unsent bytes a connection may have before it gets no more deliveries; at
	// four times as many it is closed. Default 4 MiB, at least 64 KiB.
	OutboundBytes kite.ByteSize `toml:"outbound_bytes"`
}

// WithDefaults returns the options with the default in place of every zero.
func (o Options) WithDefaults() Options {
	if o.EventLoops == 0 {
		o.EventLoops = 2
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 20000
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
	problems.Check(o.UnauthenticatedTimeout >= time.Second && o.UnauthenticatedTimeout <= time.Hour, "unauthenticated timeout %v: use 1s to 1h", o.UnauthenticatedTimeout)
	problems.Check(o.OutboundBytes >= 64<<10, "outbound bytes %v: use 64KiB or more", o.OutboundBytes)
	return problems.Err()
}
