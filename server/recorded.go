package server

import (
	"context"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// tellRecorded tells what no flow can: that nobody is bound to the message's topic, which bindings are left out, and
// how it stands with each group that is not among seen: one that is not bound any more, or was bound a moment ago.
func (s *Server) tellRecorded(ctx context.Context, m told, seen map[string]bool) (events []operate.Event, err error) {
	standings, err := s.lane.Standings(ctx, m.topic, "")
	if err != nil {
		return nil, err
	}
	routes := 0
	for _, route := range s.exchange.Routes() {
		if route.Topic != m.topic {
			continue
		}
		if routes++; !seen[route.Group] {
			seen[route.Group] = true
			events = append(events, operate.Event{What: operate.Waiting, Group: route.Group, Text: "bound a moment ago; its deliveries are about to begin"})
		}
	}
	if routes == 0 { // whoever has a flow was bound
		events = append(events, operate.Event{What: operate.Unrouted, Text: "no group is bound to topic " + m.topic})
	}
	for _, bad := range *s.bad.Load() {
		if bad.Topic == m.topic {
			events = append(events, operate.Event{What: operate.BadBound, Group: bad.Group, Text: "a binding is left out: " + bad.Error})
		}
	}
	for _, standing := range standings {
		if !seen[standing.Group] {
			events = append(events, operate.Event{What: operate.Unknown, Group: standing.Group, Text: "no longer bound; " + settledText(standing.Standing, m.seq)})
		}
	}
	return events, nil
}

func settledText(standing *kite.Standing, seq kite.Seq) string {
	if standing.Contains(seq) {
		return "it had answered or passed over the message"
	}
	return "it had not answered the message"
}
