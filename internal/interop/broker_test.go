package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	libzk "github.com/go-zookeeper/zk"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/internal/zktest"
	"github.com/kiteq/kiteq/registry/embedded"
	"github.com/kiteq/kiteq/server"
)

// patience is how long a test waits for what must come, on a machine that does other things, too.
const patience = 30 * time.Second

// directory is a registry that a test, its clients and its brokers share.
type directory struct {
	t    *testing.T
	addr string
	conn *libzk.Conn
}

// newDirectory serves a registry until the test ends.
func newDirectory(t *testing.T) *directory {
	t.Helper()
	s, err := embedded.Listen(embedded.Options{Addr: "127.0.0.1:0", MinSessionTimeout: 100 * time.Millisecond}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the registry ended: %v", err)
		}
	})
	return &directory{t: t, addr: s.Addr(), conn: zktest.Raw(t, s.Addr())}
}

// create makes the node with its parents, and replaces its data when it is there.
func (d *directory) create(path, data string) {
	d.t.Helper()
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			if _, err := d.conn.Create(path[:i], nil, 0, libzk.WorldACL(libzk.PermAll)); err != nil && err != libzk.ErrNodeExists {
				d.t.Fatalf("create %s: %v", path[:i], err)
			}
		}
	}
	_, err := d.conn.Create(path, []byte(data), 0, libzk.WorldACL(libzk.PermAll))
	if err == libzk.ErrNodeExists {
		_, err = d.conn.Set(path, []byte(data), -1)
	}
	if err != nil {
		d.t.Fatalf("write %s: %v", path, err)
	}
}

// bind writes a bind node as old clients do. Each change of from -> to is made in the golden data.
func (d *directory) bind(group, topic, golden string, changes ...string) {
	d.t.Helper()
	data := strings.NewReplacer(append([]string{`"s-golden"`, `"` + group + `"`, `"trade"`, `"` + topic + `"`}, changes...)...).
		Replace(vectorBinding(d.t, golden))
	d.create(bindNode(group, topic), data)
}

// fanout binds a group durably to everything of topic trade.
func (d *directory) fanout(group string) {
	d.t.Helper()
	d.bind(group, "trade", "binding_fanout")
}

func bindNode(group, topic string) string { return "/kiteq/sub/" + topic + "/" + group + "-bind" }

func (d *directory) delete(path string) {
	d.t.Helper()
	if err := d.conn.Delete(path, -1); err != nil {
		d.t.Fatalf("delete %s: %v", path, err)
	}
}

// stat returns what the registry knows of a node, or nil when it is not there.
func (d *directory) stat(path string) *libzk.Stat {
	d.t.Helper()
	there, stat, err := d.conn.Exists(path)
	if err != nil {
		d.t.Fatalf("look at %s: %v", path, err)
	}
	if !there {
		return nil
	}
	return stat
}

// until waits for the node to be there, or not to be, by a watch, and returns its state.
func (d *directory) until(path string, there bool) *libzk.Stat {
	d.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		is, stat, events, err := d.conn.ExistsW(path)
		if err != nil {
			d.t.Fatalf("look at %s: %v", path, err)
		}
		if is == there {
			return stat
		}
		select {
		case <-events:
		case <-timer.C:
			d.t.Fatalf("%s: there is %v, want %v", path, is, there)
		}
	}
}

// broker is one in this process, on real sockets.
type broker struct {
	*server.Server
	t    *testing.T
	d    *directory
	log  *logBuffer
	stop func() error // ends it; a second call does nothing
}

// testConfig is a broker of topic trade and message that keeps all in memory.
func testConfig(d *directory) conf.Config {
	c := conf.Default()
	c.Bind, c.Network.Addr = "127.0.0.1:0", "127.0.0.1:0"
	c.ZKHost, c.Store, c.BindingsFile = d.addr, "memory://", ""
	c.Topics = []string{"message", "trade"}
	c.DrainTimeout = 50 * time.Millisecond
	c.Delivery.BindSkew = 2 * time.Second
	return c
}

// start runs a broker, with one thing or another set otherwise, and waits until clients find it.
func start(t *testing.T, change func(*conf.Config)) *broker {
	t.Helper()
	d := newDirectory(t)
	return d.start(change)
}

func (d *directory) start(change func(*conf.Config)) *broker {
	d.t.Helper()
	b := d.launch(change, server.Control{})
	select {
	case <-b.Started():
	case <-time.After(patience):
		_ = b.stop()
		d.t.Fatalf("the broker does not start:\n%s", b.log)
	}
	return b
}

// launch runs a broker and does not wait.
func (d *directory) launch(change func(*conf.Config), control server.Control) *broker {
	d.t.Helper()
	c := testConfig(d)
	if change != nil {
		change(&c)
	}
	c.Network.Addr = c.Bind
	if err := c.Validate(); err != nil {
		d.t.Fatal(err)
	}
	b := &broker{t: d.t, d: d, log: &logBuffer{}}
	var err error
	if b.Server, err = server.New(c, control, slog.New(slog.NewTextHandler(b.log, nil))); err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	b.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	d.t.Cleanup(func() {
		if err := b.stop(); err != nil {
			d.t.Errorf("the broker ended: %v", err)
		}
		if d.t.Failed() {
			d.t.Logf("log of the broker:\n%s", b.log)
		}
	})
	return b
}

// node is the broker's ephemeral node of a topic.
func (b *broker) node(topic string) string { return "/kiteq/server/" + topic + "/" + b.Addr() }

// get asks the operators' port and decodes the JSON.
func (b *broker) get(path string, into any) string {
	b.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + b.AdminAddr() + path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		b.t.Fatalf("%s: status %d, %v", path, response.StatusCode, err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		b.t.Fatalf("%s: %v in %s", path, err, text)
	}
	return string(text)
}

// binds is what /binds answers (§9.3).
type binds struct {
	Groups   map[string][]string         `json:"topic_2_groups"`
	Limiters map[string]map[string][]int `json:"topic_limiters"`
}

// bound waits until exactly these groups are bound to the topic, as operators see it.
func (b *broker) bound(topic string, groups ...string) {
	b.t.Helper()
	eventually(b.t, func() string {
		var answer binds
		b.get("/binds", &answer)
		if got := answer.Groups[topic]; strings.Join(got, " ") != strings.Join(groups, " ") {
			return fmt.Sprintf("groups %q are bound to %s, want %q", got, topic, groups)
		}
		return ""
	})
}

// members returns the addresses of a group's connections, as operators see them.
func (b *broker) members(group string) []string {
	b.t.Helper()
	var answer struct {
		Kiteq struct{ Groups map[string][]string }
	}
	b.get("/stat", &answer)
	return answer.Kiteq.Groups[group]
}

// eventually waits until what returns "", or fails with what it returned last.
func eventually(t *testing.T, what func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		problem := what()
		if problem == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after %v: %s", patience, problem)
		case <-tick.C:
		}
	}
}

// logBuffer is a log that tests look into.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// controlNone is no control over the process.
var controlNone = server.Control{} //nolint:gochecknoglobals // a constant
