package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
)

// killsEnv is the environment variable that says how many times TestKillLoop kills the broker.
const killsEnv = "KITEQ_SOAK"

// killGroups are the groups of TestKillLoop and what they are bound to.
func killGroups() map[string][]client.Binding {
	return map[string][]client.Binding{
		"s-all":   {client.Fanout("trade"), client.Fanout("fee"), client.Fanout("logs")},
		"s-pay":   {client.Direct("trade", "pay"), client.Regx("fee", "^refund$")},
		"s-moody": {client.Fanout("trade")},
	}
}

// TestKillLoop kills one broker again and again under load: three topics, of which one is not synced, three
// groups, of which one refuses messages, and transactions of every fate. What was answered is delivered to
// every group that is bound to it; what was rolled back never is, nor is what nobody decided, and that is
// kept; what a group never takes ends in its dead letters.
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
	b := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "trade,fee,logs", "-sync=logs=os")
	b.Start()
	l := newLedger()
	for group, bindings := range killGroups() {
		for i := range bindings {
			bindings[i].Watermark = 1_000_000 // a second: the backlog of the kills is to go fast
		}
		for range 2 {
			c := dial(t, client.Options{ZKHost: zk, Group: group})
			if _, err := c.Subscribe(patient(t), bindings, l.handler(group, group == "s-moody")); err != nil {
				t.Fatal(err)
			}
		}
	}
	producer := dial(t, client.Options{
		ZKHost: zk, Group: "p-kill", Topics: []string{"trade", "fee", "logs"}, CheckListener: l.db.check,
	})

	permits := make(chan struct{}, messagesPerKill)
	stop := publishUntil(t, producer, l, permits)
	for n := range kills {
		if n > 0 && n%20 == 0 {
			t.Logf("%d kills, %d messages", n, l.size())
		}
		fill(permits)
		timer := time.NewTimer(time.Duration(100+random.IntN(700)) * time.Millisecond)
		<-timer.C
		b.Kill()
		b.Start()
	}
	stop()
	awaitAll(t, l)
	l.settleUndecided(t, producer)
	awaitAll(t, l)
	if code := b.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the broker ends with code %d", code)
	}
	l.verifyDeadLetters(t, filepath.Join(b.dir, "journal"), "trade", "s-moody")
}

// messagesPerKill bounds what a soak of some hundred kills has to remember and to deliver.
const messagesPerKill = 5000

func fill(permits chan<- struct{}) {
	for {
		select {
		case permits <- struct{}{}:
		default:
			return
		}
	}
}

// publishUntil publishes as fast as it can while there are permits, until what it returns is called or the
// test ends.
func publishUntil(t *testing.T, c *client.Client, l *ledger, permits <-chan struct{}) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	var next atomic.Int64
	for range 16 {
		wait.Go(func() {
			for {
				select {
				case <-permits:
				case <-ctx.Done():
					return
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				err := l.publish(ctx, c, int(next.Add(1)))
				cancel()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	stop = func() {
		cancel()
		wait.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// awaitAll waits until every group has all that is for it, and looks whether it has more.
func awaitAll(t *testing.T, l *ledger) {
	t.Helper()
	for group, bindings := range killGroups() {
		due := l.due(bindings)
		eventually(t, 90*time.Second, func() string {
			if n, oldest := l.missing(group, due); n > 0 {
				return fmt.Sprintf("group %s lacks %d of %d messages, such as %s: %+v", group, n, len(due), oldest, l.entry(oldest))
			}
			return ""
		})
		l.verify(t, group, due)
	}
}
