package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/clienttest"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry/embedded"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, // gnet's worker pool is package-wide and never ends
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"))
}

// bundle runs command lines in this process, with a relaying broker for topic trade.
type bundle struct {
	t        *testing.T
	broker   *clienttest.Broker
	registry *clienttest.Registry
}

func setup(t *testing.T) *bundle {
	t.Helper()
	broker, err := clienttest.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	b := &bundle{t, broker, clienttest.NewRegistry()}
	broker.Relay(b.registry)
	b.registry.SetBrokers("trade", broker.Addr())
	return b
}

// result is what a command line left behind.
type result struct {
	code     int
	out, err string
}

func (b *bundle) run(in string, args ...string) result {
	return b.start(b.t.Context(), in, args...).wait()
}

// process is a command line that runs.
type process struct {
	out  *lineBuffer
	err  bytes.Buffer
	code chan int
}

func (b *bundle) start(ctx context.Context, in string, args ...string) *process {
	p := &process{out: newLineBuffer(), code: make(chan int, 1)}
	t := terminal{
		in: strings.NewReader(in), out: p.out, err: &p.err,
		registry: func(context.Context, string) (directory, func(), error) { return b.registry, func() {}, nil },
	}
	go func() { p.code <- run(ctx, args, t) }()
	return p
}

func (p *process) wait() result {
	code := <-p.code
	return result{code, p.out.String(), p.err.String()}
}

// lineBuffer is a buffer that a test can wait on.
type lineBuffer struct {
	mu    sync.Mutex
	all   bytes.Buffer
	lines chan string
}

func newLineBuffer() *lineBuffer { return &lineBuffer{lines: make(chan string, 10_000)} }

func (l *lineBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines <- strings.TrimSuffix(string(p), "\n")
	return l.all.Write(p)
}

func (l *lineBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func (r result) mustOK(t *testing.T) result {
	t.Helper()
	if r.code != exitOK || r.err != "" {
		t.Fatalf("exit code %d, error output %q", r.code, r.err)
	}
	return r
}

func TestPubBody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	got := b.run("", "pub", "trade", "pay", "order 17", "--prop", "k=v", "--group", "p-g", "--deliver-limit", "3", "--expires", "1h", "--text").mustOK(t)
	p, err := b.broker.Published.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.out != p.ID+"\n" || p.Topic != "trade" || p.Type != "pay" || string(p.Body) != "order 17" || p.Group != "p-g" ||
		p.Properties["k"] != "v" || p.DeliverLimit != 3 || !p.Text || p.Fly || !p.Commit {
		t.Errorf("printed %q, published %+v", got.out, p)
	}
	if left := p.ExpiredTime - time.Now().Unix(); left < 3500 || left > 3601 {
		t.Errorf("expires in %d s, want an hour", left)
	}
}

func TestPubCounts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		args     []string
		want     []string
	}{
		{"repeat", "", []string{"x", "-n", "3"}, []string{"x", "x", "x"}},
		{"lines", "a\n\nc d\n", nil, []string{"a", "", "c d"}},
		{"first lines", "a\nb\nc\n", []string{"-n", "2"}, []string{"a", "b"}},
		{"many", strings.Repeat("x\n", 1000), nil, strings.Split(strings.Repeat("x ", 999)+"x", " ")},
		{"nothing", "", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			got := b.run(tt.in, append([]string{"pub", "trade", "pay", "--fly"}, tt.args...)...).mustOK(t)
			if n := strings.Count(got.out, "\n"); n != len(tt.want) || b.broker.Published.Len() != n {
				t.Fatalf("%d ids, %d published, want %d", n, b.broker.Published.Len(), len(tt.want))
			}
			for _, want := range tt.want {
				p, err := b.broker.Published.Next(t.Context())
				if err != nil || string(p.Body) != want || !p.Fly {
					t.Fatalf("published %q, %v, want %q", p.Body, err, want)
				}
			}
		})
	}
}

func TestPubRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.broker.OnPublish(func(clienttest.Published) clienttest.Answer { return clienttest.Refuse("Unauthorized, not for you") })
	got := b.run("", "pub", "trade", "pay", "x", "-o", "json")
	if got.code != exitError || got.out != "" || strings.Count(got.err, "\n") != 1 || !strings.Contains(got.err, "not for you") {
		t.Errorf("%+v", got)
	}
}

func TestSub(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, interrupt := context.WithCancel(t.Context())
	sub := b.start(ctx, "", "sub", "trade", "^pay-", "--bind", "regx", "--group", "s-g", "--order", "key", "--order-key", "account")
	if _, err := b.broker.Connects.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"refund", "no"}, {"pay-1", "one"}, {"pay-2", "two\nlines"}} {
		b.run("", append([]string{"pub", "trade", "--id", "0123456789abcdef0123456789abcdef"}, args...)...).mustOK(t)
	}
	for _, want := range []string{
		"trade pay-1 0123456789abcdef0123456789abcdef one",
		`trade pay-2 0123456789abcdef0123456789abcdef "two\nlines"`,
	} {
		if got := <-sub.out.lines; got != want {
			t.Errorf("printed %q, want %q", got, want)
		}
	}
	interrupt()
	if got := sub.wait(); got.code != exitOK || got.err != "" {
		t.Errorf("interrupted: %+v", got)
	}
	if got := b.registry.Bindings("trade")["s-g"]; len(got) != 1 || !got[0].Durable || got[0].Order != client.OrderByKey || got[0].OrderKey != "account" {
		t.Errorf("bound %+v", got)
	}
}

func TestSubCountAndNack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.start(t.Context(), "", "sub", "trade", "--bind", "fanout", "-n", "3", "--nack", "-o", "json", "--durable=false")
	if _, err := b.broker.Connects.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := client.NewID()
	b.run("", "pub", "trade", "pay", "\xff\x00", "--id", id, "--prop", "k=v").mustOK(t)
	got := sub.wait().mustOK(t)
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	if len(lines) != 3 {
		t.Fatalf("printed %q, want the message three times", got.out)
	}
	for _, line := range lines {
		var r received
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if r.ID != id || r.Topic != "trade" || r.Type != "pay" || r.Group != publisherGroup || r.Body != nil ||
			string(r.BodyBase64) != "\xff\x00" || r.Properties["k"] != "v" || r.Created == nil || r.Broker != b.broker.Addr() {
			t.Errorf("printed %s", line)
		}
	}
	if a, err := b.broker.Acks.Next(t.Context()); err != nil || a.OK || a.Feedback != errNacked.Error() {
		t.Errorf("acked %+v, %v", a, err)
	}
	if got := b.registry.Bindings("trade")[subscriberGroup]; len(got) != 1 || got[0].Durable {
		t.Errorf("bound %+v", got)
	}
}

func TestTx(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.start(t.Context(), "", "sub", "trade", "order", "-n", "3", "--group", "s-g")
	if _, err := b.broker.Connects.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	dropped := strings.TrimSpace(b.run("", "tx", "prepare", "trade", "order", "dropped").mustOK(t).out)
	b.run("", "tx", "rollback", dropped, "--topic", "trade", "--reason", "mistake").mustOK(t)
	first := strings.TrimSpace(b.run("first\nsecond\n", "tx", "prepare", "trade", "order").mustOK(t).out)
	if got := b.run("", "tx", "commit", first, "--topic", "trade", "-o", "json").mustOK(t); got.out != `{"event":"committed","id":"`+first+`","topic":"trade"}`+"\n" {
		t.Errorf("printed %q", got.out)
	}
	run := b.run("", "tx", "run", "trade", "order", "run", "--verdict", "commit").mustOK(t)
	id, ok := strings.CutPrefix(strings.Split(run.out, "\n")[0], "prepared ")
	if !ok || run.out != "prepared "+id+"\ncommitted "+id+"\n" {
		t.Errorf("printed %q", run.out)
	}
	b.run("", "tx", "run", "trade", "order", "never", "--verdict", "rollback").mustOK(t)
	b.run("", "pub", "trade", "order", "last").mustOK(t)
	got := sub.wait().mustOK(t)
	var bodies []string
	for line := range strings.Lines(got.out) {
		bodies = append(bodies, strings.Fields(line)[3])
	}
	if strings.Join(bodies, " ") != "first run last" {
		t.Errorf("delivered %v", bodies)
	}
}

