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

// peer opens a session that knows of peers, or skips the case.
func peer(t *testing.T, e Env, timeout time.Duration) (*Session, registry.Peers) {
	t.Helper()
	s := e.Open(t, timeout)
	p, ok := s.Registry.(registry.Peers)
	if !ok {
		t.Skip("this registry knows of no peers")
	}
	return s, p
}

func run(ids ...string) func([]string) bool {
	return func(got []string) bool { return slices.Equal(got, ids) }
}

func peersSeeEachOther(t *testing.T, e Env) {
	_, watcher := peer(t, e, e.Long)
	seen := follow(t, watcher.WatchPeers)
	if first := seen.next("the first picture"); len(first) != 0 {
		t.Errorf("the first picture is %v, nobody has joined", first)
	}
	a, asA := peer(t, e, e.Long)
	b, asB := peer(t, e, e.Long)
	must(t, asB.Join(patient(t), "b"))
	must(t, asA.Join(patient(t), "10.0.0.1:13800"))
	seen.until("both, sorted", run("10.0.0.1:13800", "b"))
	must(t, a.Announce(patient(t), addr1, []string{"trade"}))
	must(t, a.Withdraw(patient(t)))
	must(t, b.Close())
	seen.until("who has withdrawn stays, who has closed is gone", run("10.0.0.1:13800"))
	for _, id := range []string{"", ".", "a/b"} {
		if err := asA.Join(patient(t), id); !errors.Is(err, kite.Invalid) {
			t.Errorf("join as %q: %v, want code %v", id, err, kite.Invalid)
		}
	}
}

// peerIsGone: a peer whose session ends is gone, and there again with its next session.
func peerIsGone(t *testing.T, e Env) {
	_, watcher := peer(t, e, e.Long)
	seen := follow(t, watcher.WatchPeers)
	s := linked(t, e, e.Short)
	must(t, s.Registry.(registry.Peers).Join(patient(t), "a"))
	seen.until("the peer", run("a"))
	s.cut(t)
	seen.until("it is gone", func(ids []string) bool { return len(ids) == 0 })
	s.heal(t)
	seen.until("it is back", run("a"))
}

// peerComesBack: a process that was killed and started again at once is not mistaken for the one before.
func peerComesBack(t *testing.T, e Env) {
	look := e.look(t)
	_, watcher := peer(t, e, e.Long)
	look.create(registry.PeerNode("a"), "", zk.FlagEphemeral) // of a session that still lasts
	left := look.ephemeral(registry.PeerNode("a"))
	seen := follow(t, watcher.WatchPeers)
	seen.until("the leftover", run("a"))
	_, again := peer(t, e, e.Long)
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	must(t, again.Join(ctx, "a"))
	if now := look.ephemeral(registry.PeerNode("a")); now.EphemeralOwner == left.EphemeralOwner {
		t.Errorf("the node is still that of session %#x", left.EphemeralOwner)
	}
}
