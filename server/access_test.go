package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/tlstest"
)

// rulesFile writes a file of rules, with HASH(key) replaced.
func rulesFile(t *testing.T, path, text string) string {
	t.Helper()
	for {
		before, rest, found := strings.Cut(text, "HASH(")
		if !found {
			break
		}
		key, after, _ := strings.Cut(rest, ")")
		hash, err := bcrypt.GenerateFromPassword([]byte(key), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		text = before + `"` + string(hash) + `"` + after
	}
	if path == "" {
		path = filepath.Join(t.TempDir(), "rules.toml")
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// readBack reads a configuration as kiteq does.
func readBack(t *testing.T, c *conf.Config, text string) func() (conf.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kiteq.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func() (conf.Config, error) {
		got, err := conf.Load([]string{"-configPath=" + path, "-zkhost=" + c.ZKHost, "-db=" + c.Store, "-bind=" + c.Bind, "-topics=" + strings.Join(c.Topics, ",")}, os.Stderr)
		got.DrainTimeout = c.DrainTimeout
		return got, err
	}
	got, err := read()
	if err != nil {
		t.Fatal(err)
	}
	*c = got
	return read
}

const rules = `
[groups.p-till]
keys = [HASH(till)]
publish = ["trade"]
[groups.p-clerk]
keys = [HASH(clerk)]
publish = ["fee"]
[groups.s-books]
keys = [HASH(books)]
subscribe = ["trade"]
[groups.s-clerk]
keys = [HASH(clerk)]
subscribe = ["fee"]
`

// secureBroker starts a broker with rules and a TLS port.
func secureBroker(t *testing.T, mutual bool, rulesPath string) (*Server, *tlstest.Authority, *logBuffer) {
	t.Helper()
	authority := tlstest.NewAuthority(t, "kiteq test")
	cert, key := authority.Issue(t, "broker")
	c := testConfig()
	c.Topics = []string{"trade", "fee"}
	text := fmt.Sprintf("[auth]\nfile = %q\n[tls]\nlisten = \"127.0.0.1:0\"\ncert = %q\nkey = %q\n", rulesPath, cert, key)
	if mutual {
		text += fmt.Sprintf("only = true\nclient_ca = %q\n", authority.File)
	}
	read := readBack(t, &c, text)
	s, log := start(t, c, Control{Reload: read})
	return s, authority, log
}

// TestWhoMayWhat is the table of who may do what, by the client library, over each kind of connection.
func TestWhoMayWhat(t *testing.T) {
	t.Parallel()
	plain, authority, _ := secureBroker(t, false, rulesFile(t, "", rules))
	mutual, mutualAuthority, _ := secureBroker(t, true, rulesFile(t, "", rules))
	for _, port := range []struct {
		name   string
		broker *Server
		addr   string
		tls    *tls.Config
	}{
		{"plain", plain, plain.Addr(), nil},
		{"TLS", plain, plain.SecureAddr(), authority.Client(t, "")},
		{"mutual TLS", mutual, mutual.Addr(), mutualAuthority.Client(t, "some client")},
	} {
		t.Run(port.name, func(t *testing.T) {
			open := client.Options{Brokers: []string{port.addr}, TLS: port.tls, Topics: []string{"trade"}}
			publishers(t, open)
			consumers(t, port.broker, open)
		})
	}
	t.Run("mutual TLS without a certificate", func(t *testing.T) {
		o := client.Options{Brokers: []string{mutual.Addr()}, TLS: mutualAuthority.Client(t, ""), Topics: []string{"trade"}, Group: "p-till", SecretKey: "till"}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if c, err := client.Dial(ctx, o); err == nil {
			t.Error("the right key was enough")
			_ = c.Close(ctx)
		}
	})
}

func publishers(t *testing.T, o client.Options) {
	t.Helper()
	for _, who := range []struct {
		name, group, key string
		in, publishes    bool
	}{
		{"anonymous", "p-anybody", "", false, false},
		{"no key", "p-till", "", false, false},
		{"wrong key", "p-till", "clerk", false, false},
		{"right key without right", "p-clerk", "clerk", true, false},
		{"a consumer", "s-books", "books", true, false},
		{"right key", "p-till", "till", true, true},
	} {
		o.Group, o.SecretKey = who.group, who.key
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, err := client.Dial(ctx, o)
		if (err == nil) != who.in || err != nil && !errors.Is(err, client.Unauthorized) {
			t.Errorf("%s: dial: %v", who.name, err)
		}
		if err != nil {
			continue
		}
		err = c.Publish(ctx, &client.Message{Topic: "trade", Type: "pay", Body: []byte(who.name)})
		if (err == nil) != who.publishes || err != nil && !errors.Is(err, client.Unauthorized) {
			t.Errorf("%s: publish: %v", who.name, err)
		}
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}

// consumers binds a group that may subscribe and one that may not, and publishes for them.
func consumers(t *testing.T, s *Server, o client.Options) {
	t.Helper()
	bind(t, directory(t, s), "s-books", false, "trade")
	bind(t, directory(t, s), "s-clerk", false, "trade")
	waitFor(t, "the bindings", func() bool { return len(s.exchange.Routes()) == 1 && len(*s.bad.Load()) == 1 })
	if bad := (*s.bad.Load())[0]; bad.Group != "s-clerk" || !strings.Contains(bad.Error, "may not subscribe") {
		t.Errorf("left out: %+v", bad)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got := make(chan string, 16)
	o.Topics = nil
	for group, key := range map[string]string{"s-books": "books", "s-clerk": "clerk"} {
		o.Group, o.SecretKey = group, key
		c, err := client.Dial(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(ctx)
		if _, err := c.Subscribe(ctx, []client.Binding{client.Fanout("trade")}, func(_ context.Context, d *client.Delivery) error {
			got <- group
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the member", func() bool { return s.directory.Online(group) })
	}
	o.Group, o.SecretKey, o.Topics = "p-till", "till", []string{"trade"}
	c, err := client.Dial(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	for range 3 {
		if err := c.Publish(ctx, &client.Message{Topic: "trade", Type: "pay"}); err != nil {
			t.Fatal(err)
		}
		select {
		case group := <-got:
			if group != "s-books" {
				t.Errorf("delivered to %s", group)
			}
		case <-ctx.Done():
			t.Fatal("who may subscribe gets nothing")
		}
	}
	if len(got) > 0 {
		t.Errorf("delivered to %s", <-got)
	}
}

// waitFor waits until something is so.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick, late := time.NewTicker(5*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for !is() {
		select {
		case <-late:
			t.Fatalf("waited too long for %s", what)
		case <-tick.C:
		}
	}
}

// TestRulesReload puts other rules in force while clients are connected: who lost its key is sent away, who may
// publish now may, and a file that is wrong changes nothing.
func TestRulesReload(t *testing.T) {
	t.Parallel()
	path := rulesFile(t, "", rules)
	s, _, log := secureBroker(t, false, path)
	bind(t, directory(t, s), "s-books", false, "trade")
	waitFor(t, "the binding", func() bool { return len(s.exchange.Routes()) == 1 })
	dial := func(group, key string) (*client.Client, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, err := client.Dial(ctx, client.Options{Brokers: []string{s.Addr()}, Topics: []string{"trade"}, Group: group, SecretKey: key})
		if err == nil {
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_ = c.Close(ctx)
			})
		}
		return c, err
	}
	clerk, err := dial("p-clerk", "clerk")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dial("p-till", "till"); err != nil {
		t.Fatal(err)
	}
	rulesFile(t, path, strings.Replace(rules, "HASH(clerk)", "\"my secret\"", 1))
	if _, err := s.Reload(t.Context()); err == nil || strings.Contains(err.Error(), "my secret") || !strings.Contains(err.Error(), "p-clerk") {
		t.Errorf("a wrong file: %v", err)
	}
	changed := strings.Replace(strings.Replace(rules, "HASH(till)", "HASH(new)", 1), `publish = ["fee"]`, `publish = ["*"]`, 1)
	changed = strings.Replace(changed, `subscribe = ["trade"]`, `subscribe = []`, 1)
	// The hash of the clerk is another one now, of the same key: it is sent away, too, and comes back.
	rulesFile(t, path, changed)
	if _, err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if routes := s.exchange.Routes(); len(routes) != 0 {
		t.Errorf("routes %v: the right to subscribe is gone", routes)
	}
	waitFor(t, "who lost its key to go", func() bool { return !s.directory.Online("p-till") })
	if _, err := dial("p-till", "till"); !errors.Is(err, kite.Unauthorized) {
		t.Errorf("the old key: %v", err)
	}
	if _, err := dial("p-till", "new"); err != nil {
		t.Errorf("the new key: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := clerk.Publish(ctx, &client.Message{Topic: "trade", Type: "pay"}); err != nil {
		t.Errorf("may publish now: %v", err)
	}
	for _, secret := range []string{"till\"", "my secret", "$2a$"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log shows %q", secret)
		}
	}
}

// TestOpenIsSaid warns at each start of what protects nobody, and of nothing else.
func TestOpenIsSaid(t *testing.T) {
	t.Parallel()
	c := testConfig()
	_, log := start(t, c, Control{})
	for _, want := range []string{"level=WARN", "anybody may publish", "operates the broker"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in the log", want)
		}
	}
	if strings.Contains(log.String(), "cross the network") {
		t.Error("nothing leaves this machine")
	}
	_, _, log = secureBroker(t, true, rulesFile(t, "", rules+"[operators.alice]\nrole = \"operator\"\nkeys = [HASH(token)]\n"))
	if strings.Contains(log.String(), "not protected") {
		t.Errorf("everything is set:\n%s", log)
	}
}
