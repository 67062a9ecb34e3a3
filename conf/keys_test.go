package conf

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestKeys: every key has a name, and those of the options too.
func TestKeys(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Store, c.Webhook.URLs = "mysql://u:secret@h:3306", map[string]string{"p-a": "https://u:secret@h/"}
	c.Delivery.Retry = map[string][]time.Duration{"s-b": {time.Hour, 90 * time.Minute}, "s-a": {0}}
	want := map[string]string{
		"topics": "message live", "db": "*** restart", "webhook.urls": "*** restart", "delivery.ack_timeout": "5s live",
		"lane.inbox_bytes": "64MiB live", "lane.retention": "1h live", "delivery.retry": "s-a = 0s; s-b = 1h, 1h30m live",
		"delivery.bind_skew": "2s restart", "transaction.parked_retention": "720h live", "network.event_loops": "2 restart",
	}
	for _, k := range Keys() {
		text := k.Value(&c)
		if strings.Contains(text, "secret") {
			t.Errorf("%s shows %q", k.String(), text)
		}
		text += map[bool]string{true: " live", false: " restart"}[k.Live]
		if w, ok := want[k.String()]; ok && w != text {
			t.Errorf("%s is %q, want %q", k.String(), text, w)
		}
		delete(want, k.String())
	}
	if len(want) > 0 {
		t.Errorf("no keys %v", want)
	}
}

// TestTake takes what can be changed now, and tells of the rest.
func TestTake(t *testing.T) {
	t.Parallel()
	c, now := Default(), Default()
	c.Delivery.Retry = nil // as good as an empty table
	if changes := c.Take(&now); len(changes) != 0 {
		t.Errorf("%+v", changes)
	}
	now.InFlight, now.Bind, now.Store = 7, ":1", "memory://"
	now.Delivery.Retry = map[string][]time.Duration{"s-a": {time.Second}}
	changes := c.Take(&now)
	want := []Change{
		{"bind", false, ":13800", ":1"}, {"db", false, "***", "***"}, {"in_flight", true, "32", "7"},
		{"delivery.retry", true, "", "s-a = 1s"},
	}
	if !slices.Equal(changes, want) {
		t.Errorf("%+v, want %+v", changes, want)
	}
	if c.InFlight != 7 || c.Bind != ":13800" || c.Store != Default().Store || len(c.Delivery.Retry) != 1 {
		t.Errorf("%+v", c)
	}
}

// TestWatch tells once of each new content, when it has stood for a while.
func TestWatch(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kiteq.toml")
	synctest.Test(t, func(t *testing.T) {
		write := func(text string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("a")
		var told atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			Watch(ctx, path, time.Second, func() { told.Add(1) })
		}()
		expect := func(why string, ticks int, want int64) {
			t.Helper()
			time.Sleep(time.Duration(ticks)*time.Second + time.Millisecond)
			synctest.Wait()
			if told := told.Load(); told != want {
				t.Errorf("%s: told %d times, want %d", why, told, want)
			}
		}
		expect("nothing", 5, 0)
		write("b")
		expect("it may be half written", 1, 0)
		write("bc")
		expect("still", 1, 0)
		expect("it stands", 1, 1)
		expect("and is not told twice", 5, 1)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		expect("gone", 5, 1)
		write("d")
		expect("back", 2, 2)
		write("x")
		expect("changed", 1, 2)
		write("d")
		expect("and changed back", 5, 2)
		cancel()
		<-ended
	})
}
