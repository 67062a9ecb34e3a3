package registrytest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

const (
	addr1 = "10.0.0.1:13800"
	addr2 = "10.0.0.2:13800"
)

// serves tells whether exactly these addresses serve the topic.
func serves(topic string, addrs ...string) func(registry.Brokers) bool {
	return func(b registry.Brokers) bool {
		got, asked := b[topic]
		return asked && slices.Equal(got, addrs)
	}
}

func topicsAreCreated(t *testing.T, e Env) {
	s := e.Open(t, e.Long)
	must(t, s.CreateTopics(patient(t), []string{"trade", "message"}))
	must(t, s.CreateTopics(patient(t), []string{"message", "relation"}))
	first := brokers(t, s, "trade", "message", "relation").next("the first picture")
	if len(first) != 3 || len(first["trade"])+len(first["message"])+len(first["relation"]) != 0 {
		t.Errorf("the first picture is %v, want three topics without brokers", first)
	}
	if err := s.CreateTopics(patient(t), []string{"fine", "not/fine"}); !errors.Is(err, kite.Invalid) {
		t.Errorf("a topic with a slash: %v, want code %v", err, kite.Invalid)
	}
	look := e.look(t)
	for _, topic := range []string{"trade", "message", "relation"} {
		for _, node := range registry.Persistent(topic) {
			look.persistent(node)
		}
	}
	look.absent(registry.TopicNode("fine"))
}

func announceAndWithdraw(t *testing.T, e Env) {
	broker, client := e.Open(t, e.Long), e.Open(t, e.Long)
	seen := brokers(t, client, "trade", "message", "relation")
	seen.next("the first picture, before any topic exists")
	must(t, broker.Announce(patient(t), addr1, []string{"trade", "message"}))
	seen.until("the broker on trade", serves("trade", addr1))
	seen.until("the broker on message", serves("message", addr1))
	if got := seen.last["relation"]; len(got) != 0 {
		t.Errorf("relation is served by %v, nobody announced it", got)
	}
	if e.Raw != nil {
		look := e.look(t)
		look.ephemeral(registry.BrokerNode("trade", addr1))
		look.ephemeral(registry.BrokerNode("message", addr1))
		look.ephemeral(registry.AliveNode(addr1))
		look.persistent(registry.KnownNode(addr1))
		defer func() {
			look.absent(registry.BrokerNode("trade", addr1))
			look.absent(registry.AliveNode(addr1))
			look.persistent(registry.KnownNode(addr1))
		}()
	}
	must(t, broker.Withdraw(patient(t)))
	must(t, broker.Withdraw(patient(t)))
	seen.until("nobody on trade", serves("trade"))
	seen.until("nobody on message", serves("message"))
}

func announceReplacesTopics(t *testing.T, e Env) {
	broker := e.Open(t, e.Long)
	seen := brokers(t, broker, "a", "b", "c")
	must(t, broker.Announce(patient(t), addr1, []string{"a", "b"}))
	seen.until("a", serves("a", addr1))
	seen.until("b", serves("b", addr1))
	must(t, broker.Announce(patient(t), addr1, []string{"c", "b"}))
	seen.until("c", serves("c", addr1))
	seen.until("no more a", serves("a"))
	if !serves("b", addr1)(seen.last) {
		t.Errorf("b is served by %v, want %s all the time", seen.last["b"], addr1)
	}
	must(t, broker.Announce(patient(t), addr2, []string{"b"}))
	seen.until("the new address", serves("b", addr2))
	seen.until("c is not served", serves("c"))
}

func announceNeedsAddress(t *testing.T, e Env) {
	broker := e.Open(t, e.Long)
	for _, addr := range []string{"", ":13800", "0.0.0.0:13800", "broker1:13800", "[::1]:13800", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:13800/x"} {
		if err := broker.Announce(patient(t), addr, []string{"a"}); !errors.Is(err, kite.Invalid) {
			t.Errorf("announce %q: %v, want code %v", addr, err, kite.Invalid)
		}
	}
	if err := broker.Announce(patient(t), addr1, []string{"not/fine"}); !errors.Is(err, kite.Invalid) {
		t.Errorf("announce a bad topic: %v, want code %v", err, kite.Invalid)
	}
}

func twoBrokers(t *testing.T, e Env) {
	first, second := e.Open(t, e.Long), e.Open(t, e.Long)
	seen := brokers(t, e.Open(t, e.Long), "trade")
	must(t, second.Announce(patient(t), addr2, []string{"trade"}))
	must(t, first.Announce(patient(t), addr1, []string{"trade"}))
	seen.until("both, sorted", serves("trade", addr1, addr2))
	must(t, second.Withdraw(patient(t)))
	seen.until("the first alone", serves("trade", addr1))
}

