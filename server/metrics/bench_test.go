package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkPage answers with a thousand topics, groups and pairs of both, as many as have series by default.
func BenchmarkPage(b *testing.B) {
	s := full()
	s.Topics, s.Flows = nil, nil
	for i := range 1000 {
		topic, group := fmt.Sprintf("topic-%d", i), fmt.Sprintf("s-group-%d", i)
		s.Topics = append(s.Topics, Topic{Name: topic, Received: int64(i), Stored: int64(i)})
		s.Flows = append(s.Flows, Flow{Topic: topic, Group: group, Attempts: int64(i), Backlog: int64(i), OldestMs: 4000})
		s.Members[group] = i
	}
	p := page(1000, func() Snapshot { return s })
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		b.ReportMetric(float64(w.Body.Len()), "B/answer")
	}
	plain := httptest.NewRecorder()
	p.ServeHTTP(plain, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil))
	b.ReportMetric(float64(plain.Body.Len()), "B/plain")
}
