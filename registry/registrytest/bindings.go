package registrytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sync/errgroup"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

// groups returns the names of those bound on the topic.
func groups(b registry.Bindings, topic string) []string {
	names := []string{}
	for _, g := range b[topic] {
		names = append(names, g.Group)
	}
	return names
}

// bound tells whether exactly these groups are bound on the topic.
func bound(topic string, names ...string) func(registry.Bindings) bool {
	return func(b registry.Bindings) bool {
		_, asked := b[topic]
		return asked && slices.Equal(groups(b, topic), names)
	}
}

// only returns the one group bound on the topic.
func only(t *testing.T, b registry.Bindings, topic string) registry.GroupBindings {
	t.Helper()
	if len(b[topic]) != 1 {
		t.Fatalf("on %s are %v, want one group", topic, groups(b, topic))
	}
	return b[topic][0]
}

func bindReplaceUnbind(t *testing.T, e Env) {
	consumer, broker := e.Open(t, e.Long), e.Open(t, e.Long)
	seen := bindings(t, broker, "trade", "message")
	seen.next("the first picture, without topics")
	first := kite.Direct("s-a", "trade", "pay-succ")
	first.Watermark, first.Durable = 7, false
	must(t, consumer.Bind(patient(t), []kite.Binding{first, kite.Fanout("s-a", "message"), kite.Regx("s-a", "trade", `pay-\d+`)}))
	seen.until("s-a on message", bound("message", "s-a"))
	got := only(t, seen.until("s-a on trade", bound("trade", "s-a")), "trade")
	if want := []kite.Binding{first, kite.Regx("s-a", "trade", `pay-\d+`)}; !slices.Equal(got.Bindings, want) || len(got.Bad) != 0 {
		t.Errorf("bound %+v, want %+v", got, want)
	}
	since := got.SinceMs
	if since <= 0 {
		t.Errorf("SinceMs is %d, want the time of the first bind", since)
	}
	if e.Raw != nil {
		look := e.look(t)
		if stat, found := look.stat(registry.BindingNode("trade", "s-a")); !found || stat.Ctime != since || stat.EphemeralOwner != 0 {
			t.Errorf("the bind node: exists %v, stat %+v; want a persistent one created at %d", found, stat, since)
		}
		if data, want := look.data(registry.BindingNode("message", "s-a")), `[{"groupId":"s-a","topic":"message","messageType":"*","bindType":2,"version":"1.0.0","watermark":0,"persistent":true}]`; data != want {
			t.Errorf("the bind node holds %s, want %s", data, want)
		}
	}
	// Bound again: the data is replaced, the beginning stays. Other topics of the group stay too.
	must(t, consumer.Bind(patient(t), []kite.Binding{kite.Fanout("s-a", "trade")}))
	got = only(t, seen.until("fanout", func(b registry.Bindings) bool {
		return len(b["trade"]) == 1 && len(b["trade"][0].Bindings) == 1
	}), "trade")
	if got.Bindings[0] != kite.Fanout("s-a", "trade") || got.SinceMs != since {
		t.Errorf("bound again: %+v, want fanout since %d", got, since)
	}
	must(t, consumer.Unbind(patient(t), "trade", "s-a"))
	must(t, consumer.Unbind(patient(t), "trade", "s-a"))
	must(t, consumer.Unbind(patient(t), "nowhere", "s-a"))
	seen.until("nobody on trade", bound("trade"))
	if !bound("message", "s-a")(seen.last) {
		t.Errorf("on message are %v, want s-a still", groups(seen.last, "message"))
	}
	must(t, consumer.Bind(patient(t), []kite.Binding{kite.Fanout("s-a", "trade")}))
	if got := only(t, seen.until("s-a again", bound("trade", "s-a")), "trade"); got.SinceMs < since {
		t.Errorf("bound anew since %d, before the first time, %d", got.SinceMs, since)
	}
}

func bindRefuses(t *testing.T, e Env) {
	s := e.Open(t, e.Long)
	for name, bad := range map[string][]kite.Binding{
		"pattern":    {kite.Fanout("s-a", "trade"), kite.Regx("s-a", "message", "(")},
		"topic":      {kite.Fanout("s-a", "trade"), kite.Fanout("s-a", "a/b")},
		"two groups": {kite.Fanout("s-a", "trade"), kite.Fanout("s-b", "trade")},
	} {
		if err := s.Bind(patient(t), bad); !errors.Is(err, kite.Invalid) {
			t.Errorf("%s: %v, want code %v", name, err, kite.Invalid)
		}
	}
	must(t, s.Bind(patient(t), nil))
	if first := bindings(t, s, "trade").next("the first picture"); !bound("trade")(first) {
		t.Errorf("on trade are %v, want nobody after refusals", groups(first, "trade"))
	}
	if err := s.Unbind(patient(t), "a/b", "s-a"); !errors.Is(err, kite.Invalid) {
		t.Errorf("unbind: %v, want code %v", err, kite.Invalid)
	}
}

