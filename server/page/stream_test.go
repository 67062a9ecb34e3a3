package page

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kiteq/kiteq/server/admin"
)

// serve runs the page, and returns its URL and a client.
func serve(t *testing.T, p *Page) (string, *http.Client) {
	t.Helper()
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return s.URL, s.Client()
}

// connect opens a stream and returns how to read its next message, by event.
func connect(t *testing.T, client *http.Client, url string) (next func() (event, data string), leave func()) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || kind != "text/event-stream" {
		t.Fatalf("%d %s", response.StatusCode, kind)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	next = func() (event, data string) {
		t.Helper()
		for lines.Scan() {
			switch line := lines.Text(); {
			case line == "":
				return event, data
			case strings.HasPrefix(line, "event: "):
				event = line[len("event: "):]
			case strings.HasPrefix(line, "data: "):
				data += line[len("data: "):] + "\n"
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return "", ""
	}
	return next, func() { _ = response.Body.Close() }
}

// TestStream sends the live part and the plots at once, and again with each sample.
func TestStream(t *testing.T) {
	t.Parallel()
	f := small()
	f.counters = counted(10, 0, 0)
	p := newPage(f)
	url, client := serve(t, p)
	next, leave := connect(t, client, url+"/ui/topics/trade?live=&sort=name")
	defer leave()
	event, html := next()
	if event != "" || !strings.Contains(html, "<dd>0<small>/s</small></dd>") || strings.Contains(html, "<html") {
		t.Fatalf("%q\n%s", event, html)
	}
	event, data := next()
	var drawn plot
	if err := json.Unmarshal([]byte(data), &drawn); err != nil || event != "plots" || len(drawn.Times) != 2 {
		t.Fatalf("%q %s: %v", event, data, err)
	}
	now, _ := p.history.latest()
	p.history.add(now.at.Add(2*time.Second), counted(1010, 0, 0))
	if _, html = next(); !strings.Contains(html, "<dd>500<small>/s</small></dd>") {
		t.Errorf("after a sample:\n%s", html)
	}
	if _, data = next(); !strings.Contains(data, `"in":[0,0,500]`) {
		t.Errorf("after a sample: %s", data)
	}
}

// TestStreamsAreBounded: who comes when the most are open is told, and has room when one has left.
func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	p := newPage(small())
	url, client := serve(t, p)
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 0
	var leave func()
	for range maxStreams {
		_, leave = connect(t, client, url+"/ui/groups?live")
		defer leave()
	}
	open := func() int {
		response, err := client.Get(url + "/ui/groups?live")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	if status := open(); status != http.StatusServiceUnavailable {
		t.Errorf("one too many: %d", status)
	}
	if response, err := client.Get(url + "/ui/groups"); err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("the page itself: %v %v", response, err)
	} else {
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	leave()
	p.streams <- struct{}{} // waits until the handler has seen it leave
	<-p.streams
	if status := open(); status != http.StatusOK {
		t.Errorf("after one has left: %d", status)
	}
}

// TestRun samples every two seconds, goes on when the broker does not answer, and stops.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := small()
		p := New(f, slog.New(slog.DiscardHandler))
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { ended <- p.Run(ctx) }()
		expect := func(samples int) {
			t.Helper()
			synctest.Wait()
			if got := len(p.history.plot(subject{}).Times); got != samples {
				t.Errorf("%d samples, want %d", got, samples)
			}
		}
		expect(1)
		<-time.After(5 * time.Second)
		expect(3)
		f.silent.Store(true)
		<-time.After(4 * time.Second)
		expect(3)
		f.silent.Store(false)
		<-time.After(2 * time.Second)
		expect(4)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestCensus counts once for all who look within two seconds, less often when counting takes long, and again after
// an order.
func TestCensus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := small()
		p := newPage(f)
		look := func(want int64) {
			t.Helper()
			if status, _ := get(t, p, "/ui/"); status != http.StatusOK {
				t.Fatal(status)
			}
			if got := f.censuses.Load(); got != want {
				t.Errorf("counted %d times, want %d", got, want)
			}
		}
		look(1)
		look(1)
		<-time.After(sampleEvery)
		look(2)
		post(t, p, "/ui/groups/trade/s-books/pause", nil, nil)
		look(3)
		<-time.After(sampleEvery)
		f.slow = func() { <-time.After(100 * time.Millisecond) } // then it lives for five seconds
		look(4)
		<-time.After(4 * time.Second)
		look(4)
		<-time.After(2 * time.Second)
		look(5)
	})
}

// TestFirstPage: before the first sample there is a page, too.
func TestFirstPage(t *testing.T) {
	t.Parallel()
	p := New(&fake{counters: admin.Counters{}}, slog.New(slog.DiscardHandler))
	if status, body := get(t, p, "/ui/"); status != http.StatusOK || !strings.Contains(body, "Nothing needs attention.") {
		t.Errorf("%d\n%s", status, body)
	}
}
