package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kiteq/kiteq/internal/kite"
)

// full is a broker of which everything has something to show.
func full() Snapshot {
	var t kite.Timings
	t.Observe(2*time.Millisecond, 3)
	t.Observe(2*time.Minute, 1)
	at := time.UnixMilli(10_000)
	return Snapshot{
		Version: "v1", At: at, Ready: true, Accepted: 9, Refused: map[string]int64{"busy": 2}, Keys: map[string]int64{"refused": 4}, Acked: t.Read(),
		Topics:  []Topic{{Name: "fee", Received: 1, Stored: 2}, {Name: "trade", Received: 3, Stored: 4}},
		Members: map[string]int{"s-a": 1, "s-b": 2},
		Flows: []Flow{
			{Topic: "trade", Group: "s-a", Attempts: 5, Backlog: 7, OldestMs: 4000},
			{Topic: "trade", Group: "s-b", Attempts: 6, Backlog: 8, OldestMs: 3000, OfflineMs: 9000, Paused: true},
		},
		OldestTx: 8000, Busy: 1500 * time.Millisecond,
	}
}

// ask returns the answer of the page.
func ask(t *testing.T, p *Page) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	return w.Code, w.Body.String()
}

func page(most int, s func() Snapshot) *Page {
	return NewPage(func(context.Context) (Snapshot, error) { return s(), nil }, most, slog.New(slog.DiscardHandler))
}

// expectLines expects each of these lines in the text.
func expectLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	code, text := ask(t, page(10, full))
	if code != http.StatusOK {
		t.Fatal(code, text)
	}
	expectLines(t, text,
		`kiteq_build_info{version="v1"} 1`, `kiteq_broker_ready 1`, `kiteq_registry_ready 0`, `kiteq_metrics_names_without_series 0`,
		`kiteq_publish_refused_total{reason="busy"} 2`, `kiteq_access_keys_total{outcome="refused"} 4`, `kiteq_publish_received_total{topic="trade"} 3`, `kiteq_group_members{group="s-b"} 2`,
		`kiteq_deliver_attempts_total{group="s-a",topic="trade"} 5`, `kiteq_deliver_oldest_unsettled_seconds{group="s-b",topic="trade"} 7`,
		`kiteq_deliver_offline_seconds{group="s-a",topic="trade"} 0`, `kiteq_deliver_offline_seconds{group="s-b",topic="trade"} 1`,
		`kiteq_deliver_paused{group="s-b",topic="trade"} 1`, `kiteq_tx_oldest_seconds 2`, `kiteq_lane_busy_seconds_total 1.5`,
		`kiteq_publish_ack_seconds_bucket{le="0.001"} 0`, `kiteq_publish_ack_seconds_bucket{le="0.0025"} 3`,
		`kiteq_publish_ack_seconds_bucket{le="60"} 3`, `kiteq_publish_ack_seconds_bucket{le="+Inf"} 4`, `kiteq_publish_ack_seconds_count 4`,
		`kiteq_publish_ack_seconds_sum 120.006`, `# TYPE kiteq_deliver_backlog_messages gauge`)
	if !strings.Contains(text, "go_goroutines ") || !strings.Contains(text, "process_") {
		t.Error("nothing about Go and the process")
	}

	broken := NewPage(func(context.Context) (Snapshot, error) { return Snapshot{}, errors.New("the flows have stopped") }, 1, slog.New(slog.DiscardHandler))
	if code, text := ask(t, broken); code != http.StatusServiceUnavailable || !strings.Contains(text, "the flows have stopped") {
		t.Errorf("a broker that does not answer: %d %s", code, text)
	}
}

// TestBound: what is over the bound is added up, and who has a series keeps it though others come before it.
func TestBound(t *testing.T) {
	t.Parallel()
	now := full()
	p := page(1, func() Snapshot {
		s := now
		s.Topics, s.Flows = slices.Clone(now.Topics), slices.Clone(now.Flows)
		return s
	})
	_, text := ask(t, p)
	expectLines(t, text,
		`kiteq_publish_received_total{topic="fee"} 1`, `kiteq_publish_received_total{topic="/other"} 3`,
		`kiteq_group_members{group="s-a"} 1`, `kiteq_group_members{group="/other"} 2`,
		`kiteq_deliver_backlog_messages{group="s-a",topic="trade"} 7`, `kiteq_deliver_backlog_messages{group="/other",topic="/other"} 8`,
		`kiteq_deliver_paused{group="/other",topic="/other"} 1`, `kiteq_metrics_names_without_series 3`)

	now.Flows = append([]Flow{{Topic: "fee", Group: "s-0", Backlog: 1, OldestMs: 1000}}, now.Flows...)
	_, text = ask(t, p)
	expectLines(t, text, `kiteq_deliver_backlog_messages{group="s-a",topic="trade"} 7`, `kiteq_deliver_backlog_messages{group="/other",topic="/other"} 9`,
		`kiteq_deliver_oldest_unsettled_seconds{group="/other",topic="/other"} 9`)

	now.Flows = now.Flows[:1]
	_, text = ask(t, p)
	expectLines(t, text, `kiteq_deliver_backlog_messages{group="s-0",topic="fee"} 1`)
	if strings.Contains(text, `topic="/other"} 9`) {
		t.Error("one that is gone keeps its series")
	}
}

var name = regexp.MustCompile(`\bkiteq_[a-z0-9_]+`)

// exposed returns the names of all metrics, those of a histogram's parts too.
func exposed(t *testing.T) map[string]bool {
	t.Helper()
	_, text := ask(t, page(10, full))
	all := map[string]bool{}
	for line := range strings.Lines(text) {
		if m := name.FindString(line); m != "" {
			all[m] = true
		}
	}
	return all
}

// TestNamesInFiles: the dashboard, the alerts and the page for operators name only what there is, and the page all
// of it.
func TestNamesInFiles(t *testing.T) {
	t.Parallel()
	all := exposed(t)
	for path, least := range map[string]int{"../../conf/grafana.json": 25, "../../conf/alerts.yml": 12, "../../doc/metrics.md": 40} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]bool{}
		for _, m := range name.FindAllString(string(text), -1) {
			named[m] = true
			if !all[m] {
				t.Errorf("%s names %s, which /metrics does not have", path, m)
			}
		}
		if len(named) < least {
			t.Errorf("%s names only %d metrics", path, len(named))
		}
		if strings.HasSuffix(path, ".md") {
			for m := range all {
				if m = part.ReplaceAllString(m, "_seconds"); !named[m] {
					t.Errorf("%s does not explain %s", path, m)
				}
			}
		}
	}
}

// part is what a histogram adds to its name.
var part = regexp.MustCompile(`_seconds_(bucket|sum|count)$`)

// TestFilesAreWhole reads the dashboard and the alerts as their programs do.
func TestFilesAreWhole(t *testing.T) {
	t.Parallel()
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	text, err := os.ReadFile("../../conf/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	operations, err := os.ReadFile("../../doc/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Expr == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("alert %s has no expression, no severity or no summary", r.Alert)
			}
			if !strings.Contains(string(operations), "`"+r.Alert+"`") {
				t.Errorf("doc/operations.md does not say what to do about %s", r.Alert)
			}
		}
	}
	var board struct {
		Title  string
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	if text, err = os.ReadFile("../../conf/grafana.json"); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		if p.Type != "row" && (len(p.Targets) == 0 || p.Targets[0].Expr == "") {
			t.Errorf("panel %q shows nothing", p.Title)
		}
	}
	if board.Title == "" || len(board.Panels) < 10 {
		t.Errorf("dashboard %q has %d panels", board.Title, len(board.Panels))
	}
}