func brokenBindings(t *testing.T, e Env) {
	look := e.look(t)
	s := e.Open(t, e.Long)
	must(t, s.Bind(patient(t), []kite.Binding{kite.Fanout("s-good", "trade")}))
	const half = `[{"groupId":"s-half","topic":"trade","messageType":"a(","bindType":1,"version":"1.0.0","watermark":0,"persistent":true},` +
		`{"groupId":"s-half","topic":"trade","messageType":"b","bindType":0,"version":"1.0.0","watermark":0,"persistent":true}]`
	look.create(registry.BindingNode("trade", "s-broken"), "{", zk.FlagPersistent)
	look.create(registry.BindingNode("trade", "s-half"), half, zk.FlagPersistent)
	look.create(registry.BindingNode("trade", "s-none"), "[]", zk.FlagPersistent)
	look.create(registry.BindingNode("trade", "s-empty"), "", zk.FlagPersistent)
	look.create(registry.BindingsNode("trade")+"/stranger", "x", zk.FlagPersistent)
	seen := bindings(t, e.Open(t, e.Long), "trade")
	got := seen.until("three groups", bound("trade", "s-broken", "s-good", "s-half"))["trade"]
	for i, want := range []struct{ good, bad int }{{0, 1}, {1, 0}, {1, 1}} {
		if len(got[i].Bindings) != want.good || len(got[i].Bad) != want.bad {
			t.Errorf("%s has bindings %+v, bad %v; want %d and %d", got[i].Group, got[i].Bindings, got[i].Bad, want.good, want.bad)
		}
	}
	for _, g := range []registry.GroupBindings{got[0], got[2]} {
		for _, err := range g.Bad {
			if !errors.Is(err, kite.Invalid) || !strings.Contains(err.Error(), g.Group) || !strings.Contains(err.Error(), "trade") {
				t.Errorf("bad of %s is %q, want code %v, the group and the topic", g.Group, err, kite.Invalid)
			}
		}
	}
	// Repaired, it counts.
	must(t, s.Bind(patient(t), []kite.Binding{kite.Direct("s-broken", "trade", "x")}))
	seen.until("the repaired group", func(b registry.Bindings) bool {
		return len(b["trade"]) == 3 && len(b["trade"][0].Bindings) == 1 && len(b["trade"][0].Bad) == 0
	})
}

func deletionOfOneBindNode(t *testing.T, e Env) {
	look := e.look(t)
	s := e.Open(t, e.Long)
	for _, group := range []string{"s-a", "s-b"} {
		must(t, s.Bind(patient(t), []kite.Binding{kite.Fanout(group, "trade")}))
	}
	seen := bindings(t, e.Open(t, e.Long), "trade")
	seen.until("both", bound("trade", "s-a", "s-b"))
	node := registry.BindingNode("trade", "s-a")
	data := look.data(node)
	alwaysThere := func(wanted func(registry.Bindings) bool) func(registry.Bindings) bool {
		return func(b registry.Bindings) bool {
			if !slices.Contains(groups(b, "trade"), "s-b") {
				t.Errorf("a picture with %v: the deletion of one node took the other group", groups(b, "trade"))
			}
			return wanted(b)
		}
	}
	look.delete(node)
	seen.until("s-b alone", alwaysThere(bound("trade", "s-b")))
	look.create(node, data, zk.FlagPersistent)
	seen.until("both again", alwaysThere(bound("trade", "s-a", "s-b")))
	// Deleted and made again in one transaction: the list of nodes and the data are the same as before.
	was := seen.last["trade"][0].SinceMs
	var stat *zk.Stat
	eventually(t, "a later creation", func() bool {
		look.replace(node, data)
		stat, _ = look.stat(node)
		return stat.Ctime > was
	})
	seen.until("the newest creation", alwaysThere(func(b registry.Bindings) bool {
		return len(b["trade"]) == 2 && b["trade"][0].SinceMs == stat.Ctime
	}))
}

func firstBindsTogether(t *testing.T, e Env) {
	const sessions, each = 3, 4
	var names []string
	group, ctx := errgroup.WithContext(patient(t))
	for i := range sessions {
		s := e.Open(t, e.Long)
		for j := range each {
			name := fmt.Sprintf("s-%d-%d", i, j)
			names = append(names, name)
			group.Go(func() error {
				return s.Bind(ctx, []kite.Binding{kite.Fanout(name, "trade"), kite.Fanout(name, "message")})
			})
		}
	}
	must(t, group.Wait())
	got := bindings(t, e.Open(t, e.Long), "trade", "message").next("the first picture")
	if !bound("trade", names...)(got) || !bound("message", names...)(got) {
		t.Errorf("bound are %v and %v, want %v twice", groups(got, "trade"), groups(got, "message"), names)
	}
}

