package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/zktest"
)

// received collects the bodies that a group gets.
type received struct{ bodies chan string }

func newReceived() *received { return &received{bodies: make(chan string, 1024)} }

func (r *received) take(_ context.Context, d *client.Delivery) error {
	r.bodies <- string(d.Body)
	return nil
}

// wait takes what comes until it is want.
func (r *received) wait(t *testing.T, want string) {
	t.Helper()
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	for {
		select {
		case got := <-r.bodies:
			if got == want {
				return
			}
		case <-timer.C:
			t.Fatalf("%q did not come", want)
		}
	}
}

// TestStartWithoutZooKeeper stops the broker and then ZooKeeper, and starts the broker alone: clients that know
// its address publish and consume as before, /readyz says why it is red, and when ZooKeeper is back
// everybody finds the broker.
func TestStartWithoutZooKeeper(t *testing.T) {
	t.Parallel()
	zk := zktest.Start(t)
	b := newBroker(t, "zk://"+zk.Addr(), "trade")
	b.Start()
	got := newReceived()
	consumer, err := client.Dial(patient(t), client.Options{ZKHost: zk.Addr(), Group: "s-away", Log: nil})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Subscribe(patient(t), []client.Binding{client.Direct("trade", "pay")}, got.take); err != nil {
		t.Fatal(err)
	}
	publisher := dial(t, client.Options{Brokers: []string{b.addr}, Group: "p-away", Topics: []string{"trade"}})
	send := func(body string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := publisher.Publish(ctx, &client.Message{Topic: "trade", Type: "pay", Body: []byte(body)}); err != nil {
			t.Fatalf("publish %s: %v", body, err)
		}
	}
	send("before")
	got.wait(t, "before")
	if err := consumer.Close(patient(t)); err != nil {
		t.Error(err)
	}
	eventually(t, 10*time.Second, func() string { // it is written after the binding is in force
		if remembered, err := os.ReadFile(filepath.Join(b.dir, "data", "bindings.json")); err != nil || !strings.Contains(string(remembered), "s-away") {
			return fmt.Sprintf("the binding is not remembered: %s, %v", remembered, err)
		}
		return ""
	})
	b.Kill()
	zk.Stop()

	b.launch()
	static := dial(t, client.Options{Brokers: []string{b.addr}, Group: "s-away", Lazy: true, BoundElsewhere: true})
	if _, err := static.Subscribe(patient(t), []client.Binding{client.Direct("trade", "pay")}, got.take); err != nil {
		t.Fatal(err)
	}
	send("while it is away")
	got.wait(t, "while it is away")
	if status, why := b.readyz(); status != http.StatusServiceUnavailable || !strings.Contains(why, "registry") {
		t.Errorf("/readyz says %d %q while the registry is away", status, why)
	}
	zk.Restart()
	eventually(t, 40*time.Second, func() string {
		if status, why := b.readyz(); status != http.StatusOK {
			return "not ready: " + why
		}
		return ""
	})
	found := dial(t, client.Options{ZKHost: zk.Addr(), Group: "p-found", Topics: []string{"trade"}})
	if err := found.Publish(patient(t), &client.Message{Topic: "trade", Type: "pay", Body: []byte("found again")}); err != nil {
		t.Fatal(err)
	}
	got.wait(t, "found again")
}

// readyz asks for readiness; the status is 0 when nobody answers.
func (b *broker) readyz() (status int, text string) {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := c.Get("http://" + b.admin + "/readyz")
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(body)
}

// TestFileRegistry runs broker and clients on a registry file, without any ZooKeeper, and adds a group to it
// that /reload makes known.
func TestFileRegistry(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "registry.yaml")
	b := newBroker(t, "file://"+path, "trade,fee")
	write := func(groups string) {
		t.Helper()
		text := fmt.Sprintf("brokers:\n  - address: %q\n    topics: [ \"trade\", \"fee\" ]\n    env: \"dev\"\nbindings:\n  - groupIds: [ %s ]\n    topic: \"trade\"\n    messageType: \"pay\"\n    bindType: \"direct\"\n    watermark: 1000\n    persistent: true\n", b.addr, groups)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`"s-first"`)
	b.Start()
	first, second := newReceived(), newReceived()
	binding := []client.Binding{client.Direct("trade", "pay")}
	binding[0].Watermark = 1000
	c := dial(t, client.Options{ZKHost: "file://" + path, Group: "s-first", Lazy: true})
	if _, err := c.Subscribe(patient(t), binding, first.take); err != nil {
		t.Fatal(err)
	}
	publisher := dial(t, client.Options{ZKHost: "file://" + path, Group: "p-file", Topics: []string{"trade"}})
	send := func(body string) {
		t.Helper()
		if err := publisher.Publish(patient(t), &client.Message{Topic: "trade", Type: "pay", Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	send("to the first")
	first.wait(t, "to the first")

	write(`"s-first", "s-second"`)
	response, err := http.Post("http://"+b.admin+"/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if !strings.Contains(string(answer), `"trade"`) {
		t.Fatalf("/reload answers %s", answer)
	}
	late := dial(t, client.Options{ZKHost: "file://" + path, Group: "s-second", Lazy: true})
	if _, err := late.Subscribe(patient(t), binding, second.take); err != nil {
		t.Fatal(err)
	}
	send("to both")
	first.wait(t, "to both")
	second.wait(t, "to both")
	http.DefaultClient.CloseIdleConnections()
}
