package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/operate"
)

// tour is what the browser is told, and is the argument of testdata/page.mjs.
type tour struct {
	URL         string `json:"url"`
	Playwright  string `json:"playwright"` // directory in which node finds it
	Chromium    string `json:"chromium"`
	Artifacts   string `json:"artifacts"` // for the screenshots
	Transaction string `json:"transaction"`
	Later       string `json:"later"`   // a message that waits for its time
	Away        string `json:"away"`    // a group that nobody of is connected
	Refuses     string `json:"refuses"` // a group with dead letters
}

// needBrowser returns what drives a browser, or skips the test when that is not installed. KITEQ_TEST_PLAYWRIGHT
// names the directory that has node_modules/playwright-core; ./build.sh test makes one in .cache.
func needBrowser(t *testing.T) tour {
	t.Helper()
	missing := func(what string) {
		if os.Getenv("KITEQ_TEST_REQUIRE") == "1" {
			t.Fatal(what)
		}
		t.Skip(what + ": ./build.sh test installs it")
	}
	var o tour
	var err error
	if o.Chromium, err = exec.LookPath("chromium"); err != nil {
		missing("there is no chromium")
	}
	if _, err := exec.LookPath("node"); err != nil {
		missing("there is no node")
	}
	directory := os.Getenv("KITEQ_TEST_PLAYWRIGHT")
	if directory == "" {
		directory = filepath.Join("..", "..", ".cache", "playwright")
	}
	if o.Playwright, err = filepath.Abs(directory); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(o.Playwright, "node_modules", "playwright-core")); err != nil {
		missing("there is no playwright-core in " + o.Playwright)
	}
	o.Artifacts = t.ArtifactDir()
	return o
}

// TestPage has a browser click through every page of a broker that has something of everything.
func TestPage(t *testing.T) {
	t.Parallel()
	o := needBrowser(t)
	zk := freeAddr(t)
	b := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "trade,fee,member-update")
	b.Start()
	o.URL, o.Away, o.Refuses = "http://"+b.admin, "s-away", "s-refuses"
	again := make(chan struct{}, 1)
	till := furnish(t, zk, &o, again)
	waitForTrouble(t, operator{t, b.admin}, o)

	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	busy := make(chan struct{})
	go func() { // something to plot
		defer close(busy)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = till.Publish(ctx, &client.Message{ID: client.NewID(), Topic: "fee", Type: "paid", Body: []byte("1")}) // when the test ends
			}
		}
	}()
	told, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	browse := exec.CommandContext(ctx, "node", filepath.Join("testdata", "page.mjs"), string(told))
	out, err := browse.CombinedOutput()
	cancel()
	<-busy
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("the browser: %v; screenshots are in %s", err, o.Artifacts)
	}
	select {
	case <-again:
	default:
		t.Error("the dead letter was requeued, and not delivered again")
	}
}

// furnish brings groups, dead letters, a backlog and an undecided transaction. What the group that refuses gets
// again it takes, and says so.
func furnish(t *testing.T, zk string, o *tour, again chan<- struct{}) *client.Client {
	t.Helper()
	ctx := patient(t)
	party := func(group, topic string, handle client.Handler) *client.Client {
		c, err := client.Dial(ctx, client.Options{ZKHost: zk, Group: group})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Subscribe(ctx, []client.Binding{client.Fanout(topic)}, handle); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.WithoutCancel(ctx)) })
		return c
	}
	takes := func(context.Context, *client.Delivery) error { return nil }
	party("s-books", "trade", takes)
	party("s-statistics", "fee", takes)
	party("s-members", "member-update", takes)
	var attempts atomic.Int64
	party(o.Refuses, "trade", func(context.Context, *client.Delivery) error {
		if attempts.Add(1) <= 3 { // one attempt for each of the messages
			return errors.New("no such member")
		}
		select {
		case again <- struct{}{}:
		default:
		}
		return nil
	})
	if err := party(o.Away, "trade", takes).Close(ctx); err != nil {
		t.Fatal(err)
	}
	till, err := client.Dial(ctx, client.Options{
		ZKHost: zk, Group: "p-till", Topics: []string{"trade", "fee"},
		CheckListener: func(context.Context, client.Check) client.Verdict { return client.Unknown },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = till.Close(context.WithoutCancel(ctx)) })
	for i := range 3 {
		body := fmt.Appendf(nil, `{"membership %d": "paid"}`, i)
		if err := till.Publish(ctx, &client.Message{ID: client.NewID(), Topic: "trade", Type: "paid", Body: body, DeliverLimit: 1}); err != nil {
			t.Fatal(err)
		}
	}
	o.Later = client.NewID()
	if err := till.Publish(ctx, &client.Message{ID: o.Later, Topic: "trade", Type: "renew", Body: []byte("17"), Delay: time.Hour}); err != nil {
		t.Fatal(err)
	}
	o.Transaction = client.NewID()
	prepared, err := till.Prepare(ctx, &client.Message{ID: o.Transaction, Topic: "trade", Type: "paid", Body: []byte("17")})
	if err != nil {
		t.Fatal(err)
	}
	prepared.Leave()
	return till
}

// waitForTrouble waits until the broker has what the browser looks for.
func waitForTrouble(t *testing.T, op operator, o tour) {
	t.Helper()
	eventually(t, 30*time.Second, func() string {
		var all operate.Groups
		if bad := op.ask("GET", "/groups?topic=trade", "", &all); bad != "" {
			return bad
		}
		dead, away := int64(0), int64(0)
		for _, g := range all.Groups {
			switch g.Group {
			case o.Refuses:
				dead = g.Dead
			case o.Away:
				away = g.Unsettled
			}
		}
		if dead < 3 || away < 3 {
			return fmt.Sprintf("%d dead letters, %d messages wait: %+v", dead, away, all)
		}
		return ""
	})
}
