package webhook

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const text = "0123456789abcdef0123456789abcdef"

// rig runs hooks among fakes of the journal, the lane and the checker.
type rig struct {
	*Hooks
	t      *testing.T
	log    *lockedBuffer
	events chan string // what the book and the lane were told, in order
	load   error
	full   atomic.Bool // the lane takes nothing
	stop   func()
}

func (r *rig) Asked(id kite.MessageID, who string) { r.events <- "asked " + who }

func (r *rig) Answered(id kite.MessageID, by string) { r.events <- "answered " + by }

func (r *rig) Submit(b *kite.Batch) error {
	if r.full.Load() {
		return kite.Errorf(kite.Busy, "full")
	}
	for i := range b.Items {
		note := kite.DecodeNote(b.Items[i].Body)
		r.events <- fmt.Sprintf("%v of %.4s by %s: %s", b.Items[i].Kind, b.Items[i].ID, note.By, note.Reason)
	}
	return nil
}

func (r *rig) Load(_ kite.Position, visit func(*kite.Record)) error {
	if r.load != nil {
		return r.load
	}
	h := &protocol.Header{
		MessageID: text, Topic: "trade", MessageType: "paid", GroupID: "p-till", CreateTime: 1,
		Properties: map[string]string{"shop": "7"},
	}
	f, _, err := protocol.FramingG.Next(protocol.AppendMessage(nil, protocol.FramingG, 1, protocol.CmdBytesMessage, h, []byte("secret body")))
	visit(&kite.Record{Kind: kite.KindPrepared, Topic: "trade", Type: []byte("paid"), Group: []byte("p-till"), TimeMs: 1_700_000_000_123, Body: f.Payload})
	return err
}

// want waits for the events.
func (r *rig) want(all ...string) {
	r.t.Helper()
	for _, want := range all {
		select {
		case got := <-r.events:
			if got != want {
				r.t.Fatalf("%q, want %q\n%s", got, want, r.log)
			}
		case <-time.After(10 * time.Second):
			r.t.Fatalf("nothing, want %q\n%s", want, r.log)
		}
	}
}

// ask asks about the n-th message of the group and waits until that is done.
func (r *rig) ask(group string, n int) {
	r.t.Helper()
	r.Ask(group, id(n), 7, 3)
	r.idle(group)
}

// idle waits until nothing of the group is asked about.
func (r *rig) idle(group string) {
	r.t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for k := r.hooks[group]; ; {
		k.mu.Lock()
		n := len(k.pending)
		k.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("%d are asked about", n)
		}
	}
}

func id(n int) (id kite.MessageID) {
	id, _ = kite.ParseMessageID(text)
	id[2], id[3] = byte(n>>8), byte(n)
	return id
}

// run starts hooks at the URLs.
func run(t *testing.T, o Options, urls map[string]string) *rig {
	t.Helper()
	o.URLs = urls
	if o.First == 0 {
		o.First, o.Longest = time.Hour, time.Hour
	}
	if err := o.WithDefaults().Validate(); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, log: &lockedBuffer{}, events: make(chan string, 10_000)}
	r.Hooks = New(o.WithDefaults(), r, r, slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx, r) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// serve starts an endpoint and returns its URL and what it is called.
func serve(t *testing.T, handle http.HandlerFunc) (url, by string) {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return s.URL, "webhook " + strings.TrimPrefix(s.URL, "http://")
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestQuestion sends what the page on hooks promises, with the user of the URL, and shows neither that nor the body.
func TestQuestion(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	url, by := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		fmt.Fprint(w, `{"outcome":"commit","reason":"the row is there"}`)
	})
	r := run(t, Options{}, map[string]string{"p-till": strings.Replace(url, "//", "//ann:pass-word@", 1) + "/checks?token=to-ken"})
	r.ask("p-till", 1)
	r.want("asked "+by, "commit of 0123 by "+by+": the row is there")
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:pass-word"))
	if got.Method != "POST" || got.URL.String() != "/checks?token=to-ken" || got.Header.Get("Content-Type") != "application/json" || got.Header.Get("Authorization") != basic {
		t.Errorf("%s %s %v", got.Method, got.URL, got.Header)
	}
	var asked map[string]any
	if err := json.Unmarshal(body, &asked); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"message_id": id(1).String(), "topic": "trade", "message_type": "paid", "group": "p-till",
		"prepared_at": "2023-11-14T22:13:20.123Z", "checks": 3.0, "properties": map[string]any{"shop": "7"},
	}
	if fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("asked %s\nwant %v", body, want)
	}
}

