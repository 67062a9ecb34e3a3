package clienttest

import (
	"errors"
	"slices"
	"sync"

	"github.com/kiteq/kiteq/internal/kite"
)

// Relay makes the broker deliver: each committed message once to every group that is bound to it in
// the registry, to the newest connection of the group on this broker, and again after a nack, at
// once, until its deliver limit. A message waits while nobody of the group is connected. Prepared
// messages wait for their verdict.
// What was sent on a connection that broke before its ack is not sent again.
func (b *Broker) Relay(r *Registry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.relay = &relay{broker: b, registry: r, prepared: map[string]Published{}, sent: map[uint32]*letter{}}
}

// relay's methods do nothing on nil: a broker that does not relay.
type relay struct {
	broker   *Broker
	registry *Registry

	mu       sync.Mutex
	prepared map[string]Published
	waiting  []*letter // for somebody of their group
	sent     map[uint32]*letter
}

// letter is a message on its way to a group.
type letter struct {
	Published
	to       string
	attempts int32
}

func (r *relay) stored(p Published) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !p.Commit {
		r.prepared[p.ID] = p
		return
	}
	r.routeLocked(p)
}

func (r *relay) decided(v Verdict) {
	if r == nil || v.Status == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.prepared[v.ID]
	delete(r.prepared, v.ID)
	if ok && v.Status == 1 {
		r.routeLocked(p)
	}
}

func (r *relay) routeLocked(p Published) {
	for group, bindings := range r.registry.Bindings(p.Topic) {
		if m, err := kite.NewMatcher(bindings); err == nil && m.Matches([]byte(p.Type)) {
			r.sendLocked(&letter{Published: p, to: group})
		}
	}
}

func (r *relay) sendLocked(l *letter) {
	opaque, err := r.broker.Deliver(l.to, l.Published)
	if errors.Is(err, errNobody) {
		r.waiting = append(r.waiting, l)
		return
	}
	l.attempts++
	r.sent[opaque] = l
}

func (r *relay) acked(a Ack) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l, ok := r.sent[a.Opaque]
	delete(r.sent, a.Opaque)
	if ok && !a.OK && l.attempts < l.DeliverLimit {
		r.sendLocked(l)
	}
}

// connected tries again what waits.
func (r *relay) connected() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := slices.Clone(r.waiting)
	r.waiting = nil
	for _, l := range waiting {
		r.sendLocked(l)
	}
}
