package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
)

// killsEnv is the environment variable that says how many times TestKillLoop kills the broker.
const killsEnv = "KITEQ_SOAK"

// TestKillLoop kills one broker again and again under load. Whatever was acknowledged is delivered,
// whatever was rolled back is not.
func TestKillLoop(t *testing.T) {
	t.Parallel()
	kills := 6
	if n, err := strconv.Atoi(os.Getenv(killsEnv)); err == nil {
		kills = n
	}
	seed := rand.Uint64()
	t.Logf("%d kills, seed %d", kills, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	zk := freeAddr(t)
	b := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "trade")
	b.Start()
	got := &inbox{seen: map[string]int{}, kind: map[string]string{}}
	consumer := dial(t, client.Options{ZKHost: zk, Group: "s-kill"})
	binding := client.Fanout("trade")
	binding.Watermark = 1_000_000 // a second: the backlog of the kills is to go fast
	if _, err := consumer.Subscribe(patient(t), []client.Binding{binding}, got.take); err != nil {
		t.Fatal(err)
	}
	db := &database{rows: map[string]bool{}}
	producer := dial(t, client.Options{ZKHost: zk, Group: "p-kill", Topics: []string{"trade"}, CheckListener: db.check})

	want := map[string]bool{}
	var mu sync.Mutex
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for worker := range 16 {
		wait.Go(func() {
			for n := worker; ctx.Err() == nil; n += 16 {
				m := &client.Message{ID: client.NewID(), Topic: "trade", Type: "x", Body: fmt.Appendf(nil, "message %d", n)}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				arrives, err := publish(ctx, producer, db, m, n)
				cancel()
				if err != nil {
					t.Errorf("message %d: %v", n, err)
				}
				mu.Lock()
				want[m.ID] = arrives
				mu.Unlock()
			}
		})
	}
	t.Cleanup(func() { // when the loop below gives up
		stop()
		wait.Wait()
	})
	for range kills {
		timer := time.NewTimer(time.Duration(100+random.IntN(700)) * time.Millisecond)
		<-timer.C
		b.Kill()
		b.Start()
	}
	stop()
	wait.Wait()
	arriving := map[string]bool{}
	for id, arrives := range want {
		if arrives {
			arriving[id] = true
		}
	}
	eventually(t, 90*time.Second, func() string {
		if n := got.size(); n < len(arriving) { // cheap: looking at each would hold up the handlers
			return fmt.Sprintf("%d of %d messages have come", n, len(arriving))
		}
		if missing, _ := got.lacks(arriving); missing > 0 {
			return fmt.Sprintf("%d of %d messages are missing", missing, len(arriving))
		}
		return ""
	})
	for id := range got.seen {
		if arrives, known := want[id]; !arrives {
			t.Errorf("message %s was delivered (published: %v, it should arrive: %v)", id, known, arrives)
		}
	}
	t.Logf("%d messages", len(got.seen))
}
