package server

import (
	"cmp"
	"context"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/server/page"
	"github.com/kiteq/kiteq/store"
)

var _ page.Broker = (*Server)(nil)

// meet follows who else serves the topics, for the page, and no longer those of the topics before.
func (s *Server) meet(crew *crew, topics []string) {
	if s.page == nil {
		return
	}
	crew.stop("brokers")
	crew.start("brokers", func(ctx context.Context) error {
		return s.registry.WatchBrokers(ctx, topics, func(b registry.Brokers) { s.brokers.Store(&b) })
	})
}

// Brokers implements page.Broker. What the registry last said is told with the error while it is away.
func (s *Server) Brokers(context.Context) (operate.Brokers, error) {
	topics := map[string]int{}
	picture := s.brokers.Load()
	if picture != nil {
		for _, addresses := range *picture {
			for _, address := range addresses {
				topics[address]++
			}
		}
	}
	var all operate.Brokers
	add := func(b operate.Broker) {
		b.Topics = topics[b.Address]
		delete(topics, b.Address)
		all.Brokers = append(all.Brokers, b)
	}
	select {
	case <-s.started:
		add(operate.Broker{Address: s.advertised, Self: true})
	default: // the address is not settled
	}
	s.guests.Range(func(guest, held any) bool {
		add(operate.Broker{Address: guest.(*Server).Addr(), Hosts: held.(store.Held).Broker})
		return true
	})
	own := len(all.Brokers)
	for address := range topics {
		add(operate.Broker{Address: address})
	}
	slices.SortFunc(all.Brokers[own:], func(a, b operate.Broker) int { return cmp.Compare(a.Address, b.Address) })
	err := s.registry.Ready()
	if err == nil && picture == nil {
		err = kite.Errorf(kite.Unavailable, "the registry was not read yet")
	}
	return all, err
}
