package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/server"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, // gnet's worker pool is package-wide and never ends
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"))
}

// startBroker runs a broker in memory until the test ends.
func startBroker(t *testing.T, topics ...string) *server.Server {
	t.Helper()
	c := conf.Default()
	c.Bind, c.Network.Addr = "127.0.0.1:0", "127.0.0.1:0"
	c.ZKHost, c.Store = "embedded://127.0.0.1:0?data=", "memory://"
	c.Topics = topics
	c.DrainTimeout = 100 * time.Millisecond
	s, err := server.New(c, server.Control{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the broker ended: %v", err)
		}
	})
	select {
	case <-s.Started():
	case err := <-ended:
		ended <- err
		t.Fatalf("the broker did not start: %v", err)
	}
	return s
}

// mustBench runs the program and returns its result, which it must have written.
func mustBench(t *testing.T, s *server.Server, args ...string) (result, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "result.json")
	args = append([]string{"-broker", s.Addr(), "-zkhost", s.RegistryAddr(), "-json", path}, args...)
	var out, problems bytes.Buffer
	if code := run(t.Context(), args, &out, &problems); code != exitOK {
		t.Fatalf("exit code %d\n%s%s", code, &out, &problems)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if strings.Count(out.String(), "\n") != 1 {
		t.Errorf("the result is not one line: %q", &out)
	}
	return r, out.String()
}

func TestModes(t *testing.T) {
	t.Parallel()
	s := startBroker(t, "bench", "bench-0", "bench-1", "bench-2")
	cases := []struct {
		mode      string
		args      []string
		delivered int64
	}{
		{modePublish, nil, 0},
		{modeE2E, nil, 300},
		{modeE2E, []string{"-rate", "1000"}, 300},
		{modeTx, nil, 300},
		{modeDrain, nil, 300},
		{modeTopics, []string{"-topics", "3"}, 300},
		{modeGroups, []string{"-groups", "3"}, 900},
		{modeOwn, []string{"-groups", "3"}, 300},
		{modeApart, []string{"-groups", "3"}, 300},
		{modeE2E, []string{"-fly"}, 300},
		{modeIdle, []string{"-idle", "20", "-heartbeat", "20ms", "-rate", "1000"}, 300},
	}
	for _, via := range []string{viaWire, viaClient} {
		for _, c := range cases {
			t.Run(via+"/"+c.mode+strings.Join(c.args, ""), func(t *testing.T) {
				t.Parallel()
				args := append([]string{"-mode", c.mode, "-via", via, "-n", "300", "-conns", "3", "-window", "16", "-size", "64"}, c.args...)
				r, line := mustBench(t, s, args...)
				class := "mem"
				if r.Load.Fly {
					class = classFly
				}
				if r.Class != class || !strings.Contains(line, class) {
					t.Errorf("class %q of a broker in memory, line %q", r.Class, line)
				}
				if r.Publish.Messages != 300 || r.Publish.Latency == nil || r.Publish.Latency.Count != 300 || r.Publish.PerSecond <= 0 {
					t.Errorf("published %+v", r.Publish)
				}
				if r.Check.Lost != 0 || r.Check.Alien != 0 || r.Refused != 0 || r.Unanswered != 0 {
					t.Errorf("wrong: %s", line)
				}
				switch {
				case c.delivered == 0 && r.Deliver != nil:
					t.Errorf("delivered %+v without a group", r.Deliver)
				case c.delivered != 0 && (r.Deliver == nil || r.Deliver.Messages != c.delivered):
					t.Errorf("delivered %+v, want %d", r.Deliver, c.delivered)
				case c.delivered != 0 && (r.Deliver.Latency == nil) != (c.mode == modeDrain):
					t.Errorf("latency of deliveries in mode %s: %+v", c.mode, r.Deliver.Latency)
				}
				if c.mode == modeIdle && (r.Idle == nil || r.Idle.Connections != 20 || r.Idle.Answered == 0 || r.Idle.Ended != 0) {
					t.Errorf("idle %+v", r.Idle)
				}
			})
		}
	}
}

