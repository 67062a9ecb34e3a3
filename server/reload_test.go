package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
	"github.com/kiteq/kiteq/registry"
)

// configFile is a configuration that changes while the broker runs.
type configFile struct {
	mu     sync.Mutex
	config conf.Config
	err    error
}

func (f *configFile) read() (conf.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.config, f.err
}

func (f *configFile) set(err error, topics ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.config.Topics, f.err = topics, err
}

// found follows which topics clients find the broker under.
type found struct {
	mu     sync.Mutex
	topics []string
}

func follow(t *testing.T, r registry.Registry, addr string, topics ...string) *found {
	t.Helper()
	f := &found{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- r.WatchBrokers(ctx, topics, func(brokers registry.Brokers) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.topics = nil
			for topic, addrs := range brokers {
				if slices.Contains(addrs, addr) {
					f.topics = append(f.topics, topic)
				}
			}
			slices.Sort(f.topics)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *found) expect(t *testing.T, want string) {
	t.Helper()
	eventually(t, 15*time.Second, func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		if got := strings.Join(f.topics, " "); got != want {
			return fmt.Sprintf("clients find the broker under %q, want %q", got, want)
		}
		return ""
	})
}

type bindsAnswer struct {
	Groups   map[string][]string           `json:"topic_2_groups"`
	Limiters map[string]map[string][]int32 `json:"topic_limiters"`
}

type reloadAnswer struct {
	Status int
	Topics []string
	Error  string
}

// TestReload adds and removes topics of a running broker, with clients connected all the time.
func TestReload(t *testing.T) {
	t.Parallel()
	c := testConfig()
	file := &configFile{config: c}
	s, log := start(t, c, Control{Reload: file.read})
	r := directory(t, s)
	clients := follow(t, r, s.Addr(), "trade", "fee", "late")
	clients.expect(t, "trade")
	bind(t, r, "s-all", true, "trade", "fee") // fee is not served yet
	producer, consumer := connect(t, s, "p-test"), connect(t, s, "s-all")
	unknown := "false " + protocol.FeedbackTopic
	if got := producer.publish("fee", 1); got[0] != unknown {
		t.Errorf("before: %q", got)
	}

	var answer reloadAnswer
	if body := get(t, s, "/reload", &answer); body != `{"status":200,"topics":["trade"]}` {
		t.Errorf("nothing changed: %s", body)
	}
	file.set(nil, "fee", "trade")
	if body := get(t, s, "/reload", &answer); body != `{"status":200,"topics":["fee","trade"]}` {
		t.Errorf("added: %s", body)
	}
	clients.expect(t, "fee trade")
	// The binding was read before the topic was accepted, so nothing of it can be missed.
	producer.publish("fee", 1)
	producer.publish("trade", 1)
	if got := consumer.consume(2); !slices.Contains(got, "fee") || !slices.Contains(got, "trade") {
		t.Errorf("delivered %q", got)
	}
	var binds bindsAnswer
	eventually(t, 10*time.Second, func() string {
		body := get(t, s, "/binds", &binds)
		for _, topic := range []string{"fee", "trade"} {
			if limiter := binds.Limiters[topic]["s-all"]; !slices.Equal(binds.Groups[topic], []string{"s-all"}) || len(limiter) != 2 || limiter[1] != 6000 {
				return body
			}
		}
		return ""
	})

	file.set(nil, "fee")
	if body := get(t, s, "/reload", &answer); body != `{"status":200,"topics":["fee"]}` {
		t.Errorf("removed: %s", body)
	}
	clients.expect(t, "fee")
	if got := producer.publish("trade", 1); got[0] != unknown {
		t.Errorf("after its removal: %q", got)
	}
	producer.publish("fee", 1)
	if got := consumer.consume(1); got[0] != "fee" {
		t.Errorf("delivered %q", got)
	}
	file.set(nil, "late", "trade") // both at once
	get(t, s, "/reload", &answer)
	clients.expect(t, "late trade")
	if got := producer.publish("trade", 1); !strings.HasPrefix(got[0], "true") {
		t.Errorf("served again: %q", got)
	}
	if got := consumer.consume(1); got[0] != "trade" {
		t.Errorf("delivered %q", got)
	}
	if n := strings.Count(log.String(), "topics changed"); n != 3 {
		t.Errorf("%d changes in the log, want 3", n)
	}
}

// TestReloadFails leaves everything as it was, and says why.
func TestReloadFails(t *testing.T) {
	t.Parallel()
	c := testConfig()
	file := &configFile{config: c}
	s, _ := start(t, c, Control{Reload: file.read})
	r := directory(t, s)
	clients := follow(t, r, s.Addr(), "trade", "fee")
	bind(t, r, "s-all", true, "trade")
	producer, consumer := connect(t, s, "p-test"), connect(t, s, "s-all")
	for _, test := range []struct {
		name   string
		err    error
		topics []string
		want   string
	}{
		{"the file is bad", errors.New(`key "topicz" is not known`), nil, `"topicz"`},
		{"the registry refuses", nil, []string{"fee", "no/topic"}, "no/topic"},
	} {
		file.set(test.err, test.topics...)
		answer := reloadAnswer{Topics: []string{"kept"}}
		body := get(t, s, "/reload", &answer)
		if answer.Status != 200 || answer.Topics != nil || !strings.Contains(answer.Error, test.want) || !strings.HasPrefix(body, `{"status":200,"topics":null,"error":"`) {
			t.Errorf("%s: %s", test.name, body)
		}
		clients.expect(t, "trade")
		if got := producer.publish("fee", 1); got[0] != "false "+protocol.FeedbackTopic {
			t.Errorf("%s: fee: %q", test.name, got)
		}
		if got := producer.publish("trade", 1); !strings.HasPrefix(got[0], "true") {
			t.Errorf("%s: trade: %q", test.name, got)
		}
		consumer.consume(1)
	}
	bind(t, r, "s-new", true, "trade") // bindings are still followed
	eventually(t, 10*time.Second, func() string {
		var binds bindsAnswer
		if body := get(t, s, "/binds", &binds); !slices.Equal(binds.Groups["trade"], []string{"s-all", "s-new"}) {
			return body
		}
		return ""
	})
}

// TestReloadWhenStopped: who asks a broker that cannot reload is told so, and never waits for nobody.
func TestReloadWhenStopped(t *testing.T) {
	t.Parallel()
	s, err := New(testConfig(), Control{}, (&logBuffer{}).logger())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reload(t.Context()); !errors.Is(err, kite.Unavailable) {
		t.Errorf("without a file: %v, want code unavailable", err)
	}
	s.control.Reload = (&configFile{}).read
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Reload(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("before Run: %v, want the end of the context", err)
	}
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reload(t.Context()); !errors.Is(err, kite.Unavailable) {
		t.Errorf("after Run: %v, want code unavailable", err)
	}
}

// TestRemovedBacklog warns about messages that a removed topic leaves behind, and delivers them when the
// topic comes back.
func TestRemovedBacklog(t *testing.T) {
	t.Parallel()
	c := testConfig()
	c.Topics = []string{"trade", "fee"}
	file := &configFile{config: c}
	s, log := start(t, c, Control{Reload: file.read})
	r := directory(t, s)
	bind(t, r, "s-off", true, "trade")
	eventually(t, 10*time.Second, func() string {
		if len(s.exchange.Routes()) == 0 {
			return "the binding is not read"
		}
		return ""
	})
	connect(t, s, "p-test").publish("trade", 3)
	file.set(nil, "fee")
	if _, err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), `msg="topic removed with undelivered messages" topic=trade group=s-off messages=3`) {
		t.Errorf("no warning:\n%s", log)
	}
	consumer := connect(t, s, "s-off")
	file.set(nil, "fee", "trade")
	if _, err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	consumer.consume(3)
}