func TestTxAnswersChecks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, interrupt := context.WithCancel(t.Context())
	tx := b.start(ctx, "", "tx", "run", "trade", "order", "x", "--verdict", "leave", "--answer", "rollback", "--wait", "1h")
	<-tx.out.lines
	left := <-tx.out.lines
	p, err := b.broker.Published.Next(t.Context())
	if err != nil || left != "left "+p.ID {
		t.Fatalf("printed %q, %v", left, err)
	}
	opaque, err := b.broker.Check(publisherGroup, p)
	if err != nil {
		t.Fatal(err)
	}
	v, err := b.broker.Verdicts.Next(t.Context())
	if err != nil || v.Opaque != opaque || v.Status != 2 {
		t.Errorf("answered %+v, %v", v, err)
	}
	if got := <-tx.out.lines; got != "check "+p.ID+" answered rollback" {
		t.Errorf("printed %q", got)
	}
	interrupt()
	if got := tx.wait(); got.code != exitOK || got.err != "" {
		t.Errorf("interrupted: %+v", got)
	}
}

func TestPrepareStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, interrupt := context.WithCancel(t.Context())
	tx := b.start(ctx, "", "tx", "prepare", "trade", "order", "x", "--leave=false")
	<-tx.out.lines
	p, err := b.broker.Published.Next(t.Context())
	if err != nil || p.Commit {
		t.Fatalf("published %+v, %v", p, err)
	}
	if _, err := b.broker.Check(publisherGroup, p); err != nil {
		t.Fatal(err)
	}
	if v, err := b.broker.Verdicts.Next(t.Context()); err != nil || v.Status != 0 {
		t.Errorf("answered %+v, %v", v, err)
	}
	interrupt()
	if got := tx.wait(); got.code != exitOK || got.err != "" {
		t.Errorf("interrupted: %+v", got)
	}
}

