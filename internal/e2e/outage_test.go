package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/zktest"
)

// stream publishes a message every few milliseconds and keeps the ids of those that were acknowledged.
type stream struct {
	t    *testing.T
	stop func()
	mu   sync.Mutex
	ids  map[string]bool
}

// pace is the time between two messages of one of the stream's two workers.
const pace = 10 * time.Millisecond

// publishSteadily runs a stream until its stop is called or the test ends.
func publishSteadily(t *testing.T, c *client.Client) *stream {
	t.Helper()
	s := &stream{t: t, ids: map[string]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				m := &client.Message{ID: client.NewID(), Topic: "trade", Type: publishType, Body: []byte("steady")}
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
				err := c.Publish(ctx, m)
				cancel()
				if err != nil {
					t.Errorf("publish: %v", err)
					return
				}
				s.mu.Lock()
				s.ids[m.ID] = true
				s.mu.Unlock()
			}
		})
	}
	s.stop = sync.OnceFunc(func() {
		cancel()
		wait.Wait()
	})
	t.Cleanup(s.stop)
	return s
}

func (s *stream) acked() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.ids)
}

// goOn waits until n more messages were acknowledged and have come to the group.
func (s *stream) goOn(n int, got *inbox) {
	s.t.Helper()
	before, had := len(s.acked()), got.size()
	eventually(s.t, 40*time.Second, func() string {
		if acked, has := len(s.acked())-before, got.size()-had; acked < n || has < n {
			return fmt.Sprintf("%d messages were acknowledged and %d delivered, want %d more of each", acked, has, n)
		}
		return ""
	})
}

// TestOutages takes the registry away, or the broker from it, while messages flow.
func TestOutages(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		fail func(o *outage)
	}{
		{"ZooKeeper is stopped for longer than a session lasts", func(o *outage) {
			o.zk.Stop()
			o.whileAway(zktest.MaxSession + 2*time.Second)
			o.zk.Restart()
		}},
		{"ZooKeeper comes back without its data", func(o *outage) {
			o.zk.Stop()
			o.whileAway(time.Second)
			o.zk.Wipe()
		}},
		{"the broker's session ends", func(o *outage) {
			// The process is stopped, so nothing can go on: it must afterwards.
			_ = o.b.cmd.Process.Signal(syscall.SIGSTOP)
			o.node(false)
			_ = o.b.cmd.Process.Signal(syscall.SIGCONT)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := newOutage(t)
			test.fail(o)
			o.recovered()
		})
	}
}

// outage is a broker over a real ZooKeeper, with clients at work.
type outage struct {
	t       *testing.T
	zk      *zktest.Server
	b       *broker
	stream  *stream
	got     *inbox          // of the group that is there all the time
	left    *inbox          // of the one that unbound
	gone    map[string]bool // published before everybody knew that it did
	old     *lengthClient   // an old client that does nothing
	vectors *vectorFile
}

func newOutage(t *testing.T) *outage {
	t.Helper()
	o := &outage{t: t, zk: zktest.Start(t), got: newInbox(), left: newInbox(), vectors: loadVectors(t)}
	zk := o.zk.Addr()
	o.b = newBroker(t, "zk://"+zk+"?timeout=2s", "trade")
	o.b.Start()
	subscribe(t, zk, "s-steady", o.got)
	leaver := subscribe(t, zk, "s-left", o.left)
	away := dial(t, client.Options{ZKHost: zk, Group: "s-away"}) // durable, and nobody there
	if _, err := away.Subscribe(patient(t), []client.Binding{fast()}, newInbox().take); err != nil {
		t.Fatal(err)
	}
	o.b.bound("s-away", "s-left", "s-steady")
	if err := away.Close(patient(t)); err != nil {
		t.Fatal(err)
	}
	o.old = dialLength(t, o.b.addr, o.vectors, "s-old")
	o.stream = publishSteadily(t, dial(t, client.Options{ZKHost: zk, Group: "p-steady", Topics: []string{"trade"}}))
	o.stream.goOn(20, o.left)
	if err := leaver.Unbind(patient(t), "trade"); err != nil {
		t.Fatal(err)
	}
	o.b.bound("s-away", "s-steady")
	o.stream.goOn(20, o.got)
	o.gone = o.stream.acked()
	return o
}

// fast is a binding to everything without a limit that a test would notice.
func fast() client.Binding {
	b := client.Fanout("trade")
	b.Watermark = 1_000_000
	return b
}

func newInbox() *inbox { return &inbox{seen: map[string]int{}, kind: map[string]string{}} }