// TestCollect: a group that stayed bound finds what was published while it was away, by whichever run.
func TestCollect(t *testing.T) {
	t.Parallel()
	s := startBroker(t, "bench")
	slow := []string{"-group", "s-slow", "-type", "slow", "-size", "64"}
	r, _ := mustBench(t, s, append(slow, "-mode", modeCollect, "-patience", "500ms")...)
	if r.Deliver == nil || r.Deliver.Messages != 0 {
		t.Fatalf("an empty broker delivers %+v", r.Deliver)
	}
	for range 2 {
		mustBench(t, s, append(slow, "-mode", modePublish, "-n", "100")...)
	}
	r, line := mustBench(t, s, append(slow, "-mode", modeCollect, "-n", "200", "-consumers", "1")...)
	if r.Deliver.Messages != 200 || r.Check != (check{}) || !strings.Contains(line, "delivered 200 ") || strings.Contains(line, "published") {
		t.Errorf("%s", line)
	}
	var out, problems bytes.Buffer
	args := append(slow, "-mode", modeCollect, "-n", "5", "-broker", s.Addr(), "-zkhost", s.RegistryAddr(), "-patience", "300ms")
	if code := run(t.Context(), args, &out, &problems); code != exitWrong || !strings.Contains(out.String(), "lost 5") {
		t.Errorf("exit code %d for what is not there: %s%s", code, &out, &problems)
	}
}

// TestUntilDelivered: the window is what lies between publisher and consumer, however fast the broker confirms.
func TestUntilDelivered(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		deliver bool
		sent    int64
		want    error
	}{
		{"delivered", true, 80, nil},
		{"confirmed only", false, 8, errPatience},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, func(_ stamp, body []byte) [][]byte {
				if c.deliver {
					return [][]byte{body}
				}
				return nil
			})
			o, err := parseOptions(strings.Fields("-until delivered -conns 1 -consumers 1 -window 8 -n 80 -patience 500ms -broker "+f.listener.Addr().String()), t.Output())
			if err != nil {
				t.Fatal(err)
			}
			b := newBench(o)
			b.binder = unbound{}
			if _, err := b.run(t.Context()); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if sent, left := b.ledger.sent.Load(), b.ledger.unanswered.Load(); sent != c.sent || left != 0 {
				t.Errorf("%d sent, want %d; %d unanswered", sent, c.sent, left)
			}
		})
	}
}

// TestRate: an open loop keeps its rate, and ends by time.
func TestRate(t *testing.T) {
	t.Parallel()
	s := startBroker(t, "bench")
	r, line := mustBench(t, s, "-mode", "publish", "-rate", "500", "-d", "400ms", "-conns", "3")
	if r.Publish.Messages < 195 || r.Publish.Messages > 205 || r.Publish.Seconds < 0.39 {
		t.Errorf("500/s for 400ms: %s", line)
	}
}

func TestRefusedIsReported(t *testing.T) {
	t.Parallel()
	s := startBroker(t, "other")
	var out, problems bytes.Buffer
	code := run(t.Context(), []string{"-mode", "publish", "-broker", s.Addr(), "-n", "10"}, &out, &problems)
	if code != exitError || !strings.Contains(problems.String(), "UnSupport Topic") {
		t.Errorf("exit code %d, %q: want the broker's refusal", code, &problems)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"-broker x:1 -mode e3e", "-mode"},
		{"-mode e2e", "-broker"},
		{"-mode idle -via client", "-broker"},
		{"-broker x:1 -size 27", "-size 27: use 28 to"},
		{"-broker x:1 -zkhost=", "-zkhost"},
		{"-broker x:1 -window 0 -conns 0", "-window 0"},
		{"-broker x:1 -n -1", "-n -1"},
		{"-broker x:1 -group a/b", "-group"},
		{"-broker x:1 more", "unexpected"},
		{"-broker x:1 -mode tx -fly", "-fly"},
		{"-broker x:1 -mode collect -group a", "-mode collect"},
		{"-broker x:1 -pid -1", "-pid"},
		{"-mode compare -class mem", "-class"},
		{"-mode floor", "-broker"},
		{"-broker x:1 -mode groups -until delivered", "-until"},
	} {
		var problems bytes.Buffer
		if code := run(t.Context(), strings.Fields(c.args), io.Discard, &problems); code != exitError || !strings.Contains(problems.String(), c.want) {
			t.Errorf("%s: exit code %d, %q: want %q in it", c.args, code, &problems, c.want)
		}
	}
	if code := run(t.Context(), []string{"-help"}, io.Discard, io.Discard); code != exitOK {
		t.Errorf("-help: exit code %d", code)
	}
}
