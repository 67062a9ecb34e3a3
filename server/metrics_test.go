package server

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/kiteq/kiteq/handler/access"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// scrape returns the answer of /metrics.
func scrape(t *testing.T, s *Server) string {
	t.Helper()
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + s.AdminAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v: %s", response.StatusCode, err, body)
	}
	return string(body)
}

// TestMetrics follows messages through a broker by what /metrics says.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s, _ := start(t, testConfig(), Control{})
	bind(t, directory(t, s), "s-all", true, "trade")
	eventually(t, 10*time.Second, func() string {
		if len(s.exchange.Routes()) == 0 {
			return "the binding is not read"
		}
		return ""
	})
	producer := connect(t, s, "p-test")
	producer.publish("trade", 10)
	producer.publish("nothing", 3)
	consumer := connect(t, s, "s-all")
	consumer.consume(9)
	last := consumer.read()
	expect := func(why string, lines ...string) {
		t.Helper()
		eventually(t, 15*time.Second, func() string {
			text := scrape(t, s)
			for _, line := range lines {
				if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(text) {
					return fmt.Sprintf("%s: no line %s in\n%s", why, line, text)
				}
			}
			return ""
		})
	}
	flow := func(name, value string) string {
		return `kiteq_deliver_` + name + `\{group="s-all",topic="trade"\} ` + value
	}
	expect("one is in flight",
		`kiteq_broker_ready 1`, `kiteq_registry_ready 1`, `kiteq_journal_poisoned 0`,
		`kiteq_publish_received_total\{topic="trade"\} 10`, `kiteq_topic_messages_total\{topic="trade"\} 10`,
		`kiteq_publish_accepted_total 13`, `kiteq_publish_refused_total\{reason="topic"\} 3`, `kiteq_publish_ack_seconds_count 10`,
		`kiteq_deliver_wait_seconds_count 10`, `kiteq_journal_append_seconds_count [1-9]\d*`, `kiteq_lane_busy_seconds_total \d.*[1-9].*`,
		`kiteq_sessions 2`, `kiteq_group_members\{group="s-all"\} 1`, `kiteq_network_read_bytes_total \d{3,}`,
		flow("attempts_total", "10"), flow("backlog_messages", "1"), flow("in_flight_messages", "1"), flow("failed_total", "0"),
		flow("oldest_unsettled_seconds", `[^0].*|0\..*`), flow("offline_seconds", "0"))

	var m protocol.MessageView
	if err := m.Decode(last.Payload); err != nil {
		t.Fatal(err)
	}
	consumer.write(protocol.AppendDeliverAck(nil, protocol.FramingG, last.Opaque, &m.Header, false, "no"))
	expect("refused and sent again", flow("attempts_total", "11"), flow("failed_total", "1"), `kiteq_deliver_wait_seconds_count 10`)
	consumer.consume(1)
	expect("settled", flow("backlog_messages", "0"), flow("oldest_unsettled_seconds", "0"), flow("in_flight_messages", "0"))

	if _, err := s.Pause(t.Context(), "trade", "s-all", true, kite.Note{By: "test"}); err != nil {
		t.Fatal(err)
	}
	consumer.conn.Close()
	expect("paused, and nobody there", flow("paused", "1"), flow("offline_seconds", `0\.\d+|[1-9].*`))
	if strings.Contains(scrape(t, s), producer.conn.LocalAddr().String()) {
		t.Error("an address is in a label")
	}
}

// TestMetricsOfKeys counts a group that shows no key where one is asked for.
func TestMetricsOfKeys(t *testing.T) {
	t.Parallel()
	c := testConfig()
	hash, err := bcrypt.GenerateFromPassword([]byte("key"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	c.Auth.File = "rules.toml"
	c.Rules = access.Rules{Groups: map[string]access.Group{"p-test": {Keys: []string{string(hash)}}}}
	s, _ := start(t, c, Control{})
	connect(t, s, "p-test") // its answer is that it may not
	eventually(t, 10*time.Second, func() string {
		if text := scrape(t, s); !regexp.MustCompile(`(?m)^kiteq_access_keys_total\{outcome="refused"\} 1$`).MatchString(text) {
			return text
		}
		return ""
	})
}