// TestAnswers takes each answer for what it says, and none for a decision that is not one.
func TestAnswers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 300)
	for name, test := range map[string]struct {
		status int
		answer string
		want   string // of the event after "asked", without whom
		rests  bool
	}{
		"commit":          {200, `{"outcome":"commit"}`, "commit of 0123 by *: ", false},
		"rollback":        {200, `{"outcome":"rollback","reason":"no row"}`, "rollback of 0123 by *: no row", false},
		"unknown":         {200, `{"outcome":"unknown","reason":"still running"}`, "answered *", false},
		"more fields":     {200, `{"outcome":"commit","reason":"r","at":1}`, "commit of 0123 by *: r", false},
		"long reason":     {200, `{"outcome":"commit","reason":"` + long + `"}`, "commit of 0123 by *: " + strings.Repeat("ä", 127), false},
		"no outcome":      {200, `{}`, "answered * (answer not understood)", false},
		"another outcome": {200, `{"outcome":"COMMIT"}`, "answered * (answer not understood)", false},
		"two answers":     {200, `{"outcome":"commit"}{"outcome":"rollback"}`, "answered * (answer not understood)", false},
		"no JSON":         {200, `commit`, "answered * (answer not understood)", false},
		"empty":           {200, ``, "answered * (answer not understood)", false},
		"too long":        {200, `{"outcome":"commit","reason":"` + strings.Repeat("x", maxAnswer) + `"}`, "answered * (answer too long)", false},
		"another status":  {500, `{"outcome":"commit"}`, "answered * (status 500)", false},
		"accepted":        {202, `{"outcome":"commit"}`, "answered * (status 202)", false},
		"unavailable":     {503, `{"outcome":"commit"}`, "answered * (status 503)", true},
		"too many":        {429, ``, "answered * (status 429)", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, by := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.answer)
			})
			r := run(t, Options{}, map[string]string{"p-till": url})
			r.ask("p-till", 1)
			r.want("asked "+by, strings.Replace(test.want, "*", by, 1))
			sight, ok := r.Look("p-till")
			failed := strings.Contains(test.want, "(")
			if !ok || sight.By != by || (sight.RestsMs > 0) != test.rests || (sight.Failure != "") != failed || (sight.FailedMs > 0) != failed {
				t.Errorf("%+v", sight)
			}
			if s := r.Stats(); s.Requests != 1 || (s.Failures == 1) != failed {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestRedirect goes nowhere else.
func TestRedirect(t *testing.T) {
	t.Parallel()
	elsewhere, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		t.Error("the redirect is followed")
		fmt.Fprint(w, `{"outcome":"commit"}`)
	})
	for _, status := range []int{301, 302, 303, 307, 308} {
		url, by := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere, status) })
		r := run(t, Options{}, map[string]string{"p-till": url})
		r.ask("p-till", 1)
		r.want("asked "+by, fmt.Sprintf("answered %s (status %d)", by, status))
	}
}

// TestAway leaves a hook alone that is not there, counts no check, and asks again when the pause is over. What of
// its URL is secret is nowhere to be read.
func TestAway(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	r := run(t, Options{First: 50 * time.Millisecond, Longest: 200 * time.Millisecond}, map[string]string{"p-till": "http://ann:pass-word@" + addr + "/?token=to-ken"})
	for n := range 1000 { // at most Parallel of them get as far as the network
		r.Ask("p-till", id(n), 7, 0)
	}
	r.idle("p-till")
	sight, _ := r.Look("p-till")
	if s := r.Stats(); s.Requests != 0 || s.Failures < 1 || s.Failures > 20 || !strings.Contains(sight.Failure, "refused") {
		t.Errorf("%+v, %+v", s, sight)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"outcome":"rollback"}`) }))
	s.Listener.Close()
	if s.Listener, err = net.Listen("tcp4", addr); err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.Close()
	for deadline := time.After(10 * time.Second); len(r.events) == 0; {
		r.Ask("p-till", id(1), 7, 0)
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatalf("not asked when it was back: %s", r.log)
		}
	}
	r.idle("p-till")
	r.want("asked webhook "+addr, "rollback of 0123 by webhook "+addr+": ")
	if sight, _ = r.Look("p-till"); sight.Failure != "" || sight.RestsMs != 0 {
		t.Errorf("%+v", sight)
	}
	for _, secret := range []string{"ann", "pass-word", "to-ken"} {
		if strings.Contains(r.log.String()+fmt.Sprint(sight), secret) {
			t.Errorf("%q can be read in\n%s", secret, r.log)
		}
	}
	if n := strings.Count(r.log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings, want one for all of it:\n%s", n, r.log)
	}
}

// TestPauses double up to the longest, and what fails together counts once.
func TestPauses(t *testing.T) {
	t.Parallel()
	k, now := hook{}, time.Unix(1_700_000_000, 0)
	for _, want := range []time.Duration{10, 20, 40, 60, 60} {
		want *= time.Second
		k.rest(now, 10*time.Second, time.Minute)
		k.rest(now.Add(time.Second), 10*time.Second, time.Minute)
		if !k.restsUntil(now.Add(want - 1)).Equal(now.Add(want)) {
			t.Errorf("rests until %v, want %v", k.until.Sub(now), want)
		}
		if now = now.Add(want); !k.restsUntil(now).IsZero() {
			t.Errorf("rests for longer than %v", want)
		}
	}
	k.recovered()
	k.rest(now, 10*time.Second, time.Minute)
	if k.until.Sub(now) != 10*time.Second {
		t.Errorf("after it answered it rests for %v", k.until.Sub(now))
	}
}

// TestSilent gives up after the timeout, which counts as a check, and lets no other hook wait.
func TestSilent(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	silent, by := serve(t, func(http.ResponseWriter, *http.Request) { <-hang })
	t.Cleanup(func() { close(hang) }) // before the server is closed
	url, other := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"outcome":"unknown"}`) })
	r := run(t, Options{Timeout: time.Minute, Parallel: 2}, map[string]string{"p-silent": silent, "p-till": url})
	const n = 1000
	for i := range n {
		r.Ask("p-silent", id(i), 7, 0)
		r.Ask("p-silent", id(i), 7, 0) // it is asked about already
	}
	r.want("asked "+by, "asked "+by)
	r.ask("p-till", 1)
	r.want("asked "+other, "answered "+other)
	k := r.hooks["p-silent"]
	k.mu.Lock()
	if pending := len(k.pending); pending < maxQueue || pending > maxQueue+2 {
		t.Errorf("%d of %d are pending", pending, n)
	}
	k.mu.Unlock()
	r.stop() // which waits for no answer
	if len(r.events) > 0 {
		t.Errorf("%q", <-r.events)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	url, by := serve(t, func(http.ResponseWriter, *http.Request) { <-hang })
	t.Cleanup(func() { close(hang) })
	r := run(t, Options{Timeout: 100 * time.Millisecond}, map[string]string{"p-till": url})
	r.ask("p-till", 1)
	r.want("asked " + by)
	if sight, _ := r.Look("p-till"); sight.Failure != "no answer in time" || sight.RestsMs == 0 {
		t.Errorf("%+v", sight)
	}
}

