package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/internal/mysqltest"
	"github.com/kiteq/kiteq/internal/zktest"
)

// TestMySQLAway cuts the broker off its database and lets it back: publishes are refused with the reason
// meanwhile, the one that was under way waits, and nothing that was answered true is lost.
func TestMySQLAway(t *testing.T) {
	t.Parallel()
	proxy, c := throughProxy(t)
	s, log := start(t, c, Control{})
	bind(t, directory(t, s), "s-all", true, "trade")
	eventually(t, 10*time.Second, func() string {
		if len(s.exchange.Routes()) == 0 {
			return "the binding is not read"
		}
		return ""
	})
	consumer, producer := connect(t, s, "s-all"), connect(t, s, "p-test")
	for _, answer := range producer.publish("trade", 20) {
		if !strings.HasPrefix(answer, "true") || !strings.HasSuffix(answer, " mysql") {
			t.Fatal(answer)
		}
	}
	consumer.consume(10)

	proxy.Cut()
	waiting := connect(t, s, "p-test")
	answers := make(chan []string, 1)
	go func() { answers <- waiting.publish("trade", 5) }()
	eventually(t, 10*time.Second, func() string {
		if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "mysql "+proxy.Addr()+" is away since ") {
			return fmt.Sprintf("ready: %v, want that the database is away", err)
		}
		return ""
	})
	for _, answer := range producer.publish("trade", 3) {
		if !strings.HasPrefix(answer, "false ") || !strings.Contains(answer, "unavailable") {
			t.Errorf("publish without a database: %q", answer)
		}
	}
	proxy.Heal()
	stored := 20
	for _, answer := range append(<-answers, producer.publish("trade", 0)...) {
		switch { // it waited, or it came when the groups' progress did so already
		case strings.HasPrefix(answer, "true"):
			stored++
		case !strings.Contains(answer, "unavailable"):
			t.Errorf("publish while the database went away: %q", answer)
		}
	}
	eventually(t, 10*time.Second, func() string {
		if err := s.Ready(); err != nil {
			return fmt.Sprintf("ready: %v", err)
		}
		return ""
	})
	producer.publish("trade", 5)
	consumer.consume(stored + 5 - 10)
	if text := log.String(); !strings.Contains(text, "database back") {
		t.Errorf("log:\n%s", text)
	}
}

// TestMySQLStop stops a broker whose database is away, with a publish under way: it does not wait for ever.
func TestMySQLStop(t *testing.T) {
	t.Parallel()
	proxy, c := throughProxy(t)
	log := &logBuffer{}
	s, err := New(c, Control{}, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer cancel()
	select {
	case <-s.Started():
	case err := <-ended:
		t.Fatal(err)
	}
	producer := connect(t, s, "p-test")
	if answer := producer.publish("trade", 1)[0]; !strings.HasPrefix(answer, "true") {
		t.Fatal(answer)
	}
	proxy.Cut()
	producer.write(producer.message("trade"))
	eventually(t, 10*time.Second, func() string {
		if s.Ready() == nil {
			return "the broker does not notice"
		}
		return ""
	})
	cancel()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "the broker stops without the database") {
			t.Errorf("run: %v, want that the journal was given up", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("the broker does not stop; log:\n%s", log)
	}
}

// throughProxy configures a broker with a database of its own, which is reached through a proxy.
func throughProxy(t *testing.T) (*zktest.Proxy, conf.Config) {
	t.Helper()
	at := mysqltest.Server(t)
	proxy := zktest.NewProxy(t, at.Addr)
	name := mysqltest.Name(t, "server")

	c := testConfig()
	c.Store = fmt.Sprintf("mysql://%s?broker=b&db=%s&username=%s&password=%s", proxy.Addr(), name, at.User, at.Passwd)
	return proxy, c
}
