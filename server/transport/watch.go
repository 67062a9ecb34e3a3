package transport

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// tickEvery is how often connections are looked at that nothing happens on.
const tickEvery = 250 * time.Millisecond

// watch closes connections that keep the broker waiting, and the longest waiting while all together hold too
// much. It says how many were refused, once a second: a flood of connections must not be one of log lines.
func (t *Transport) watch(ctx context.Context) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	told, toldAt := int64(0), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			t.look(now)
			if refused := t.door.refused.Load(); refused != told && now.Sub(toldAt) >= time.Second {
				t.log.Warn("connections refused: too many", "refused", refused-told, "max_connections", t.options.Load().MaxConnections,
					"max_connections_per_address", t.options.Load().MaxConnectionsPerAddress)
				told, toldAt = refused, now
			}
		}
	}
}

// look is one turn of watch.
func (t *Transport) look(now time.Time) {
	var slow []*peer
	tight := t.held.Load() > int64(t.options.Load().InboundBytes)
	t.mu.Lock()
	for p, measure := range t.peers {
		switch why := p.overdue(now); {
		case why != nil:
			p.Close(why)
		case p.full.Load() && measure != nil:
			measure()
		}
		if tight && p.partial.Load() > 0 {
			slow = append(slow, p)
		}
	}
	t.mu.Unlock()
	if !tight {
		return
	}
	slices.SortFunc(slow, func(a, b *peer) int { return cmp.Compare(a.sinceMs.Load(), b.sinceMs.Load()) })
	over := t.held.Load() - int64(t.options.Load().InboundBytes)
	for _, p := range slow {
		if over <= 0 {
			return
		}
		over -= p.partial.Load()
		p.Close(kite.Errorf(kite.Busy, "frames that are not whole hold more than inbound_bytes, %v, together: this one has waited longest", t.options.Load().InboundBytes))
	}
}