// TestParallel asks no more at a time than it may.
func TestParallel(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		<-time.After(time.Millisecond)
		fmt.Fprint(w, `{"outcome":"commit"}`)
	})
	r := run(t, Options{Parallel: 3}, map[string]string{"p-till": url})
	for n := range 200 {
		r.Ask("p-till", id(n), 7, 0)
	}
	r.idle("p-till")
	if most.Load() > 3 || r.Stats().Requests != 200 {
		t.Errorf("%d at a time, %d in all", most.Load(), r.Stats().Requests)
	}
}

// TestPassedOver: groups without a hook, bytes that are gone and a full lane do no harm.
func TestPassedOver(t *testing.T) {
	t.Parallel()
	url, by := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"outcome":"commit"}`) })
	r := run(t, Options{}, map[string]string{"p-till": url})
	r.Ask("p-other", id(1), 7, 0)
	if _, ok := r.Look("p-other"); ok {
		t.Error("a hook of nobody")
	}
	r.full.Store(true)
	r.ask("p-till", 1)
	r.want("asked " + by)
	r.full.Store(false)
	r.ask("p-till", 1)
	r.want("asked "+by, "commit of 0123 by "+by+": ")
	r.load = errors.New("trimmed")
	r.ask("p-till", 2)
	if len(r.events) > 0 || r.Stats().Requests != 2 {
		t.Errorf("%d requests", r.Stats().Requests)
	}
}

// TestOptions names what is wrong, and no URL.
func TestOptions(t *testing.T) {
	t.Parallel()
	if o := (Options{}).WithDefaults(); o.Validate() != nil || o.Timeout != 5*time.Second || o.Parallel != 4 {
		t.Errorf("%+v: %v", o, o.Validate())
	}
	many := map[string]string{}
	for n := range maxGroups + 1 {
		many[fmt.Sprint("p-", n)] = "http://h/"
	}
	for want, bad := range map[string]Options{
		"timeout 1ns":    {Timeout: 1},
		"timeout 2m0s":   {Timeout: 2 * time.Minute},
		"parallel -1":    {Parallel: -1},
		"parallel 65":    {Parallel: 65},
		"of 257 groups":  {URLs: many},
		`group "p/till"`: {URLs: map[string]string{"p/till": "http://h/"}},
	} {
		if err := bad.WithDefaults().Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, url := range []string{"", "hidden", "ftp://hidden/", "http://", "http://:80/", "//hidden/", "http://hidden:x/", "http://ann:hidden@%zz/", "http://h/#hidden"} {
		err := Options{URLs: map[string]string{"p-a": "http://h/", "p-till": url}}.WithDefaults().Validate()
		if err == nil || !strings.Contains(err.Error(), `"p-till"`) || strings.Contains(err.Error(), "hidden") || kite.CodeOf(err) != kite.Invalid {
			t.Errorf("%q: %v", url, err)
		}
	}
	if urls := []string{"https://ann:x@h:1/a?b=c", "http://10.0.0.1"}; slices.ContainsFunc(urls, func(u string) bool { _, err := parse(u); return err != nil }) {
		t.Errorf("one of %q is refused", urls)
	}
}
