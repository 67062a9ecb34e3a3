package server

import (
	"maps"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
	"github.com/kiteq/kiteq/registry"
)

// maxComplaints bounds the memory of which bad bindings were logged.
const maxComplaints = 10_000

// bindings compiles every picture of the registry into routes. loaded is closed after the first.
func (s *Server) bindings(loaded chan struct{}) func(bindings registry.Bindings) {
	first := true
	complained := map[string]bool{}
	complain := func(topic, group string, bad error) {
		if complained[bad.Error()] {
			return
		}
		if len(complained) >= maxComplaints {
			clear(complained)
		}
		complained[bad.Error()] = true
		s.badBindings.Add(1)
		s.log.Warn("binding left out", "topic", topic, "group", group, "err", bad)
	}
	return func(bindings registry.Bindings) {
		var routes []kite.Route
		var left []operate.BadBinding
		for topic, groups := range bindings {
			for _, g := range groups {
				for _, bad := range slices.Concat(g.Bad, s.tooLong(&g)) {
					left = append(left, operate.BadBinding{Topic: topic, Group: g.Group, Error: bad.Error()})
					complain(topic, g.Group, bad)
				}
				if len(g.Bindings) > 0 && !s.maySubscribe(topic, g.Group) {
					bad := kite.Errorf(kite.Unauthorized, "group %s may not subscribe to topic %s: the rules in [auth] file have it not", g.Group, topic)
					left = append(left, operate.BadBinding{Topic: topic, Group: g.Group, Error: bad.Error()})
					complain(topic, g.Group, bad)
					continue
				}
				if len(g.Bindings) > 0 {
					routes = append(routes, kite.Route{Topic: topic, Group: g.Group, Bindings: g.Bindings, SinceMs: g.SinceMs})
				}
			}
		}
		s.bad.Store(&left)
		s.exchange.Swap(slices.Collect(maps.Keys(bindings)), routes)
		s.dispatcher.Routes(s.exchange.Routes())
		s.log.Info("bindings read", "routes", len(routes))
		if first {
			first = false
			close(loaded)
		}
	}
}
