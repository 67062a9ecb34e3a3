package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// startWide runs a broker of a thousand topics with so many durable groups on each.
func startWide(t testing.TB, groups int) *Server {
	t.Helper()
	c := testConfig()
	c.Topics = nil
	for i := range 1000 {
		c.Topics = append(c.Topics, fmt.Sprintf("topic-%03d", i))
	}
	s, _ := start(t, c, Control{})
	for g := range groups {
		var bindings []kite.Binding
		for _, topic := range c.Topics {
			bindings = append(bindings, kite.Fanout(fmt.Sprintf("s-group-%d", g), topic))
		}
		if err := s.registry.Bind(t.Context(), bindings); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, time.Minute, func() string {
		if n := len(s.exchange.Routes()); n < 1000*groups {
			return fmt.Sprintf("%d routes, want %d", n, 1000*groups)
		}
		return ""
	})
	return s
}

// widePages are those that show much of what the broker has, and what each of them says then.
var widePages = map[string]string{
	"/":                              "1,000 topics",
	"/ui/topics":                     "1 to 50 of 1,000",
	"/ui/topics/topic-999":           "s-group-0",
	"/ui/groups?page=20":             " of ",
	"/ui/groups?q=topic-123":         "topic-123",
	"/ui/groups/topic-500/s-group-0": "Nobody of it is connected",
	"/ui/deadletters":                "No group has any.",
	"/ui/transactions":               "Every transaction is decided.",
}

// browse fetches a page.
func browse(t testing.TB, s *Server, path string) string {
	t.Helper()
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + s.AdminAddr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %v\n%s", path, response.StatusCode, err, body)
	}
	return string(body)
}

// TestPageOfManyTopics: the pages of a broker of a thousand topics say what it has, and stay small.
func TestPageOfManyTopics(t *testing.T) {
	t.Parallel()
	s := startWide(t, 1)
	eventually(t, 20*time.Second, func() string { // the page's first look at the broker
		if !strings.Contains(browse(t, s, "/ui/topics"), "1 to 50 of 1,000") {
			return "the page has no topics"
		}
		return ""
	})
	for path, want := range widePages {
		begun := time.Now()
		body := browse(t, s, path)
		t.Logf("%s: %v, %d bytes", path, time.Since(begun), len(body))
		if !strings.Contains(body, want) || len(body) > 64<<10 {
			t.Errorf("%s lacks %q, or is too large:\n%.20000s", path, want, body)
		}
	}
	if body := browse(t, s, "/ui/"); !strings.Contains(body, s.Addr()) || !strings.Contains(body, `<td class="n">1,000</td>`) {
		t.Errorf("the overview does not know its broker:\n%s", body)
	}
}

// BenchmarkPage renders pages over a broker of a thousand topics and ten thousand groups. An order before each has
// the groups counted anew, as for somebody who looks now and then.
func BenchmarkPage(b *testing.B) {
	s := startWide(b, 10)
	orders := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for path := range widePages {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				response, err := orders.PostForm("http://"+s.AdminAddr()+"/ui/groups/topic-500/s-group-0/resume", nil)
				if err != nil {
					b.Fatal(err)
				}
				response.Body.Close()
				b.StartTimer()
				browse(b, s, path)
			}
		})
	}
}
