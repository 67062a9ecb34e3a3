package registrytest

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/kiteq/kiteq/registry"
)

// follower runs a watch and hands its pictures to the test in their order.
type follower[P any] struct {
	t        *testing.T
	pictures chan P
	last     P
	any      bool // last is set
	stop     context.CancelFunc
	ended    chan error
}

func follow[P any](t *testing.T, watch func(ctx context.Context, changed func(P)) error) *follower[P] {
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower[P]{t: t, pictures: make(chan P, 1024), stop: cancel, ended: make(chan error, 1)}
	var inside atomic.Bool
	go func() {
		f.ended <- watch(ctx, func(p P) {
			if !inside.CompareAndSwap(false, true) {
				t.Error("changed is called while it runs")
			}
			defer inside.Store(false)
			select {
			case f.pictures <- p:
			default:
				t.Error("more pictures than changes")
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err, open := <-f.ended; open && err != nil {
			t.Logf("the watch ended: %v", err)
		}
	})
	return f
}

func brokers(t *testing.T, r registry.Registry, topics ...string) *follower[registry.Brokers] {
	return follow(t, func(ctx context.Context, changed func(registry.Brokers)) error {
		return r.WatchBrokers(ctx, topics, changed)
	})
}

func bindings(t *testing.T, r registry.Registry, topics ...string) *follower[registry.Bindings] {
	return follow(t, func(ctx context.Context, changed func(registry.Bindings)) error {
		return r.WatchBindings(ctx, topics, changed)
	})
}

// next returns the picture that comes next.
func (f *follower[P]) next(what string) P {
	f.t.Helper()
	select {
	case f.last = <-f.pictures:
		f.any = true
		return f.last
	case err := <-f.ended:
		f.t.Fatalf("the watch ended with %v before: %s", err, what)
	case <-patient(f.t).Done():
		f.t.Fatalf("not seen: %s; the last picture was %+v", what, f.last)
	}
	return f.last
}

// until waits for a picture that is as wanted and returns it. The last one seen may be it.
func (f *follower[P]) until(what string, wanted func(P) bool) P {
	f.t.Helper()
	for !f.any || !wanted(f.last) {
		f.next(what)
	}
	return f.last
}

// end stops the watch and returns what it returned.
func (f *follower[P]) end() error {
	f.t.Helper()
	f.stop()
	return f.wait()
}

// wait returns what the watch returned.
func (f *follower[P]) wait() error {
	f.t.Helper()
	select {
	case err := <-f.ended:
		close(f.ended)
		return err
	case <-patient(f.t).Done():
		f.t.Fatal("the watch does not end")
		return nil
	}
}
