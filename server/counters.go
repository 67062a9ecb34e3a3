package server

import (
	"context"

	"github.com/kiteq/kiteq/handler/deliver"
	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/server/admin"
)

var _ admin.Broker = (*Server)(nil)

// Counters implements admin.Broker. It waits for the flows, until ctx ends.
func (s *Server) Counters(ctx context.Context) (admin.Counters, error) {
	flows, err := s.flows(ctx)
	if err != nil {
		return admin.Counters{}, err
	}
	received, network, delays := s.handler.Stats(), s.transport.Stats(), s.scheduler.Stats()
	c := admin.Counters{
		Topics: *s.topics.Load(), Classes: s.lane.Classes(), Received: received.Received,
		Accepted: received.Accepted, AcceptLimit: s.live.Load().AcceptPerSecond,
		Flows: flows, BadBindings: s.badBindings.Load(), Groups: map[string][]string{},
		Delayed: s.lane.Delayed(), DelayedNear: delays.Entries, DelayedMinutes: delays.Minutes,
		Waiting: s.lane.Depth(), WaitingMax: s.live.Load().Lane.InboxItems,
		Reads: network.Reads, ReadBytes: network.ReadBytes,
		Writes: network.Writes, WriteBytes: network.WriteBytes, Connections: network.Connections,
		Acked: received.Acked, Sent: s.dispatcher.Totals().Waited,
	}
	s.directory.Groups(func(group string, members []*session.Session) {
		for _, m := range members {
			c.Groups[group] = append(c.Groups[group], m.Conn.RemoteAddr())
			c.InFlight += m.InFlight()
		}
	})
	return c, nil
}

// flows describes every route. One that the dispatcher does not know yet has delivered nothing.
func (s *Server) flows(ctx context.Context) ([]admin.Flow, error) {
	stats, err := s.dispatcher.Stats(ctx)
	if err != nil {
		return nil, err
	}
	known := make(map[[2]string]deliver.FlowStats, len(stats))
	for _, f := range stats {
		known[[2]string{f.Topic, f.Group}] = f
	}
	routes := s.exchange.Routes()
	flows := make([]admin.Flow, len(routes))
	for i := range routes {
		route := &routes[i]
		f := known[[2]string{route.Topic, route.Group}]
		flows[i] = admin.Flow{
			Topic: route.Topic, Group: route.Group,
			Acquired: f.Acquired, Delivered: f.Acquired + f.Flown, Limit: s.live.Load().Delivery.Watermark,
		}
		if w := route.Watermark(); w > 0 {
			flows[i].Limit = int(w)
		}
		if route.Durable() {
			flows[i].Backlog = f.Unsettled
		}
	}
	return flows, nil
}
