// Package registrytest holds what every registry.Registry promises, as tests that each
// implementation runs on itself.
package registrytest

import (
	"context"
	"path"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/kiteq/kiteq/registry"
)

// Env is one server and the sessions with it, for one case. Nil functions are abilities that the
// implementation has not; the cases that need them are skipped.
type Env struct {
	// Open returns a session with its server that runs until the test ends. The timeout is Short or Long.
	Open func(t *testing.T, timeout time.Duration) *Session
	// Short is a session timeout that a case can wait for, Long one that a broken link outlasts.
	Short, Long time.Duration
	// Gap is the time that Announce keeps between a leftover's removal and the new node. 0: it keeps none,
	// as where there are no leftovers, and a withdrawal followed by an announcement may go unseen.
	Gap time.Duration
	// OwnSince tells that each session has a SinceMs of its own, as where nobody keeps it for all.
	OwnSince bool

	// Raw returns a plain session with the server that keeps the znodes, below Root.
	Raw  func(t *testing.T) *zk.Conn
	Root string

	// Restart and Wipe stop the server without a word and start it again with, or without, its data.
	Restart, Wipe func()
}

// Session is one registry and its link.
type Session struct {
	registry.Registry
	// Cut breaks the link until Heal.
	Cut, Heal func()
}

// Patience is how long a case waits for what must come. Nothing that is right takes near as long.
const Patience = 60 * time.Second

// Run runs the suite. Open is called once for each case; cases run in parallel, except those that
// restart the server, which come last and by themselves.
func Run(t *testing.T, open func(t *testing.T) Env) {
	t.Run("together", func(t *testing.T) {
		for name, run := range map[string]func(*testing.T, Env){
			"topics are created":                      topicsAreCreated,
			"announce and withdraw":                   announceAndWithdraw,
			"announce replaces topics":                announceReplacesTopics,
			"announce needs an address":               announceNeedsAddress,
			"two brokers":                             twoBrokers,
			"leftover is replaced after a gap":        leftoverIsReplaced,
			"announcing again keeps the gap":          announcingAgainKeepsGap,
			"a successor is left alone":               successorIsLeftAlone,
			"producers":                               producers,
			"bind, replace and unbind":                bindReplaceUnbind,
			"bind refuses what is invalid":            bindRefuses,
			"broken bindings of one group":            brokenBindings,
			"deletion of one bind node":               deletionOfOneBindNode,
			"first binds at the same time":            firstBindsTogether,
			"bindings of a topic that comes later":    topicComesLater,
			"many changes end in the right picture":   manyChanges,
			"a context ends watches":                  contextEndsWatches,
			"a context ends calls":                    contextEndsCalls,
			"close removes what was announced":        closeRemoves,
			"a cut shorter than the session":          shortCut,
			"a cut longer than the session":           longCut,
			"a change during a cut is seen":           changeDuringCut,
			"announcing before the link is there":     announceWhileCut,
			"withdrawn is not announced again":        withdrawnStaysWithdrawn,
			"announcing goes on without its caller":   announcingGoesOn,
			"withdrawing is completed later":          withdrawingIsCompleted,
			"producers outlive a session":             producersOutliveSession,
			"bindings survive the session of a group": bindingsOutliveSession,
			"peers see each other":                    peersSeeEachOther,
			"a peer is gone with its session":         peerIsGone,
			"a peer that comes back at once":          peerComesBack,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(t, open(t))
			})
		}
	})
	t.Run("restart", func(t *testing.T) { serverRestarts(t, open(t)) })
	t.Run("wipe", func(t *testing.T) { serverIsWiped(t, open(t)) })
}

// raw is a plain session that fails the test instead of returning errors.
type raw struct {
	t    *testing.T
	conn *zk.Conn
	root string
}

// look returns a raw session, or skips the test.
func (e Env) look(t *testing.T) *raw {
	t.Helper()
	if e.Raw == nil {
		t.Skip("this registry keeps no znodes")
	}
	return &raw{t: t, conn: e.Raw(t), root: e.Root}
}

func (r *raw) stat(node string) (*zk.Stat, bool) {
	r.t.Helper()
	found, stat, err := r.conn.Exists(r.root + node)
	if err != nil {
		r.t.Fatalf("%s: %v", node, err)
	}
	return stat, found
}

// persistent fails the test unless the node exists, is persistent and has no data.
func (r *raw) persistent(node string) {
	r.t.Helper()
	if stat, found := r.stat(node); !found || stat.EphemeralOwner != 0 || stat.DataLength != 0 {
		r.t.Errorf("%s: exists %v, stat %+v; want a persistent node without data", node, found, stat)
	}
}

// ephemeral fails the test unless the node exists, is ephemeral and has no data.
func (r *raw) ephemeral(node string) *zk.Stat {
	r.t.Helper()
	stat, found := r.stat(node)
	if !found || stat.EphemeralOwner == 0 || stat.DataLength != 0 {
		r.t.Fatalf("%s: exists %v, stat %+v; want an ephemeral node without data", node, found, stat)
	}
	return stat
}

func (r *raw) absent(node string) {
	r.t.Helper()
	if _, found := r.stat(node); found {
		r.t.Errorf("%s is still there", node)
	}
}

// create makes the node and those above it.
func (r *raw) create(node, data string, flags int32) {
	r.t.Helper()
	for _, above := range registry.Ancestors(r.root + node) {
		if _, err := r.conn.Create(above, nil, zk.FlagPersistent, zk.WorldACL(zk.PermAll)); err != nil && err != zk.ErrNodeExists {
			r.t.Fatalf("%s: %v", above, err)
		}
	}
	if _, err := r.conn.Create(r.root+node, []byte(data), flags, zk.WorldACL(zk.PermAll)); err != nil {
		r.t.Fatalf("%s: %v", node, err)
	}
}

func (r *raw) delete(node string) {
	r.t.Helper()
	if err := r.conn.Delete(r.root+node, -1); err != nil {
		r.t.Fatalf("%s: %v", node, err)
	}
}

// replace deletes the node and makes it again so that nobody sees it missing.
func (r *raw) replace(node, data string) {
	r.t.Helper()
	_, err := r.conn.Multi(
		&zk.DeleteRequest{Path: r.root + node, Version: -1},
		&zk.CreateRequest{Path: r.root + node, Data: []byte(data), Acl: zk.WorldACL(zk.PermAll)},
	)
	if err != nil {
		r.t.Fatalf("%s: %v", node, err)
	}
}

func (r *raw) data(node string) string {
	r.t.Helper()
	data, _, err := r.conn.Get(r.root + node)
	if err != nil {
		r.t.Fatalf("%s: %v", path.Base(node), err)
	}
	return string(data)
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// patient returns a context that ends when a call hangs.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	ctx := patient(t)
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not reached: %s", what)
		}
	}
}
