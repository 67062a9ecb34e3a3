package server

import (
	"context"
	"fmt"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// tellRecorded says how a committed message stands with each group of the topic that is not among seen: one that
// has no flow, since it is not bound any more, or was bound a moment ago.
func (s *Server) tellRecorded(ctx context.Context, m told, facts []fact, seen map[string]bool) (events []operate.Event, err error) {
	standings, err := s.lane.Standings(ctx, m.topic, "")
	if err != nil {
		return nil, err
	}
	stood := map[string]*kite.Standing{}
	for _, standing := range standings {
		if !seen[standing.Group] {
			stood[standing.Group] = standing.Standing
		}
	}
	routes := 0
	for _, route := range s.exchange.Routes() {
		if route.Topic != m.topic {
			continue
		}
		if routes++; seen[route.Group] {
			continue
		}
		standing := stood[route.Group]
		if standing == nil {
			standing = &kite.Standing{}
		}
		delete(stood, route.Group)
		e := s.tellGroup(&route, standing, m, facts)
		e.Group = route.Group
		events = append(events, e)
	}
	if routes == 0 { // whoever has a flow was bound
		events = append(events, operate.Event{What: operate.Unrouted, Text: "no group is bound to topic " + m.topic})
	}
	for _, bad := range *s.bad.Load() {
		if bad.Topic == m.topic {
			events = append(events, operate.Event{What: operate.BadBound, Group: bad.Group, Text: "a binding is left out: " + bad.Error})
		}
	}
	for group, standing := range stood {
		events = append(events, operate.Event{What: operate.Unknown, Group: group, Text: "no longer bound; " + settledText(standing, m.seq)})
	}
	return events, nil
}

func settledText(standing *kite.Standing, seq kite.Seq) string {
	if standing.Contains(seq) {
		return "it had answered or passed over the message"
	}
	return "it had not answered the message"
}

// tellGroup tells of a bound group, the first reason that holds.
func (s *Server) tellGroup(route *kite.Route, standing *kite.Standing, m told, facts []fact) operate.Event {
	matcher, _ := kite.NewMatcher(route.Bindings) // what is bad in them was logged
	retry, armed := standing.Retries[m.seq]
	switch {
	case !matcher.Matches([]byte(m.messageType)):
		return operate.Event{What: operate.Unmatched, Text: fmt.Sprintf("no binding of the group takes the type %q; the nearest is %s", m.messageType, nearest(route.Bindings, m.messageType))}
	case buried(facts, route.Group):
		return operate.Event{What: operate.Settled, Text: "ended in the dead letters"}
	case standing.Contains(m.seq) && m.storedMs < route.SinceMs-s.config.Delivery.BindSkew.Milliseconds():
		return operate.Event{What: operate.Unmatched, Text: "bound since " + moment(route.SinceMs) + ", after the message was stored"}
	case standing.Contains(m.seq):
		return operate.Event{What: operate.Settled, Text: "delivered and answered, or passed over"}
	case armed:
		return operate.Event{AtMs: retry.DueMs, What: operate.Armed, Text: fmt.Sprintf("attempt %d failed; the next is due", retry.Attempts)}
	case standing.Paused:
		return operate.Event{What: operate.Waiting, Text: "an operator has paused the group"}
	case !s.directory.Online(route.Group):
		return operate.Event{What: operate.Waiting, Text: "nobody of the group is connected to this broker"}
	}
	return operate.Event{What: operate.Waiting, Text: fmt.Sprintf("not answered yet; the group has settled what is below seq %d", standing.Floor())}
}

// buried tells whether the message is among the group's dead letters, as the newest that is known of it there.
func buried(facts []fact, group string) bool {
	for i := len(facts) - 1; i >= 0; i-- {
		if f := &facts[i]; string(f.Group) == group && f.Kind == kite.KindDead {
			return true
		}
	}
	return false
}

// nearest describes the binding whose text is most like the type.
func nearest(bindings []kite.Binding, messageType string) string {
	i := kite.Nearest(bindings, messageType)
	if i < 0 {
		return "none"
	}
	return fmt.Sprintf("%s %q", bindings[i].Type, bindings[i].MessageType)
}
