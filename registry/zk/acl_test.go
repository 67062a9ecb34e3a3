package zk_test

import (
	"errors"
	"fmt"
	"testing"

	libzk "github.com/go-zookeeper/zk"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/zktest"
	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/registry/zk"
)

// digestACLs: with acl=digest a stranger cannot pose as a broker, take one away or unbind a group, also where the
// nodes were open before; and a client without credentials binds and publishes as ever.
func digestACLs(t *testing.T, server *zktest.Server) {
	const root = "/digest"
	everybody := libzk.WorldACL(libzk.PermAll)
	raw := zktest.Raw(t, server.Addr()) // an old client, or somebody else without credentials
	for _, path := range []string{root, root + "/kiteq", root + registry.TopicsDir, root + registry.TopicNode("trade")} {
		_, err := raw.Create(path, nil, 0, everybody) // an old broker was here
		mustNot(t, err)
	}
	o, err := zk.ParseURL(fmt.Sprintf("zk://kite:secret@%s%s?acl=digest", server.Addr(), root))
	mustNot(t, err)
	o.SessionTimeout = zktest.MaxSession
	broker := zktest.OpenRegistry(t, o)
	const addr = "10.0.0.1:13800"
	mustNot(t, broker.Announce(t.Context(), addr, []string{"trade"}))
	mustNot(t, broker.Bind(t.Context(), []kite.Binding{kite.Fanout("s-ours", "trade")}))

	node := root + registry.BrokerNode("trade", addr)
	create := func(path string) error {
		_, err := raw.Create(path, []byte("[]"), 0, everybody)
		return err
	}
	for name, forbidden := range map[string]error{
		"take a broker away":  raw.Delete(node, -1),
		"take its life away":  raw.Delete(root+registry.AliveNode(addr), -1),
		"pose as a broker":    create(root + registry.BrokerNode("trade", "10.6.6.6:666")),
		"serve another topic": create(root + registry.TopicNode("fee")),
		"open a node":         func() error { _, err := raw.SetACL(root+registry.TopicNode("trade"), everybody, -1); return err }(),
		"unbind a group":      raw.Delete(root+registry.BindingNode("trade", "s-ours"), -1),
		"bind a group that protects": func() error {
			_, err := raw.Set(root+registry.BindingNode("trade", "s-ours"), []byte("[]"), -1)
			return err
		}(),
		"take the bindings' node":     raw.Delete(root+registry.BindingsNode("trade"), -1),
		"make something beside kiteq": create(root + registry.AliveDir + "/x"),
	} {
		if !errors.Is(forbidden, libzk.ErrNoAuth) {
			t.Errorf("%s: %v", name, forbidden)
		}
	}

	children, _, err := raw.Children(root + registry.TopicNode("trade"))
	if err != nil || len(children) != 1 || children[0] != addr {
		t.Errorf("an old client finds the brokers %v, %v", children, err)
	}
	mustNot(t, create(root+registry.BindingNode("trade", "s-old")))
	_, err = raw.Set(root+registry.BindingNode("trade", "s-old"), []byte("[ ]"), -1)
	mustNot(t, err)
	mustNot(t, create(root+registry.ProducersNode("trade")+"/p-old"))
	mustNot(t, create(root+registry.ProducerNode("trade", "p-old", "host")))
	mustNot(t, raw.Delete(root+registry.ProducerNode("trade", "p-old", "host"), -1))
	stranger := zktest.OpenRegistry(t, zk.Options{Hosts: o.Hosts, Root: root, SessionTimeout: zktest.MaxSession})
	mustNot(t, stranger.Bind(t.Context(), []kite.Binding{kite.Fanout("s-new", "trade")}))

	mustNot(t, broker.Announce(t.Context(), addr, []string{"trade", "fee"})) // its own nodes do not stop it
	mustNot(t, broker.Withdraw(t.Context()))
	if found, _, err := raw.Exists(node); err != nil || found {
		t.Errorf("withdrawn, and there: %v, %v", found, err)
	}
}
