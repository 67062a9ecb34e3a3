package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/store"
)

// keeper looks after the journals of a shared store. Those of brokers that are gone are taken over and hosted:
// each is served by a broker of its own in this process, on its own port, which clients find as any other. So
// sequences, transactions and places of groups go on where they were, and nothing is copied. When the broker is
// back, it claims its journal, and the one that hosted it lets go.
//
// A broker is gone when its node in the registry is. Who takes over is the first of those that are there, in an
// order that depends on the journal, so that all agree and several journals are shared out; if that one does
// not, the next does it one takeover_after later. Should two try at once, the store decides.
type keeper struct {
	id    string        // of this broker
	after time.Duration // takeover_after
	store store.Shared
	home  store.Held // this broker's own journal
	peers registry.Peers
	ready func() error // of the registry
	host  func(context.Context, store.SharedJournal) error
	log   *slog.Logger

	// Of Run.
	running []string             // the brokers that are there, sorted; nil before the first picture
	missed  map[string]time.Time // owners that are not, since when
	looked  time.Time
	hosted  map[uint32]guest     // journals that this process serves beside its own
	retry   map[uint32]time.Time // those whose broker has failed, not hosted again before
	ended   chan uint32
	wait    sync.WaitGroup
}

// guest is a hosted journal.
type guest struct {
	epoch uint64
	leave context.CancelFunc
}

// hostPause is waited before a journal is hosted again whose broker has failed.
const hostPause = 10 * time.Second

// run keeps until ctx ends, then stops what it hosts. The error is store.ErrFenced when this broker's own
// journal was taken over.
func (k *keeper) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer k.wait.Wait()
	defer cancel()
	k.missed, k.hosted, k.retry = map[string]time.Time{}, map[uint32]guest{}, map[uint32]time.Time{}
	k.ended = make(chan uint32)
	k.looked = time.Now()
	pictures, watch := make(chan []string), make(chan error, 1)
	k.wait.Go(func() {
		watch <- k.peers.WatchPeers(ctx, func(ids []string) {
			select {
			case pictures <- ids:
			case <-ctx.Done():
			}
		})
	})
	tick := time.NewTicker(min(max(k.after/10, 20*time.Millisecond), time.Second))
	defer tick.Stop()
	for {
		select {
		case k.running = <-pictures:
		case journal := <-k.ended:
			delete(k.hosted, journal)
			k.retry[journal] = time.Now().Add(hostPause)
		case <-tick.C:
			if err := k.look(ctx); err != nil {
				return err
			}
		case err := <-watch:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// look compares who has which journal with who is there.
func (k *keeper) look(ctx context.Context) error {
	all, err := k.store.Held("")
	if err != nil {
		k.log.Warn("the owners of the journals cannot be read", "err", err)
		return nil
	}
	if time.Since(k.looked) > k.after/2 {
		clear(k.missed) // this process stood still: who has come back meanwhile is not known yet
	}
	k.looked = time.Now()
	owners := map[string]bool{}
	for _, h := range all {
		owners[h.Owner] = true
		here, hosted := k.hosted[h.Journal]
		switch {
		case h.Journal == k.home.Journal:
			if h.Epoch != k.home.Epoch {
				return k.lost(h)
			}
		case hosted:
			if h.Epoch != here.epoch {
				k.log.Warn("a hosted journal was taken over", "journal", h.Journal, "owner", h.Owner)
				here.leave()
			}
		case h.Owner == k.id || k.gone(h) > 0:
			if time.Now().After(k.retry[h.Journal]) {
				k.take(ctx, h)
			}
		}
	}
	for owner := range k.missed {
		if !owners[owner] {
			delete(k.missed, owner)
		}
	}
	return nil
}

// lost says why this broker's own journal is not its own any more.
func (k *keeper) lost(h store.Held) error {
	if h.Owner == k.id {
		return kite.Errorf(kite.Invalid, "another process runs as broker %s and has its journal: give each a name of its own, as broker=… in -db", k.id)
	}
	return fmt.Errorf("journal %d was taken over by broker %s: %w", h.Journal, h.Owner, store.ErrFenced)
}

// gone returns for how long this broker should have taken the journal over by now, 0 or less when it should not.
func (k *keeper) gone(h store.Held) time.Duration {
	if k.running == nil || k.ready() != nil {
		clear(k.missed) // whoever seems to be gone may be there
		return 0
	}
	if slices.Contains(k.running, h.Owner) {
		delete(k.missed, h.Owner)
		return 0
	}
	since, known := k.missed[h.Owner]
	if !known {
		k.missed[h.Owner] = time.Now()
		k.log.Info("the broker of a journal is gone", "journal", h.Journal, "broker", h.Owner, "takeover_after", k.after)
		return 0
	}
	return time.Since(since) - k.after*time.Duration(1+k.rank(h.Journal))
}

// rank returns how many of those that are there come before this broker for the journal.
func (k *keeper) rank(journal uint32) int {
	order := slices.Clone(k.running)
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Or(cmp.Compare(draw(journal, a), draw(journal, b)), cmp.Compare(a, b))
	})
	if at := slices.Index(order, k.id); at >= 0 {
		return at
	}
	return len(order)
}

// draw is the same in every process.
func draw(journal uint32, id string) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s", journal, id)
	return h.Sum64()
}

// take claims the journal and hosts it until ctx ends or its broker does.
func (k *keeper) take(ctx context.Context, h store.Held) {
	journal, err := k.store.Claim(h, k.id)
	switch {
	case errors.Is(err, store.ErrFenced):
		return // another one has it
	case err != nil:
		k.log.Error("a journal cannot be taken over", "journal", h.Journal, "owner", h.Owner, "err", err)
		k.retry[h.Journal] = time.Now().Add(hostPause)
		return
	}
	k.log.Warn("journal taken over", "journal", h.Journal, "began_by", h.Broker, "owner_before", h.Owner, "epoch", journal.Held().Epoch)
	guestCtx, leave := context.WithCancel(ctx)
	k.hosted[h.Journal] = guest{journal.Held().Epoch, leave}
	k.wait.Go(func() {
		defer leave()
		if err := k.host(guestCtx, journal); err != nil {
			k.log.Error("the broker of a journal that was taken over has failed", "journal", h.Journal, "err", err)
		}
		select {
		case k.ended <- h.Journal:
		case <-ctx.Done():
		}
	})
}