func TestTopicsAndBindings(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.registry.SetBrokers("stock")
	b.registry.SetBrokers("trade", "10.0.0.1:13800", "10.0.0.2:13800")
	if err := b.registry.Bind(t.Context(), []kite.Binding{kite.Direct("s-books", "trade", "pay"), kite.Fanout("s-audit", "trade")}[:1]); err != nil {
		t.Fatal(err)
	}
	if err := b.registry.Bind(t.Context(), []kite.Binding{kite.Fanout("s-audit", "trade")}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"topics"}, "TOPIC  BROKERS\nstock  (none)\ntrade  10.0.0.1:13800,10.0.0.2:13800\n"},
		{[]string{"topics", "stock", "-o", "json"}, `{"topic":"stock","brokers":[]}` + "\n"},
		{[]string{"bindings"}, "" +
			"GROUP    TOPIC  BIND    TYPE  DURABLE  WATERMARK  SINCE\n" +
			"s-audit  trade  fanout  *     true     0          -\n" +
			"s-books  trade  direct  pay   true     0          -\n"},
		{[]string{"bindings", "stock"}, "GROUP  TOPIC  BIND  TYPE  DURABLE  WATERMARK  SINCE\n"},
		{[]string{"bindings", "trade", "-o", "json"}, "" +
			`{"group":"s-audit","topic":"trade","bind":"fanout","type":"*","durable":true,"watermark":0}` + "\n" +
			`{"group":"s-books","topic":"trade","bind":"direct","type":"pay","durable":true,"watermark":0}` + "\n"},
	}
	for _, tt := range tests {
		if got := b.run("", tt.args...).mustOK(t); got.out != tt.want {
			t.Errorf("%v printed\n%swant\n%s", tt.args, got.out, tt.want)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const id = "0123456789abcdef0123456789abcdef"
	tests := []struct {
		args []string
		code int
		text string
	}{
		{[]string{"nonsense"}, exitUsage, "nonsense"},
		{[]string{"--nonsense"}, exitUsage, "nonsense"},
		{[]string{"pub"}, exitUsage, "TOPIC is missing"},
		{[]string{"pub", "trade"}, exitUsage, "TYPE is missing"},
		{[]string{"pub", "trade", "pay", "order", "17"}, exitUsage, "quotes"},
		{[]string{"pub", "a/b", "pay", "x"}, exitUsage, `"a/b"`},
		{[]string{"pub", "trade", "pay", "x", "-n", "0"}, exitUsage, "--count 0"},
		{[]string{"pub", "trade", "pay", "x", "--id", "17"}, exitUsage, "32 hexadecimal"},
		{[]string{"pub", "trade", "pay", "x", "--prop", "k"}, exitUsage, "k"},
		{[]string{"pub", "trade", "pay", "x", "-o", "xml"}, exitUsage, `"xml"`},
		{[]string{"pub", "trade", "pay", "x", "--timeout", "0s"}, exitUsage, "--timeout"},
		{[]string{"pub", "trade", "pay", "x", "--broker", "here"}, exitUsage, "host:port"},
		{[]string{"pub", "stock", "pay", "x", "--timeout", "50ms"}, exitError, "no broker of topic stock in registry memory"},
		{[]string{"pub", "trade", "pay", "x", "--broker", "127.0.0.1:1", "--timeout", "50ms"}, exitError, "127.0.0.1:1"},
		{[]string{"sub", "stock", "x", "--timeout", "50ms"}, exitError, "no broker of topic stock"},
		{[]string{"sub", "trade"}, exitUsage, "TYPE-OR-PATTERN"},
		{[]string{"sub", "trade", "x", "--bind", "fanout"}, exitUsage, `leave "x" out`},
		{[]string{"sub", "trade", "x", "--bind", "all"}, exitUsage, `"all"`},
		{[]string{"sub", "trade", "(", "--bind", "regx"}, exitUsage, `"("`},
		{[]string{"sub", "trade", "x", "--order", "none"}, exitUsage, `order "none"`},
		{[]string{"sub", "trade", "x", "--order-key", "k"}, exitUsage, `orderKey "k"`},
		{[]string{"sub", "trade", "x", "--order", "key", "--broadcast"}, exitUsage, "broadcast cannot be ordered"},
		{[]string{"sub", "trade", "x", "-n", "-1"}, exitUsage, "--count -1"},
		{[]string{"sub", "trade", "x", "--group", "a/b"}, exitUsage, `"a/b"`},
		{[]string{"tx"}, exitUsage, "prepare, run, list, show, check, commit, rollback"},
		{[]string{"tx", "commit", id}, exitUsage, "--reason is missing"},
		{[]string{"tx", "commit", "17", "--topic", "trade"}, exitUsage, `"17"`},
		{[]string{"tx", "run", "trade", "pay", "x", "--verdict", "maybe"}, exitUsage, `"maybe"`},
		{[]string{"tx", "run", "trade", "pay", "x", "--answer", "maybe"}, exitUsage, `"maybe"`},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			got := b.run("", tt.args...)
			if got.code != tt.code || !strings.Contains(got.err, tt.text) || strings.Count(got.err, "\n") != 1 || got.out != "" {
				t.Errorf("%+v, want code %d and %q on one line", got, tt.code, tt.text)
			}
		})
	}
}

func TestHelpTeaches(t *testing.T) {
	t.Parallel()
	b := setup(t)
	all := append(leaves(newRoot(terminal{}), ""), "", "tx", "store", "dlq", "delayed", "config")
	for _, name := range all {
		if name == "docs" { // for who makes packages
			continue
		}
		args := strings.Fields(name)
		got := b.run("", append(args, "--help")...).mustOK(t)
		if !strings.Contains(got.out, "Examples:\n  ") || !strings.Contains(got.out, "kiteqctl "+strings.Join(args, " ")) {
			t.Errorf("help of %v has no example:\n%s", args, got.out)
		}
	}
}

