package transport

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/kiteq/kiteq/internal/kite"
)

// door counts the connections of both ports, in all and of each address.
type door struct {
	mu        sync.Mutex
	max, each int // each below 0: no limit
	open      int
	of        map[netip.Addr]int

	refused atomic.Int64
}

func newDoor(o Options) *door {
	return &door{max: o.MaxConnections, each: o.MaxConnectionsPerAddress, of: map[netip.Addr]int{}}
}

// bound changes the limits for those who come.
func (d *door) bound(o Options) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.max, d.each = o.MaxConnections, o.MaxConnectionsPerAddress
}

// enter counts a connection of the address, or says why there may be no other.
func (d *door) enter(a netip.Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.open >= d.max:
		d.refused.Add(1)
		return kite.Errorf(kite.Busy, "too many connections: max_connections is %d", d.max)
	case d.each > 0 && d.of[a] >= d.each:
		d.refused.Add(1)
		return kite.Errorf(kite.Busy, "too many connections of %v: max_connections_per_address is %d", a, d.each)
	}
	d.open++
	d.of[a]++
	return nil
}

// leave takes back one enter.
func (d *door) leave(a netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	if d.of[a]--; d.of[a] == 0 {
		delete(d.of, a)
	}
}

func (d *door) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// addressOf returns the address of a peer without its port.
func addressOf(remote net.Addr) netip.Addr {
	if tcp, ok := remote.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
