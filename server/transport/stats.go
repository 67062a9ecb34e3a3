package transport

import "sync/atomic"

// Stats is what the network has done since the start, and how many connections are open.
type Stats struct {
	// Reads and Writes count what was read from and written to sockets in one go: any number of whole frames.
	Reads, ReadBytes   int64
	Writes, WriteBytes int64
	Connections        int
	// Refused counts connections over max_connections or max_connections_per_address, Handshakes those with
	// which TLS failed.
	Refused, Handshakes int64
	// Partial is how many bytes of frames that are not whole all connections hold.
	Partial int64
}

// counters are added to once a read and once a write.
type counters struct{ reads, readBytes, writes, writeBytes atomic.Int64 }

func (c *counters) read(bytes int) {
	c.reads.Add(1)
	c.readBytes.Add(int64(bytes))
}

func (c *counters) wrote(bytes int64) {
	c.writes.Add(1)
	c.writeBytes.Add(bytes)
}

// Stats returns the counters. They are read one after the other, while others add to them.
func (t *Transport) Stats() Stats {
	c := &t.counters
	return Stats{
		Reads: c.reads.Load(), ReadBytes: c.readBytes.Load(),
		Writes: c.writes.Load(), WriteBytes: c.writeBytes.Load(), Connections: t.Connections(),
		Refused: t.door.refused.Load(), Handshakes: t.handshakes.Load(), Partial: t.held.Load(),
	}
}