func topicComesLater(t *testing.T, e Env) {
	s := e.Open(t, e.Long)
	seen := bindings(t, e.Open(t, e.Long), "trade", "trade") // named twice by mistake
	if first := seen.next("the first picture"); !bound("trade")(first) || len(first) != 1 {
		t.Errorf("the first picture is %v, want trade without groups", first)
	}
	must(t, s.CreateTopics(patient(t), []string{"trade"}))
	must(t, s.Bind(patient(t), []kite.Binding{kite.Fanout("s-a", "trade")}))
	seen.until("s-a", bound("trade", "s-a"))
}

// manyChanges makes more of them than any queue holds.
func manyChanges(t *testing.T, e Env) {
	s := e.Open(t, e.Long)
	seen := bindings(t, e.Open(t, e.Long), "trade")
	const rounds = 100
	for i := range rounds {
		must(t, s.Bind(patient(t), []kite.Binding{kite.Direct("s-a", "trade", fmt.Sprint(i))}))
		must(t, s.Bind(patient(t), []kite.Binding{kite.Fanout(fmt.Sprintf("s-b%d", i%7), "trade")}))
		if i%3 == 0 {
			must(t, s.Unbind(patient(t), "trade", fmt.Sprintf("s-b%d", (i+1)%7)))
		}
	}
	want := bindings(t, e.Open(t, e.Long), "trade").next("a fresh picture")
	seen.until("what a fresh watch sees", func(b registry.Bindings) bool {
		return slices.EqualFunc(b["trade"], want["trade"], func(a, b registry.GroupBindings) bool {
			return a.Group == b.Group && (a.SinceMs == b.SinceMs || e.OwnSince) && slices.Equal(a.Bindings, b.Bindings)
		})
	})
}

func contextEndsWatches(t *testing.T, e Env) {
	s := e.Open(t, e.Long)
	watchBindings, watchBrokers := bindings(t, s, "trade"), brokers(t, s, "trade")
	watchBindings.next("bindings")
	watchBrokers.next("brokers")
	if err := watchBindings.end(); err != nil {
		t.Errorf("WatchBindings returned %v at the end of its context, want nil", err)
	}
	if err := watchBrokers.end(); err != nil {
		t.Errorf("WatchBrokers returned %v at the end of its context, want nil", err)
	}
	if err := s.WatchBrokers(t.Context(), []string{"a/b"}, func(registry.Brokers) {}); !errors.Is(err, kite.Invalid) {
		t.Errorf("a bad topic: %v, want code %v", err, kite.Invalid)
	}
	if err := s.WatchBindings(t.Context(), []string{"a/b"}, func(registry.Bindings) {}); !errors.Is(err, kite.Invalid) {
		t.Errorf("a bad topic: %v, want code %v", err, kite.Invalid)
	}
}

func contextEndsCalls(t *testing.T, e Env) {
	s := e.Open(t, e.Long)
	if s.Cut == nil {
		t.Skip("this registry has no link")
	}
	s.Cut()
	eventually(t, "the cut is noticed", func() bool { return s.Ready() != nil })
	for name, call := range map[string]func(context.Context) error{
		"CreateTopics": func(ctx context.Context) error { return s.CreateTopics(ctx, []string{"a"}) },
		"Announce":     func(ctx context.Context) error { return s.Announce(ctx, addr1, []string{"a"}) },
		"Withdraw":     s.Withdraw,
		"Bind":         func(ctx context.Context) error { return s.Bind(ctx, []kite.Binding{kite.Fanout("g", "a")}) },
		"Unbind":       func(ctx context.Context) error { return s.Unbind(ctx, "a", "g") },
		"AddProducer":  func(ctx context.Context) error { return s.AddProducer(ctx, "a", "g", "h") },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s without a link: %v, want %v", name, err, context.Canceled)
		}
	}
}

func bindingsOutliveSession(t *testing.T, e Env) {
	consumer := e.Open(t, e.Long)
	must(t, consumer.Bind(patient(t), []kite.Binding{kite.Fanout("s-a", "trade")}))
	must(t, consumer.Close())
	if got := bindings(t, e.Open(t, e.Long), "trade").next("the first picture"); !bound("trade", "s-a")(got) {
		t.Errorf("bound are %v, want s-a after its session ended", groups(got, "trade"))
	}
}
