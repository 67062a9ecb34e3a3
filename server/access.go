package server

import (
	"context"
	"crypto/tls"
	"net"
	"slices"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/handler/access"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/server/admin"
)

// warnOpen names at each start what protects nobody because it is not set.
func (s *Server) warnOpen() {
	c := s.config
	var open []string
	if c.Auth.File == "" {
		open = append(open, "anybody may publish, subscribe and decide transactions ([auth] file)")
	}
	if !c.TLS.Only && !loopback(c.Bind) {
		open = append(open, "messages and keys cross the network readable ([tls] listen and only)")
	}
	if adminPort(c) >= 0 && len(c.Rules.Operators) == 0 && !(c.TLS.Admin && c.TLS.ClientCA != "") {
		open = append(open, "whoever reaches "+net.JoinHostPort(c.AdminHost, "the operators' port")+" operates the broker ([operators] of the auth file)")
	}
	if url, err := conf.ParseRegistry(c.ZKHost); err == nil && url.ZK != nil && !url.ZK.Protect {
		open = append(open, "whoever reaches ZooKeeper poses as a broker and binds groups (acl=digest in -zkhost)")
	}
	if len(open) > 0 {
		s.log.Warn("not protected, for want of a setting", "open", open)
	}
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// tooLong takes the bindings out of the group's whose pattern is longer than allowed, and says why.
func (s *Server) tooLong(g *registry.GroupBindings) (bad []error) {
	for _, b := range g.Bindings {
		if err := s.config.Accept.CheckPattern(b); err != nil {
			bad = append(bad, err)
		}
	}
	if len(bad) > 0 {
		g.Bindings = slices.DeleteFunc(slices.Clone(g.Bindings), func(b kite.Binding) bool { return s.config.Accept.CheckPattern(b) != nil })
	}
	return bad
}

// maySubscribe tells whether messages of the topic may go to the group.
func (s *Server) maySubscribe(topic, group string) bool {
	return s.gate == nil || s.gate.MaySubscribe(group, topic)
}

// operators is the gate as the operators' port sees it.
type operators struct{ *access.Gate }

// Asks implements admin.Guard.
func (o operators) Asks() bool { return o.HasOperators() }

// Operator implements admin.Guard.
func (o operators) Operator(ctx context.Context, name, token, remote string) (bool, error) {
	role, err := o.Gate.Operator(ctx, name, token, remote)
	return role == access.Operate, err
}

// Certified implements admin.Guard.
func (o operators) Certified(name string) (bool, error) {
	role, err := o.Gate.Certified(name)
	return role == access.Operate, err
}

// secureAdmin gives the operators' port TLS and its guard, as far as they are set. Certificates are demanded when
// nothing else would tell who comes.
func (s *Server) secureAdmin() {
	var config *tls.Config
	if s.config.TLS.Admin {
		config = s.certificates.Optional(func() bool { return s.gate == nil || !s.gate.HasOperators() })
	}
	var guard admin.Guard
	if s.gate != nil {
		guard = operators{s.gate}
	}
	s.admin.Secure(config, guard)
}

// rules returns those in force.
func (s *Server) rules() access.Rules {
	if s.gate == nil {
		return s.config.Rules
	}
	return s.gate.Rules()
}

// changeRules puts the rules of a new configuration in force: members whose key is no longer good are sent away,
// and bindings are looked at anew. It runs in the goroutine of Run.
func (s *Server) changeRules(ctx context.Context, crew *crew, c conf.Config) error {
	switch {
	case s.gate == nil && c.Auth.File == "":
		return nil
	case s.gate == nil || c.Auth.File == "":
		s.log.Warn("[auth] file is set or no longer set: that counts from the next start on")
		return nil
	}
	revoked := s.gate.Swap(c.Rules)
	if len(revoked) > 0 {
		s.log.Info("keys are no longer good: their members are sent away", "groups", revoked)
		s.handler.Expel(func(group string) bool {
			return slices.Contains(revoked, s.gate.Rule(group)) || slices.Contains(revoked, group)
		},
			kite.Errorf(kite.Unauthorized, "the rules have changed: the key must be shown again"))
	}
	s.reloadGuests(ctx)
	ctx, cancel := context.WithTimeout(ctx, registryPatience)
	defer cancel()
	return loadedBy(ctx, s.watch(crew, *s.topics.Load()))
}