func leftoverIsReplaced(t *testing.T, e Env) {
	look := e.look(t)
	look.create(registry.BrokerNode("trade", addr1), "", zk.FlagEphemeral)
	look.create(registry.AliveNode(addr1), "", zk.FlagPersistent)
	left := look.ephemeral(registry.BrokerNode("trade", addr1))
	broker := e.Open(t, e.Long)
	seen := brokers(t, e.Open(t, e.Long), "trade")
	seen.until("the leftover", serves("trade", addr1))
	began := time.Now()
	must(t, broker.Announce(patient(t), addr1, []string{"trade"}))
	if took := time.Since(began); took < e.Gap {
		t.Errorf("announced after %v, want the leftover to be away for %v", took, e.Gap)
	}
	seen.until("nobody during the gap", serves("trade"))
	seen.until("the broker", serves("trade", addr1))
	if now := look.ephemeral(registry.BrokerNode("trade", addr1)); now.EphemeralOwner == left.EphemeralOwner {
		t.Errorf("the node is still that of session %#x", left.EphemeralOwner)
	}
	look.ephemeral(registry.AliveNode(addr1))
}

func announcingAgainKeepsGap(t *testing.T, e Env) {
	if e.Gap == 0 {
		t.Skip("this registry keeps no gap")
	}
	broker := e.Open(t, e.Long)
	must(t, broker.Announce(patient(t), addr1, []string{"trade"}))
	seen := brokers(t, e.Open(t, e.Long), "trade")
	seen.until("the broker", serves("trade", addr1))
	began := time.Now()
	must(t, broker.Withdraw(patient(t)))
	must(t, broker.Announce(patient(t), addr1, []string{"trade"}))
	if took := time.Since(began); took < e.Gap {
		t.Errorf("announced %v after it was withdrawn, want %v", took, e.Gap)
	}
	seen.until("nobody during the gap", serves("trade"))
	seen.until("the broker again", serves("trade", addr1))
}

// announcingGoesOn: a call that ends early leaves its wish to the session, which is connected all the time.
func announcingGoesOn(t *testing.T, e Env) {
	broker := e.Open(t, e.Long)
	seen := brokers(t, broker, "trade")
	seen.until("nobody", serves("trade"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = broker.Announce(ctx, addr1, []string{"trade"}) // a node that exists in time is no error
	seen.until("the broker", serves("trade", addr1))
	_ = broker.Withdraw(ctx)
	seen.until("nobody again", serves("trade"))
}

func successorIsLeftAlone(t *testing.T, e Env) {
	old, successor := e.Open(t, e.Long), e.Open(t, e.Long)
	must(t, old.Announce(patient(t), addr1, []string{"trade"}))
	must(t, successor.Announce(patient(t), addr1, []string{"trade"}))
	must(t, old.Withdraw(patient(t)))
	must(t, old.Close())
	if got := brokers(t, e.Open(t, e.Long), "trade").next("the first picture"); !serves("trade", addr1)(got) {
		t.Errorf("trade is served by %v after the old broker went, want the successor", got["trade"])
	}
}

func producers(t *testing.T, e Env) {
	look := e.look(t)
	node := registry.ProducerNode("trade", "p-trade", "web1")
	look.create(node, "", zk.FlagPersistent) // as Go clients leave it
	s := e.Open(t, e.Long)
	must(t, s.AddProducer(patient(t), "trade", "p-trade", "web1"))
	must(t, s.AddProducer(patient(t), "trade", "p-trade", "web1"))
	must(t, s.AddProducer(patient(t), "message", "p-trade", "web1"))
	look.ephemeral(node)
	look.ephemeral(registry.ProducerNode("message", "p-trade", "web1"))
	for _, bad := range []string{"", "..", "a/b"} {
		if err := s.AddProducer(patient(t), "trade", "p-trade", bad); !errors.Is(err, kite.Invalid) {
			t.Errorf("host %q: %v, want code %v", bad, err, kite.Invalid)
		}
	}
	must(t, s.Close())
	look.absent(node)
}

func closeRemoves(t *testing.T, e Env) {
	broker := e.Open(t, e.Long)
	must(t, broker.Announce(patient(t), addr1, []string{"trade"}))
	own := brokers(t, broker, "trade")
	seen := brokers(t, e.Open(t, e.Long), "trade")
	seen.until("the broker", serves("trade", addr1))
	began := time.Now()
	must(t, broker.Close())
	seen.until("nobody", serves("trade"))
	if took := time.Since(began); took > e.Long {
		t.Errorf("the nodes went after %v, with the session's timeout and not with Close", took)
	}
	_ = own.wait() // ends at all
	must(t, broker.Close())
	if err := broker.Ready(); !errors.Is(err, kite.Unavailable) {
		t.Errorf("Ready after Close is %v, want code %v", err, kite.Unavailable)
	}
	if err := broker.Announce(patient(t), addr1, []string{"trade"}); !errors.Is(err, kite.Unavailable) {
		t.Errorf("Announce after Close is %v, want code %v", err, kite.Unavailable)
	}
}
