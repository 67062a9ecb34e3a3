package embedded

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// Options are the settings of a Server. Zero means the default. None can change while it runs.
type Options struct {
	// Addr is the address to listen on, "host:port". The protocol has no encryption and, by default,
	// open ACLs: an address that others can reach lets them change everything.
	// Default "127.0.0.1:2181"; port 0 takes a free one.
	Addr string
	// Dir is where nodes and sessions are kept. It is created when it is absent. One process at a
	// time uses it. Empty means memory only: a restart begins with nothing. Default empty.
	Dir string
	// MinSessionTimeout and MaxSessionTimeout bound what a client may ask for. A session ends that
	// long after its last packet. Defaults 4s and 40s; least 10ms.
	MinSessionTimeout time.Duration
	MaxSessionTimeout time.Duration
	// MaxConnections bounds the open connections; one more is closed at once. Default 1000.
	MaxConnections int
	// MaxSessions bounds the sessions, with or without a connection; a client that asks for one more
	// is cut off and tries again later. Default four times MaxConnections.
	MaxSessions int
	// MaxNodeBytes bounds a request, and so a node's data, as jute.maxbuffer does; a connection that
	// announces a longer one is closed. Bytes. Default 1 MiB, range 1 KiB to 16 MiB.
	MaxNodeBytes int
	// MaxTreeBytes bounds all nodes together: paths, data, ACLs and 256 bytes for each. What would
	// exceed it is answered QuotaExceeded. Bytes. Default 256 MiB.
	MaxTreeBytes int64
	// MaxWatches bounds the watches of one connection; a read that would add one more is answered
	// QuotaExceeded. Default 100000.
	MaxWatches int
	// MaxQueueBytes bounds what waits for one connection to read it, and so the longest list of
	// children; a connection that falls behind further is closed. Bytes. Default 40 times
	// MaxNodeBytes, and at least that: a full window of the largest reads fits.
	MaxQueueBytes int
	// SnapshotBytes is how much log is written before a snapshot makes it superfluous. Bytes.
	// Default 16 MiB. It grows with the snapshot, so that copying stays a fraction of writing.
	SnapshotBytes int64
	// ReapInterval is how often container and TTL nodes are looked at. Default 1m.
	ReapInterval time.Duration
}

const (
	// window is how many requests of one connection may be under way; the next is left in the socket.
	window = 32
	// minNodeBytes still holds every request of the broker itself, with room.
	minNodeBytes = 1 << 10
	maxNodeBytes = 16 << 20
)

// WithDefaults returns o with the zero fields set to their defaults.
func (o Options) WithDefaults() Options {
	set(&o.Addr, "127.0.0.1:2181")
	set(&o.MinSessionTimeout, 4*time.Second)
	set(&o.MaxSessionTimeout, max(40*time.Second, o.MinSessionTimeout))
	set(&o.MaxConnections, 1000)
	set(&o.MaxSessions, 4*o.MaxConnections)
	set(&o.MaxNodeBytes, 1<<20)
	set(&o.MaxTreeBytes, 256<<20)
	set(&o.MaxWatches, 100_000)
	set(&o.MaxQueueBytes, 40*o.MaxNodeBytes)
	set(&o.SnapshotBytes, 16<<20)
	set(&o.ReapInterval, time.Minute)
	return o
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate returns everything that is wrong with o, joined.
func (o Options) Validate() error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	_, _, err := net.SplitHostPort(o.Addr)
	bad(err != nil, "addr %q: write host:port: %w", o.Addr, err)
	bad(o.MinSessionTimeout < 10*time.Millisecond, "min session timeout %s: use at least 10ms", o.MinSessionTimeout)
	bad(o.MaxSessionTimeout < o.MinSessionTimeout, "max session timeout %s: use at least the min, %s",
		o.MaxSessionTimeout, o.MinSessionTimeout)
	bad(o.MaxSessionTimeout > 24*time.Hour, "max session timeout %s: use at most 24h", o.MaxSessionTimeout)
	bad(o.MaxConnections < 1, "max connections %d: use at least 1", o.MaxConnections)
	bad(o.MaxSessions < 1, "max sessions %d: use at least 1", o.MaxSessions)
	bad(o.MaxNodeBytes < minNodeBytes || o.MaxNodeBytes > maxNodeBytes, "max node bytes %d: use %d to %d",
		o.MaxNodeBytes, minNodeBytes, maxNodeBytes)
	bad(o.MaxTreeBytes < 1<<20, "max tree bytes %d: use at least 1 MiB", o.MaxTreeBytes)
	bad(o.MaxWatches < 1, "max watches %d: use at least 1", o.MaxWatches)
	bad(o.MaxQueueBytes < 40*o.MaxNodeBytes, "max queue bytes %d: use at least 40 times max node bytes, %d",
		o.MaxQueueBytes, 40*o.MaxNodeBytes)
	bad(o.SnapshotBytes < 1<<10, "snapshot bytes %d: use at least 1 KiB", o.SnapshotBytes)
	bad(o.ReapInterval < time.Millisecond, "reap interval %s: use at least 1ms", o.ReapInterval)
	return errors.Join(errs...)
}