// subscribe binds a group to everything, until the test ends.
func subscribe(t *testing.T, zk, group string, into *inbox) *client.Client {
	t.Helper()
	c := dial(t, client.Options{ZKHost: zk, Group: group})
	if _, err := c.Subscribe(patient(t), []client.Binding{fast()}, into.take); err != nil {
		t.Fatal(err)
	}
	return c
}

// whileAway holds that publishing and delivery go on for the time.
func (o *outage) whileAway(d time.Duration) {
	o.t.Helper()
	begun := time.Now()
	for time.Since(begun) < d {
		o.stream.goOn(50, o.got)
	}
}

// recovered holds what is true after every outage.
func (o *outage) recovered() {
	t := o.t
	o.node(true)
	o.b.bound("s-away", "s-steady")
	o.stream.goOn(100, o.got)
	late := newInbox()
	subscribe(t, o.zk.Addr(), "s-late", late) // who comes now finds the broker and is found
	o.stream.goOn(20, late)
	o.stream.stop()
	acked := o.stream.acked()
	away := newInbox()
	subscribe(t, o.zk.Addr(), "s-away", away)
	for name, in := range map[string]*inbox{"s-steady": o.got, "s-away": away} {
		eventually(t, 60*time.Second, func() string {
			if missing, _ := in.lacks(acked); missing > 0 {
				return fmt.Sprintf("group %s lacks %d of %d messages", name, missing, len(acked))
			}
			return ""
		})
	}
	for id := range acked {
		if o.left.has(id) && !o.gone[id] {
			t.Fatalf("message %s was delivered to a group that had left", id)
		}
	}
	// The connection of an old client has outlived it all.
	ping, pong := o.vectors.frame(t, "52_java_heartbeat_ping"), o.vectors.frame(t, "53_java_heartbeat_pong")
	o.old.send(ping.raw)
	if got := o.old.next(); !slices.Equal(got.raw, pong.raw) {
		t.Errorf("heartbeat answered %x", got.raw)
	}
	t.Logf("%d messages", len(acked))
	o.zk.Stop() // a broker ends in good order without its registry, too
	begun := time.Now()
	if code := o.b.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, o.b.log.tail(20))
	}
	t.Logf("stopped without ZooKeeper in %v", time.Since(begun))
}

func (i *inbox) has(id string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.seen[id] > 0
}

// node waits until the broker's nodes are there, or not.
func (o *outage) node(there bool) {
	o.t.Helper()
	conn := zktest.Raw(o.t, o.zk.Addr())
	for _, path := range []string{"/kiteq/server/trade/" + o.b.addr, "/kiteq/alive_servers/" + o.b.addr} {
		eventually(o.t, 30*time.Second, func() string {
			is, stat, err := conn.Exists(path)
			if err != nil || is != there || is && stat.EphemeralOwner == 0 {
				return fmt.Sprintf("%s: there is %v, want %v; %v", path, is, there, err)
			}
			return ""
		})
	}
}

// bound waits until these groups are the ones that the broker knows on topic trade.
func (b *broker) bound(groups ...string) {
	b.t.Helper()
	http := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(b.t, 30*time.Second, func() string {
		response, err := http.Get("http://" + b.admin + "/binds")
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		var answer struct {
			Groups map[string][]string `json:"topic_2_groups"`
		}
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			return err.Error()
		}
		if got := answer.Groups["trade"]; !slices.Equal(got, groups) {
			return fmt.Sprintf("groups %q are bound, want %q", got, groups)
		}
		return ""
	})
}

// TestRestartUnderLoad stops the broker as an operator does, and starts it again, while clients publish and
// consume. They find it again by the registry.
func TestRestartUnderLoad(t *testing.T) {
	t.Parallel()
	zk := freeAddr(t)
	registry := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "other") // it has the registry only
	registry.Start()
	b := newBroker(t, zk, "trade")
	b.Start()
	got := newInbox()
	subscribe(t, zk, "s-steady", got)
	s := publishSteadily(t, dial(t, client.Options{ZKHost: zk, Group: "p-steady", Topics: []string{"trade"}}))
	for range 3 {
		s.goOn(50, got)
		if code := b.Stop(syscall.SIGTERM); code != 0 {
			t.Fatalf("exit code %d\n%s", code, b.log.tail(20))
		}
		b.Start()
	}
	s.goOn(50, got)
	s.stop()
	acked := s.acked()
	eventually(t, 60*time.Second, func() string {
		if missing, _ := got.lacks(acked); missing > 0 {
			return fmt.Sprintf("%d of %d messages are missing", missing, len(acked))
		}
		return ""
	})
	t.Logf("%d messages", len(acked))
}
