package registrytest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

// linked opens a session whose link the case will cut, or skips the case.
func linked(t *testing.T, e Env, timeout time.Duration) *Session {
	t.Helper()
	s := e.Open(t, timeout)
	if s.Cut == nil {
		t.Skip("this registry has no link")
	}
	return s
}

// cut breaks the link and waits until the session knows.
func (s *Session) cut(t *testing.T) {
	t.Helper()
	s.Cut()
	eventually(t, "the cut is noticed", func() bool { return s.Ready() != nil })
	if err := s.Ready(); !errors.Is(err, kite.Unavailable) {
		t.Errorf("Ready without a link is %v, want code %v", err, kite.Unavailable)
	}
}

func (s *Session) heal(t *testing.T) {
	t.Helper()
	s.Heal()
	eventually(t, "the link is back", func() bool { return s.Ready() == nil })
}

func shortCut(t *testing.T, e Env) {
	look := e.look(t)
	broker := linked(t, e, e.Long)
	must(t, broker.Announce(patient(t), addr1, []string{"trade"}))
	seen := bindings(t, broker, "trade")
	seen.next("the first picture")
	before := look.ephemeral(registry.BrokerNode("trade", addr1))
	broker.cut(t)
	broker.heal(t)
	after := look.ephemeral(registry.BrokerNode("trade", addr1))
	if after.EphemeralOwner == before.EphemeralOwner && after.Czxid != before.Czxid {
		t.Error("a disconnect made the broker's node anew")
	}
	must(t, e.Open(t, e.Long).Bind(patient(t), []kite.Binding{kite.Fanout("s-a", "trade")}))
	seen.until("a change after the cut", bound("trade", "s-a"))
}

func changeDuringCut(t *testing.T, e Env) {
	broker, consumer := linked(t, e, e.Long), e.Open(t, e.Long)
	must(t, consumer.Bind(patient(t), []kite.Binding{kite.Fanout("s-a", "trade"), kite.Fanout("s-a", "message")}))
	seen := bindings(t, broker, "trade", "message", "relation")
	seen.until("s-a", bound("trade", "s-a"))
	who := brokers(t, broker, "trade")
	who.until("nobody", serves("trade"))
	broker.cut(t)
	must(t, consumer.Unbind(patient(t), "message", "s-a"))
	must(t, consumer.Bind(patient(t), []kite.Binding{kite.Direct("s-a", "trade", "x")}))
	must(t, consumer.Bind(patient(t), []kite.Binding{kite.Fanout("s-b", "relation")}))
	must(t, consumer.Announce(patient(t), addr2, []string{"trade"}))
	broker.heal(t)
	seen.until("what changed meanwhile", func(b registry.Bindings) bool {
		return bound("message")(b) && bound("relation", "s-b")(b) && bound("trade", "s-a")(b) &&
			b["trade"][0].Bindings[0].MessageType == "x"
	})
	who.until("the broker that came meanwhile", serves("trade", addr2))
}

func longCut(t *testing.T, e Env) {
	broker, client := linked(t, e, e.Short), e.Open(t, e.Long)
	must(t, broker.Announce(patient(t), addr1, []string{"trade", "message"}))
	must(t, client.Bind(patient(t), []kite.Binding{kite.Fanout("s-a", "trade")}))
	own := bindings(t, broker, "trade", "later")
	own.until("s-a", bound("trade", "s-a"))
	seen := brokers(t, client, "trade", "message")
	seen.until("the broker", serves("trade", addr1))
	broker.cut(t)
	seen.until("the session expired on trade", serves("trade"))
	seen.until("the session expired on message", serves("message"))
	must(t, client.Bind(patient(t), []kite.Binding{kite.Fanout("s-b", "trade")}))
	broker.heal(t)
	seen.until("announced again on trade", serves("trade", addr1))
	seen.until("announced again on message", serves("message", addr1))
	own.until("the complete picture", bound("trade", "s-a", "s-b"))
	// The new session watches, the nodes there were as well as those that come.
	must(t, client.Bind(patient(t), []kite.Binding{kite.Fanout("s-c", "later")}))
	must(t, client.Unbind(patient(t), "trade", "s-a"))
	own.until("changes after the expiry", func(b registry.Bindings) bool {
		return bound("trade", "s-b")(b) && bound("later", "s-c")(b)
	})
	if e.Raw != nil {
		look := e.look(t)
		eventually(t, "the broker is alive again", func() bool {
			_, found := look.stat(registry.AliveNode(addr1))
			return found
		})
	}
}

func announceWhileCut(t *testing.T, e Env) {
	broker := linked(t, e, e.Short)
	must(t, broker.CreateTopics(patient(t), []string{"trade"}))
	broker.cut(t)
	announced := make(chan error, 1)
	ctx := patient(t)
	go func() { announced <- broker.Announce(ctx, addr1, []string{"trade"}) }()
	seen := brokers(t, e.Open(t, e.Long), "trade")
	seen.next("the first picture")
	broker.heal(t)
	must(t, <-announced)
	seen.until("the broker", serves("trade", addr1))
}

