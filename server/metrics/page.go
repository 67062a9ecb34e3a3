package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kiteq/kiteq/internal/kite"
)

// Source looks at the broker. It may wait until ctx ends.
type Source func(ctx context.Context) (Snapshot, error)

// Page answers /metrics. Nothing is counted for it: each request looks once at what the broker has counted anyway.
type Page struct {
	source  Source
	process *prometheus.Registry // Go and the process
	descs   descs
	log     *slog.Logger

	mu     sync.Mutex
	bounds *bounds
}

// NewPage returns a page on which at most so many topics, groups, and pairs of both have series of their own.
// The others are added up as Other.
func NewPage(source Source, most int, log *slog.Logger) *Page {
	p := &Page{source: source, process: prometheus.NewRegistry(), descs: newDescs(), bounds: newBounds(most), log: log.With("component", "metrics")}
	p.process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return p
}

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, err := p.source(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	p.mu.Lock()
	without := p.bounds.apply(&s)
	p.mu.Unlock()
	registry := prometheus.NewRegistry()
	registry.MustRegister(sheet{&s, without, p.descs})
	promhttp.HandlerFor(prometheus.Gatherers{registry, p.process}, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
	}).ServeHTTP(w, r)
}

// sheet is a Snapshot as the library reads it, once.
type sheet struct {
	*Snapshot
	without int
	descs   descs
}

// Describe tells nothing in advance: what there is depends on the names.
func (sheet) Describe(chan<- *prometheus.Desc) {}

// Collect writes every metric.
func (s sheet) Collect(out chan<- prometheus.Metric) {
	one := func(name string, kind prometheus.ValueType, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(s.descs[name], kind, value, labels...)
	}
	one(buildInfo, gauge, 1, s.Version)
	one(withoutSeries, gauge, float64(s.without))
	for _, r := range singles {
		one(r.name, r.kind, r.value(s.Snapshot, s.Snapshot))
	}
	for why, n := range s.Refused {
		one(refused, count, float64(n), why)
	}
	for outcome, n := range s.Keys {
		one(keys, count, float64(n), outcome)
	}
	for group, n := range s.Members {
		one(members, gauge, float64(n), strings.ToValidUTF8(group, "?"))
	}
	for i := range s.Topics {
		t := &s.Topics[i]
		for _, r := range ofTopics {
			one(r.name, r.kind, r.value(s.Snapshot, t), t.Name)
		}
	}
	for i := range s.Flows {
		f := &s.Flows[i]
		group := strings.ToValidUTF8(f.Group, "?")
		for _, r := range ofFlows {
			one(r.name, r.kind, r.value(s.Snapshot, f), f.Topic, group)
		}
	}
	for _, t := range timings {
		out <- histogram(s.descs[t.name], t.of(s.Snapshot))
	}
}

// histogram adds the buckets up, as Prometheus wants them.
func histogram(desc *prometheus.Desc, t *kite.Timing) prometheus.Metric {
	below := uint64(0)
	buckets := make(map[float64]uint64, len(kite.TimingBounds))
	for i, bound := range kite.TimingBounds {
		below += uint64(t.Counts[i])
		buckets[bound.Seconds()] = below
	}
	return prometheus.MustNewConstHistogram(desc, uint64(t.Count()), t.Sum.Seconds(), buckets)
}
