package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// shelf is a shared store without records: it knows who has which journal.
type shelf struct {
	mu   sync.Mutex
	held []store.Held
	away error
	slow time.Duration // how long the next look takes
}

type shelved struct {
	store.Journal
	held store.Held
}

func (j shelved) Held() store.Held { return j.held }
func (j shelved) Abandon()         {}

func (s *shelf) Held(owner string) (all []store.Held, err error) {
	s.mu.Lock()
	slow := s.slow
	s.slow = 0
	s.mu.Unlock()
	if slow > 0 {
		<-time.After(slow)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.held {
		if owner == "" || h.Owner == owner {
			all = append(all, h)
		}
	}
	return all, s.away
}

func (s *shelf) Create(broker string) (store.SharedJournal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := store.Held{Journal: uint32(len(s.held) + 1), Broker: broker, Owner: broker, Epoch: 1}
	s.held = append(s.held, h)
	return shelved{held: h}, nil
}

func (s *shelf) Claim(h store.Held, owner string) (store.SharedJournal, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := &s.held[h.Journal-1]
	if mine.Epoch != h.Epoch {
		return nil, store.ErrFenced
	}
	mine.Epoch, mine.Owner = h.Epoch+1, owner
	return shelved{held: *mine}, nil
}

func (s *shelf) Close() error { return nil }

// ring is a registry of peers.
type ring struct {
	mu       sync.Mutex
	ids      []string
	watchers []chan []string
	away     error
}

func (r *ring) Join(context.Context, string) error { return nil }

func (r *ring) WatchPeers(ctx context.Context, changed func([]string)) error {
	pictures := make(chan []string, 16)
	r.mu.Lock()
	pictures <- r.ids
	r.watchers = append(r.watchers, pictures)
	r.mu.Unlock()
	for {
		select {
		case ids := <-pictures:
			changed(ids)
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *ring) set(ids ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = ids
	for _, w := range r.watchers {
		w <- ids
	}
}

func (r *ring) cut(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = err
}

func (r *ring) ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away
}

const patience = 30 * time.Second // takeover_after of the tests

// cluster runs the keepers of brokers on one shelf and one ring.
type cluster struct {
	*shelf
	*ring
	t       *testing.T
	mu      sync.Mutex
	serving map[string][]uint32 // by broker: the journals of others
	fail    error               // of brokers that host
}

func newCluster(t *testing.T) *cluster {
	return &cluster{t: t, shelf: &shelf{}, ring: &ring{}, serving: map[string][]uint32{}}
}

// run starts the broker's keeper and returns its end.
func (c *cluster) run(id string) <-chan error {
	journal, k, err := openShared(c.shelf, id, patience, slog.New(slog.DiscardHandler))
	if err != nil {
		c.t.Fatal(err)
	}
	_ = journal
	k.peers, k.ready = c.ring, c.ring.ready
	k.host = func(ctx context.Context, j store.SharedJournal) error {
		c.note(id, j.Held().Journal, true)
		defer c.note(id, j.Held().Journal, false)
		if err := c.failure(); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(c.t.Context())
	c.t.Cleanup(cancel)
	go func() { ended <- k.run(ctx) }()
	synctest.Wait()
	return ended
}

// failing sets what brokers that host fail with, nil for not at all.
func (c *cluster) failing(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = err
}

func (c *cluster) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fail
}

func (c *cluster) note(id string, journal uint32, serves bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving[id] = slices.DeleteFunc(c.serving[id], func(n uint32) bool { return n == journal })
	if serves {
		c.serving[id] = append(c.serving[id], journal)
	}
}

// wants fails unless the brokers host exactly these journals.
func (c *cluster) wants(when string, want map[string][]uint32) {
	c.t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, got := range c.serving {
		slices.Sort(got)
		if !slices.Equal(got, want[id]) {
			c.t.Errorf("%s: broker %s hosts %v, want %v", when, id, got, want[id])
		}
	}
	for id := range want {
		if _, ok := c.serving[id]; !ok {
			c.t.Errorf("%s: broker %s hosts nothing, want %v", when, id, want[id])
		}
	}
}

// TestTakeover: the journal of a broker that is gone for takeover_after is hosted by one of those that are
// there, and by the next when that one does not.
func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.set("a", "b", "c")
		for _, id := range []string{"a", "b", "c"} {
			c.run(id)
		}
		time.Sleep(10 * patience)
		c.wants("while all are there", map[string][]uint32{})
		heirs := []string{"a", "b"}
		if draw(3, "b") < draw(3, "a") {
			heirs = []string{"b", "a"}
		}
		c.set("a", "b")
		time.Sleep(patience - 2*time.Second)
		c.wants("before takeover_after", map[string][]uint32{})
		time.Sleep(4 * time.Second)
		c.wants("after takeover_after", map[string][]uint32{heirs[0]: {3}})
		c.set(heirs[1])
		time.Sleep(patience + 4*time.Second)
		all := []uint32{3, map[string]uint32{"a": 1, "b": 2}[heirs[0]]}
		slices.Sort(all)
		// The first heir hung, rather than died: its own keeper stops what it hosts.
		c.wants("after the heir has gone too", map[string][]uint32{heirs[1]: all})
	})
}

