package page

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/operate"
	"github.com/kiteq/kiteq/server/admin"
)

// large is a broker of 1,000 topics with 10 groups each, one in ten of which is away.
func large() *fake {
	f := &fake{counters: admin.Counters{Received: map[string]int64{}}}
	for i := range 1000 {
		topic := fmt.Sprintf("topic-%03d", i)
		f.counters.Topics = append(f.counters.Topics, topic)
		f.counters.Received[topic] = int64(i)
		for j := range 10 {
			g := operate.Group{Topic: topic, Group: fmt.Sprintf("s-group-%d", j), Bound: true, Durable: true, Members: []string{"10.0.0.1:4000"}, Unsettled: int64(i % 7)}
			if j == i%10 {
				g.Members, g.Unsettled, g.Dead = nil, int64(1+i), 3
			}
			f.groups.Groups = append(f.groups.Groups, g)
			f.counters.Flows = append(f.counters.Flows, admin.Flow{Topic: topic, Group: g.Group, Backlog: g.Unsettled, Delivered: int64(i)})
		}
	}
	return f
}

// largePages are those whose size or work could grow with the broker.
var largePages = []string{
	"/ui/", "/ui/topics", "/ui/topics?q=topic-99&sort=backlog", "/ui/topics/topic-500", "/ui/groups", "/ui/groups?state=away&page=20",
	"/ui/groups/topic-500/s-group-0", "/ui/deadletters", "/ui/transactions",
}

// TestScale: whatever the broker has, a page has some rows of it, and all pages ask the broker once.
func TestScale(t *testing.T) {
	t.Parallel()
	f := large()
	p := newPage(f)
	for _, path := range largePages {
		status, body := get(t, p, path)
		if rows := strings.Count(body, "<tr>"); status != 200 || rows > pageSize+3 || len(body) > 64<<10 {
			t.Errorf("%s: %d, %d rows, %d bytes", path, status, rows, len(body))
		}
	}
	if got := f.censuses.Load(); got > 2 { // two: the race detector may take longer than a count lives
		t.Errorf("the groups were counted %d times for %d pages", got, len(largePages))
	}
	for path, want := range map[string]string{
		"/ui/":                               "992 more groups",
		"/ui/groups":                         "1 to 50 of 10,000",
		"/ui/groups?page=200":                "9,951 to 10,000 of 10,000",
		"/ui/groups?page=999":                "9,951 to 10,000 of 10,000",
		"/ui/groups?page=-1":                 "1 to 50 of 10,000",
		"/ui/groups?q=topic-123":             "1 to 10 of 10",
		"/ui/groups?q=nobody":                "Nothing is here.",
		"/ui/groups?state=away":              "1 to 50 of 1,000",
		"/ui/groups?sort=backlog":            "topic-999",
		"/ui/topics?page=2":                  "51 to 100 of 1,000",
		"/ui/topics?q=topic-99&sort=backlog": "1 to 10 of 10",
		"/ui/topics/topic-500?q=group-1":     "1 to 1 of 1",
		"/ui/deadletters":                    "1 to 50 of 1,000",
	} {
		if _, body := get(t, p, path); !strings.Contains(body, want) {
			t.Errorf("%s lacks %q", path, want)
		}
	}
	_, body := get(t, p, "/ui/groups?q=s-&state=away&sort=backlog&page=2")
	for _, link := range []string{`href="/ui/groups?q=s-&amp;sort=backlog&amp;state=away"`, `href="/ui/groups?page=3&amp;q=s-&amp;sort=backlog&amp;state=away"`, `href="/ui/groups?q=s-&amp;sort=dead&amp;state=away"`} {
		if !strings.Contains(body, link) {
			t.Errorf("the second page lacks %s", link)
		}
	}
}

// BenchmarkPages renders each page of a large broker, without the broker's own work.
func BenchmarkPages(b *testing.B) {
	p := newPage(large())
	for _, path := range largePages {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if status, _ := get(b, p, path); status != 200 {
					b.Fatal(status)
				}
			}
		})
	}
}

// BenchmarkSample takes a sample of a large broker.
func BenchmarkSample(b *testing.B) {
	f := large()
	p := newPage(f)
	now, _ := p.history.latest()
	at := now.at
	b.ReportAllocs()
	for b.Loop() {
		at = at.Add(sampleEvery)
		p.history.add(at, f.counters)
	}
}