// TestReloadTakesOver changes what can be changed while the broker runs, and says what cannot.
func TestReloadTakesOver(t *testing.T) {
	t.Parallel()
	c := testConfig()
	file := &configFile{config: c}
	level, changed := new(slog.LevelVar), make(chan string)
	s, log := start(t, c, Control{Reload: file.read, Changed: changed, Level: level})
	bind(t, directory(t, s), "s-all", true, "trade")
	eventually(t, 10*time.Second, func() string {
		if len(s.exchange.Routes()) == 0 {
			return "the binding is not read"
		}
		return ""
	})
	file.mu.Lock()
	n := &file.config
	n.AcceptPerSecond, n.InFlight, n.LogLevel, n.Bind, n.Store = 2, 2, "debug", ":1", "mysql://u:secret@h:3306"
	n.Delivery.Retry, n.Delivery.AckTimeout = map[string][]time.Duration{"s-all": {0}}, 100*time.Millisecond
	n.Transaction.First, n.Network.MaxConnections, n.Lane.MaxOpen = 100*time.Millisecond, 3, 1000
	file.mu.Unlock()
	changed <- "a test"
	eventually(t, 10*time.Second, func() string {
		if !strings.Contains(log.String(), `msg="log level changed"`) {
			return log.String()
		}
		return ""
	})
	for _, line := range []string{
		`why="a test"`, `msg="configuration changed" key=accept_per_second was=0 now=2`, `key=delivery.retry was="" now="s-all = 0s"`,
		`msg="a change of the configuration needs a restart" key=bind is=127.0.0.1:0 wanted=:1`, `key=db is=*** wanted=***`,
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("no %s in the log:\n%s", line, log)
		}
	}
	if level.Level() != slog.LevelDebug || strings.Contains(log.String(), "secret") || strings.Contains(log.String(), "key=topics") {
		t.Errorf("level %v, log:\n%s", level.Level(), log)
	}

	producer, consumer := connect(t, s, "p-test"), connect(t, s, "s-all")
	answers := producer.publish("trade", 3) // one at once
	if all := strings.Join(answers, " "); !strings.Contains(all, "true ") || !strings.Contains(all, protocol.FeedbackOverflow) {
		t.Errorf("answers %q", answers)
	}
	first, again := consumer.read(), consumer.read() // without an answer it is sent again
	var a, b protocol.MessageView
	if err := errors.Join(a.Decode(first.Payload), b.Decode(again.Payload)); err != nil || string(a.Header.MessageID) != string(b.Header.MessageID) {
		t.Errorf("%s and %s, %v", a.Header.MessageID, b.Header.MessageID, err)
	}
	connect(t, s, "s-third")
	if conn, err := net.Dial("tcp4", s.Addr()); err == nil {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a fourth connection: %v", err)
		}
		conn.Close()
	}
}