func withdrawnStaysWithdrawn(t *testing.T, e Env) {
	broker := linked(t, e, e.Short)
	must(t, broker.Announce(patient(t), addr1, []string{"trade"}))
	seen := brokers(t, e.Open(t, e.Long), "trade")
	seen.until("the broker", serves("trade", addr1))
	broker.cut(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := broker.Withdraw(ctx); err == nil {
		t.Error("Withdraw without a link succeeded")
	}
	seen.until("the session expired", serves("trade"))
	broker.heal(t)
	// What is done on the new session comes after a repetition of the announcement would have.
	must(t, broker.Announce(patient(t), addr1, []string{"message"}))
	if got := brokers(t, broker, "trade").next("a fresh picture"); !serves("trade")(got) {
		t.Errorf("trade is served by %v after Withdraw", got["trade"])
	}
}

// withdrawingIsCompleted: what could not be withdrawn goes when the same session is connected again.
func withdrawingIsCompleted(t *testing.T, e Env) {
	broker := linked(t, e, e.Long)
	must(t, broker.Announce(patient(t), addr1, []string{"trade"}))
	seen := brokers(t, e.Open(t, e.Long), "trade")
	seen.until("the broker", serves("trade", addr1))
	broker.cut(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := broker.Withdraw(ctx); err == nil {
		t.Error("Withdraw without a link succeeded")
	}
	broker.heal(t)
	seen.until("nobody", serves("trade"))
	if err := broker.Ready(); err != nil {
		t.Errorf("the session is gone too: %v", err)
	}
}

// producersOutliveSession: a client announces no broker, and yet has something to announce again.
func producersOutliveSession(t *testing.T, e Env) {
	look := e.look(t)
	client := linked(t, e, e.Short)
	must(t, client.AddProducer(patient(t), "trade", "p-a", "web1"))
	node := registry.ProducerNode("trade", "p-a", "web1")
	look.ephemeral(node)
	client.cut(t)
	eventually(t, "the session expired", func() bool { _, found := look.stat(node); return !found })
	client.heal(t)
	eventually(t, "the producer is there again", func() bool { _, found := look.stat(node); return found })
}

func serverRestarts(t *testing.T, e Env) {
	if e.Restart == nil {
		t.Skip("this registry's server cannot be restarted")
	}
	broker, client := e.Open(t, e.Long), e.Open(t, e.Long)
	must(t, broker.Announce(patient(t), addr1, []string{"trade"}))
	must(t, client.Bind(patient(t), []kite.Binding{kite.Fanout("s-a", "trade")}))
	seen, own := brokers(t, client, "trade"), bindings(t, broker, "trade")
	seen.until("the broker", serves("trade", addr1))
	since := only(t, own.until("s-a", bound("trade", "s-a")), "trade").SinceMs
	e.Restart()
	must(t, client.Bind(patient(t), []kite.Binding{kite.Fanout("s-b", "trade")}))
	got := own.until("both groups", bound("trade", "s-a", "s-b"))
	if got["trade"][0].SinceMs != since {
		t.Errorf("s-a is bound since %d, before the restart %d", got["trade"][0].SinceMs, since)
	}
	must(t, broker.Announce(patient(t), addr1, []string{"trade", "message"}))
	if got := brokers(t, client, "trade", "message").next("a fresh picture"); !serves("trade", addr1)(got) || !serves("message", addr1)(got) {
		t.Errorf("after the restart %v serve, want %s on both topics", got, addr1)
	}
}

// serverIsWiped covers the server that knows neither the session nor as many changes as the client.
func serverIsWiped(t *testing.T, e Env) {
	if e.Wipe == nil {
		t.Skip("this registry's server keeps its data")
	}
	broker, client := e.Open(t, e.Short), e.Open(t, e.Short)
	must(t, broker.Announce(patient(t), addr1, []string{"trade"}))
	must(t, client.Bind(patient(t), []kite.Binding{kite.Fanout("s-a", "trade")}))
	must(t, client.Bind(patient(t), []kite.Binding{kite.Direct("s-gone", "trade", "x")}))
	seen, own := brokers(t, client, "trade"), bindings(t, broker, "trade")
	seen.until("the broker", serves("trade", addr1))
	own.until("both groups", bound("trade", "s-a", "s-gone"))
	must(t, client.Unbind(patient(t), "trade", "s-gone"))
	own.until("s-a", bound("trade", "s-a"))
	e.Wipe()
	// The watch holds the last copy of what was bound, and gives it back.
	look := e.look(t)
	eventually(t, "s-a is bound again", func() bool {
		found, _, err := look.conn.Exists(look.root + registry.BindingNode("trade", "s-a"))
		return err == nil && found
	})
	must(t, client.Bind(patient(t), []kite.Binding{kite.Fanout("s-b", "trade")}))
	for got := own.next("s-b"); !bound("trade", "s-a", "s-b")(got); got = own.next("s-b") {
		if !bound("trade", "s-a")(got) {
			t.Errorf("meanwhile the picture was %v", got)
		}
	}
	if _, found := look.stat(registry.BindingNode("trade", "s-gone")); found {
		t.Error("a group that had left is bound again")
	}
	// A fresh watch shows what the server holds, and not what was remembered.
	brokers(t, e.Open(t, e.Short), "trade").until("announced again", serves("trade", addr1))
	seen.until("still or again seen", serves("trade", addr1))
}