func TestNoZooKeeper(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close() // now nobody listens there
	for _, args := range [][]string{{"topics"}, {"groups"}, {"bindings"}, {"pub", "trade", "pay", "x"}, {"sub", "trade", "pay"}} {
		var out, failures bytes.Buffer
		code := run(t.Context(), append(args, "--zkhost", "zk://"+addr+"/root"), terminal{in: strings.NewReader(""), out: &out, err: &failures, registry: openZooKeeper})
		if code != exitError || strings.Count(failures.String(), "\n") != 1 {
			t.Errorf("%v: code %d, %q", args, code, failures.String())
		}
		for _, want := range []string{addr, "refused", "./build.sh run", "--zkhost"} {
			if !strings.Contains(failures.String(), want) {
				t.Errorf("%v: %q is not in %q", args, want, failures.String())
			}
		}
	}
	var out, failures bytes.Buffer
	code := run(t.Context(), []string{"topics", "--zkhost", "etcd://x"}, terminal{in: strings.NewReader(""), out: &out, err: &failures, registry: openZooKeeper})
	if code != exitUsage || !strings.Contains(failures.String(), "etcd") {
		t.Errorf("other scheme: code %d, %q", code, failures.String())
	}
}

func TestZooKeeper(t *testing.T) {
	t.Parallel()
	server, err := embedded.Listen(embedded.Options{Addr: "127.0.0.1:0"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- server.Run(ctx) }()
	command := func(args ...string) string {
		t.Helper()
		var out, failures bytes.Buffer
		code := run(t.Context(), append(args, "--zkhost", server.Addr()), terminal{in: strings.NewReader(""), out: &out, err: &failures, registry: openZooKeeper})
		if code != exitOK {
			t.Fatalf("%v: code %d, %s", args, code, failures.String())
		}
		return out.String()
	}
	if got := command("topics"); got != "TOPIC  BROKERS\n" {
		t.Errorf("topics of an empty registry: %q", got)
	}
	r, stop, err := openZooKeeper(t.Context(), server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CreateTopics(t.Context(), []string{"stock"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Announce(t.Context(), "10.0.0.1:13800", []string{"stock"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Bind(t.Context(), []kite.Binding{kite.Fanout("s-audit", "trade")}); err != nil {
		t.Fatal(err)
	}
	if got, want := command("topics"), "TOPIC  BROKERS\nstock  10.0.0.1:13800\ntrade  (none)\n"; got != want {
		t.Errorf("topics printed\n%swant\n%s", got, want)
	}
	var b bound
	if err := json.Unmarshal([]byte(command("bindings", "-o", "json")), &b); err != nil {
		t.Fatal(err)
	}
	if b.Group != "s-audit" || b.Topic != "trade" || b.Bind != "fanout" || b.Since == nil || time.Since(*b.Since) > time.Hour {
		t.Errorf("bindings printed %+v", b)
	}
	stop()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// closedPipe fails every write, as a pipe whose reader has gone.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestSubEndsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	b := setup(t)
	code := make(chan int)
	var failures bytes.Buffer
	go func() {
		code <- run(t.Context(), []string{"sub", "trade", "pay"}, terminal{
			in: strings.NewReader(""), out: closedPipe{}, err: &failures,
			registry: func(context.Context, string) (directory, func(), error) { return b.registry, func() {}, nil },
		})
	}()
	if _, err := b.broker.Connects.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.run("", "pub", "trade", "pay", "x").mustOK(t)
	if got := <-code; got != exitError || !strings.Contains(failures.String(), io.ErrClosedPipe.Error()) {
		t.Errorf("code %d, %q", got, failures.String())
	}
}

func TestFirstErrorOrder(t *testing.T) {
	t.Parallel()
	one, two := errors.New("one"), errors.New("two")
	if firstError(nil, nil) != nil || firstError(nil, two) != two || firstError(one, two) != one {
		t.Error("the first that is not nil")
	}
}
