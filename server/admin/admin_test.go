package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/internal/kite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a broker that says what the test wants.
type fake struct {
	mu       sync.Mutex
	counters Counters
	ready    error
	err      error // of Counters
	topics   []string
	reload   error
	asked    int
	level    string
	by       string // of level
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ready
}

func (f *fake) Counters(context.Context) (Counters, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counters, f.err
}

func (f *fake) Reload(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.topics, f.reload
}

func (f *fake) LogLevel() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.level
}

func (f *fake) SetLogLevel(level, by string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if level == "loud" {
		return kite.Errorf(kite.Invalid, "log_level %q", level)
	}
	f.level, f.by = level, by
	return nil
}

func (f *fake) Metrics() http.Handler { return http.NotFoundHandler() }

// listen runs a server on a free port. Nothing samples: the test does.
func listen(t *testing.T, f *fake) (s *Server, url string) {
	t.Helper()
	s, err := Listen("127.0.0.1:0", f, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	t.Cleanup(func() {
		if err := s.http.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s, "http://" + s.Addr()
}

// fetch returns the status, the content type and the body.
func fetch(t *testing.T, method, url string) (int, string, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Content-Type"), string(body)
}

// moments are a broker and the same one a second later.
func moments() (before, now Counters) {
	before = Counters{
		Topics: []string{"trade", "fee"}, Received: map[string]int64{"trade": 100, "fee": 7},
		Accepted: 110, AcceptLimit: 20000,
		Flows: []Flow{
			{Topic: "trade", Group: "s-b", Acquired: 50, Delivered: 60, Limit: 6000},
			{Topic: "trade", Group: "s-a", Acquired: 90, Delivered: 90, Limit: 1000},
		},
		Reads: 10, ReadBytes: 1000, Writes: 20, WriteBytes: 2000,
	}
	now = Counters{
		Topics: []string{"trade", "fee"}, Received: map[string]int64{"trade": 103, "fee": 8},
		Classes:  kite.Classes{Store: kite.ClassWritten, Topics: map[string]kite.Class{"trade": kite.ClassSynced, "else": kite.ClassMem}},
		Accepted: 115, AcceptLimit: 20000, BadBindings: 2, Delayed: 31, DelayedNear: 7, DelayedMinutes: 3,
		Flows: []Flow{
			{Topic: "trade", Group: "s-b", Acquired: 51, Delivered: 62, Limit: 6000, Backlog: 3},
			{Topic: "trade", Group: "s-a", Acquired: 92, Delivered: 92, Limit: 1000, Backlog: 9},
		},
		Groups:   map[string][]string{"s-a": {"10.0.0.2:40000", "10.0.0.3:40000"}, "p-trade": {"10.0.0.4:40000"}},
		InFlight: 4, Waiting: 5, WaitingMax: 65536,
		Reads: 14, ReadBytes: 1400, Writes: 25, WriteBytes: 2500, Connections: 3,
	}
	return before, now
}

// The answers to moments, to the byte but for the number of goroutines.
const (
	goldenStat = `{"kiteq":{"goroutine":G,"deliver_go":4,"deliver_count":4,"recieve_count":4,` +
		`"message_count":{"fee":0,"trade":9},"topics_deliver":{"fee":0,"trade":4},"topics_recieve":{"fee":1,"trade":3},"topics_class":{"fee":"written","trade":"synced"},` +
		`"groups":{"p-trade":["10.0.0.4:40000"],"s-a":["10.0.0.2:40000","10.0.0.3:40000"]},"accept_limiter":[5,20000],"bad_bindings":2,"delayed":31,"delayed_near":7,"delayed_minutes":3},` +
		`"network":{"read_count":4,"read_bytes":400,"write_count":5,"write_bytes":500,` +
		`"dispool_size":5,"dispool_cap":65536,"connections":3,"dispatcher_go":5}}`
	goldenBinds = `{"topic_2_groups":{"fee":[],"trade":["s-a","s-b"]},` +
		`"topic_limiters":{"fee":{},"trade":{"s-a":[2,1000],"s-b":[1,6000]}}}`
	emptyStat = `{"kiteq":{"goroutine":G,"deliver_go":0,"deliver_count":0,"recieve_count":0,` +
		`"message_count":{},"topics_deliver":{},"topics_recieve":{},"topics_class":{},"groups":{},"accept_limiter":[0,2147483647],"bad_bindings":0,"delayed":0,"delayed_near":0,"delayed_minutes":0},` +
		`"network":{"read_count":0,"read_bytes":0,"write_count":0,"write_bytes":0,` +
		`"dispool_size":0,"dispool_cap":0,"connections":0,"dispatcher_go":0}}`
	emptyBinds = `{"topic_2_groups":{},"topic_limiters":{}}`
)

// maskGoroutines replaces the number that nobody can foresee; there is at least one.
func maskGoroutines(t *testing.T, body string) string {
	t.Helper()
	before, after, _ := strings.Cut(body, `"goroutine":`)
	n, rest, _ := strings.Cut(after, ",")
	if n == "0" || strings.Trim(n, "0123456789") != "" {
		t.Errorf("goroutine: %q", n)
	}
	return before + `"goroutine":G,` + rest
}

// TestGolden compares the answers with the shapes that tools know, by any method.
func TestGolden(t *testing.T) {
	t.Parallel()
	f := &fake{topics: []string{"trade", "fee"}}
	s, url := listen(t, f)
	expect := func(path, want string) {
		t.Helper()
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			status, kind, body := fetch(t, method, url+path)
			if path == "/stat" {
				body = maskGoroutines(t, body)
			}
			if status != http.StatusOK || kind != "text/json" || body != want {
				t.Errorf("%s %s: %d %s\n%s\nwant\n%s", method, path, status, kind, body, want)
			}
		}
	}
	expect("/stat", emptyStat)
	expect("/binds", emptyBinds)

	before, now := moments()
	f.set(func() { f.counters = before })
	s.sampler.take(t.Context())
	f.set(func() { f.counters = now })
	s.sampler.at = time.Now().Add(-time.Second) // a second went by, give or take a rounding
	s.sampler.take(t.Context())
	expect("/stat", goldenStat)
	expect("/binds", goldenBinds) // reading resets nothing

	expect("/reload", `{"status":200,"topics":["trade","fee"]}`)
	f.set(func() { f.topics, f.reload = nil, errors.New("key \"x\"\nis not known") })
	expect("/reload", `{"status":200,"topics":null,"error":"key \"x\"; is not known"}`)
	if f.asked != 8 {
		t.Errorf("reloaded %d times, want 8", f.asked)
	}
}

// TestOperatorsTool reads the answers as kiteq-ops does: it divides by the limit, wants a limiter for every
// group, and knows the dispatcher by its old name.
func TestOperatorsTool(t *testing.T) {
	t.Parallel()
	before, now := moments()
	now.AcceptLimit = 0
	f := &fake{counters: before}
	s, url := listen(t, f)
	s.sampler.take(t.Context())
	f.set(func() { f.counters = now })
	s.sampler.at = time.Now().Add(-time.Second)
	s.sampler.take(t.Context())

	var status struct {
		Kiteq struct {
			AcceptLimiter []int32 `json:"accept_limiter"`
		} `json:"kiteq"`
		Network struct {
			DispatcherGo *int32 `json:"dispatcher_go"`
		} `json:"network"`
	}
	_, _, body := fetch(t, http.MethodGet, url+"/stat")
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	if limit := status.Kiteq.AcceptLimiter; len(limit) != 2 || limit[0] != 5 || limit[0]*100/limit[1] != 0 {
		t.Errorf("accept_limiter %v", limit)
	}
	if status.Network.DispatcherGo == nil || *status.Network.DispatcherGo != 5 {
		t.Errorf("dispatcher_go is not there: %s", body)
	}
	var bound struct {
		Groups   map[string][]string           `json:"topic_2_groups"`
		Limiters map[string]map[string][]int32 `json:"topic_limiters"`
	}
	_, _, body = fetch(t, http.MethodGet, url+"/binds")
	if err := json.Unmarshal([]byte(body), &bound); err != nil {
		t.Fatal(err)
	}
	listed := 0
	for topic, groups := range bound.Groups {
		for _, group := range groups {
			listed++
			if limiter := bound.Limiters[topic][group]; len(limiter) != 2 || limiter[1] <= 0 {
				t.Errorf("group %s on topic %s has the limiter %v", group, topic, limiter)
			}
		}
	}
	if listed != 2 {
		t.Errorf("%d groups, want 2", listed)
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		elapsed           time.Duration
		before, now, want int64
	}{
		{time.Second, 10, 15, 5},
		{time.Second, 10, 10, 0},
		{2 * time.Second, 10, 20, 5},
		{1003 * time.Millisecond, 0, 20000, 19940},
		{time.Second, 10, 4, 4}, // it began anew
		{0, 0, 1000, 0},         // nothing to compare with
	} {
		if got := (rates{test.elapsed}).perSecond(test.before, test.now); got != test.want {
			t.Errorf("%d to %d in %v: %d a second, want %d", test.before, test.now, test.elapsed, got, test.want)
		}
	}
}

// TestSampler looks once a second, forgets nothing when the broker does not answer, and stops.
func TestSampler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{counters: Counters{Topics: []string{"a"}, Received: map[string]int64{"a": 1000}}}
		s := newSampler(f, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); s.run(ctx) }()
		expect := func(why string, want int64) {
			t.Helper()
			synctest.Wait()
			if got := s.newest.Load().stat.Kiteq.RecieveCount; got != want {
				t.Errorf("%s: %d a second, want %d", why, got, want)
			}
		}
		receive := func(n int64) {
			f.set(func() { f.counters.Received = map[string]int64{"a": f.counters.Received["a"] + n} })
		}
		second := func() { <-time.After(time.Second) }
		expect("at first, whatever was before", 0)
		<-time.After(sampleEvery / 2) // from here on never at the moment of a sample
		receive(7)
		expect("within the second", 0)
		second()
		expect("after it", 7)
		second()
		expect("nothing more", 0)
		receive(3)
		second()
		receive(30)
		f.set(func() { f.err = errors.New("no answer") })
		second()
		expect("no answer", 3)
		f.set(func() { f.err = nil })
		second()
		expect("over two seconds", 15)
		cancel()
		<-ended
	})
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	f := &fake{ready: errors.New("store: closed\nregistry: away")}
	_, url := listen(t, f)
	for _, test := range []struct {
		path, method string
		status       int
		body         string
	}{
		{"/healthz", http.MethodGet, http.StatusOK, "ok\n"},
		{"/readyz", http.MethodGet, http.StatusServiceUnavailable, "store: closed; registry: away\n"},
		{"/healthz", http.MethodPost, http.StatusMethodNotAllowed, "Method Not Allowed\n"},
		{"/nothing", http.MethodGet, http.StatusNotFound, "404 page not found\n"},
	} {
		if status, _, body := fetch(t, test.method, url+test.path); status != test.status || body != test.body {
			t.Errorf("%s %s: %d %q, want %d %q", test.method, test.path, status, body, test.status, test.body)
		}
	}
	f.set(func() { f.ready = nil })
	if status, _, body := fetch(t, http.MethodGet, url+"/readyz"); status != http.StatusOK || body != "ready\n" {
		t.Errorf("ready: %d %q", status, body)
	}
	if status, _, body := fetch(t, http.MethodGet, url+"/debug/pprof/goroutine?debug=1"); status != http.StatusOK || !strings.Contains(body, "goroutine profile") {
		t.Errorf("pprof: %d %.60q", status, body)
	}
}

// TestRun samples and serves until it is told to stop.
func TestRun(t *testing.T) {
	t.Parallel()
	_, now := moments()
	s, err := Listen("127.0.0.1:0", &fake{counters: now}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(s.Addr(), &fake{}, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "-pport") {
		t.Errorf("the same port: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	tick, late := time.NewTicker(10*time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for {
		if _, _, body := fetch(t, http.MethodGet, "http://"+s.Addr()+"/stat"); strings.Contains(body, `"connections":3`) {
			break
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("nothing was sampled")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