// TestTakeoverByNext: a broker that is first and does nothing is passed over.
func TestTakeoverByNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		lost, _ := c.Create("lost")
		first, second := "x", "y"
		if n := lost.Held().Journal; draw(n, "y") < draw(n, "x") {
			first, second = "y", "x"
		}
		c.set("x", "y")
		c.run(second)
		_ = first // does not run
		time.Sleep(2*patience - 2*time.Second)
		c.wants("in the first's time", map[string][]uint32{})
		time.Sleep(4 * time.Second)
		c.wants("in the second's time", map[string][]uint32{second: {1}})
	})
}

// TestNoTakeover: nothing is taken while it is not known who is there.
func TestNoTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		if _, err := c.Create("b"); err != nil {
			t.Fatal(err)
		}
		c.set("a")
		c.cut(errors.New("no session"))
		c.run("a")
		time.Sleep(10 * patience)
		c.wants("while the registry is away", map[string][]uint32{})
		c.cut(nil)
		time.Sleep(patience / 2)
		c.set("a", "b")
		time.Sleep(10 * patience)
		c.wants("when the broker is back in time", map[string][]uint32{})
		c.shelf.mu.Lock()
		c.shelf.away = kite.Errorf(kite.Unavailable, "no database")
		c.shelf.mu.Unlock()
		c.set("a")
		time.Sleep(10 * patience)
		c.wants("while the store is away", map[string][]uint32{})
		c.shelf.mu.Lock()
		c.shelf.away = nil
		c.shelf.mu.Unlock()
		time.Sleep(patience / 2)
		c.wants("when this broker could see nothing for long", map[string][]uint32{})
		time.Sleep(patience)
		c.wants("takeover_after later", map[string][]uint32{"a": {1}})
	})
}

// TestStoodStill: a broker that could do nothing for long does not trust what it knew before.
func TestStoodStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		if _, err := c.Create("b"); err != nil {
			t.Fatal(err)
		}
		c.set("a")
		c.run("a")
		time.Sleep(patience / 2) // b is missed
		c.shelf.mu.Lock()
		c.slow = 10 * patience
		c.shelf.mu.Unlock()
		time.Sleep(2 * time.Second)
		c.set("a", "b") // which a hears of only when it goes on
		time.Sleep(20 * patience)
		c.wants("after it stood still", map[string][]uint32{})
	})
}

// TestFencedBroker: a broker whose journal was taken over ends, and has it back when it is started again; who
// hosted it lets go.
func TestFencedBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.set("a", "b")
		ended := c.run("a")
		c.run("b")
		c.set("b") // a hangs
		time.Sleep(patience + 2*time.Second)
		c.wants("after a was gone", map[string][]uint32{"b": {1}})
		if err := <-ended; !errors.Is(err, store.ErrFenced) {
			t.Fatalf("the keeper of a broker without its journal ended with %v, want %v", err, store.ErrFenced)
		}
		ended = c.run("a")
		c.set("a", "b")
		time.Sleep(2 * time.Second)
		c.wants("after a is back", map[string][]uint32{"b": {}})
		if all, _ := c.Held(""); len(all) != 2 || all[0].Owner != "a" || all[0].Epoch != 3 {
			t.Errorf("journals: %+v, want that a has its own again", all)
		}
		time.Sleep(10 * patience)
		c.wants("later", map[string][]uint32{"b": {}})
		c.run("a") // a second process of the same name
		time.Sleep(2 * time.Second)
		if err := <-ended; errors.Is(err, store.ErrFenced) || !errors.Is(err, kite.Invalid) || !strings.Contains(err.Error(), "another process runs as broker a") {
			t.Errorf("the first of two processes of one name ended with %v", err)
		}
	})
}

// TestHostAgain: a journal whose broker has failed is hosted again after a while, and so is one that this
// broker had before it was restarted.
func TestHostAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.set("a")
		lost, _ := c.Create("lost")
		if _, err := c.Claim(lost.Held(), "a"); err != nil {
			t.Fatal(err)
		}
		c.failing(errors.New("no port"))
		c.run("a")
		time.Sleep(2 * time.Second)
		c.wants("after it has failed", map[string][]uint32{})
		if h, _ := c.Held("a"); h[0].Epoch != 3 {
			t.Errorf("it was claimed %d times, want 2 after its creation: once before, once to host it", h[0].Epoch-1)
		}
		c.failing(nil)
		time.Sleep(hostPause + time.Second)
		c.wants("later", map[string][]uint32{"a": {1}})
	})
}
