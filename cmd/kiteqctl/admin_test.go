package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/kiteq/kiteq/internal/operate"
)

// office is a broker's admin port that answers what the test wants and notes what it is asked.
type office struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []string
	answers map[string]any // by method and path; others are not known
}

func newOffice(t *testing.T, answers map[string]any) *office {
	t.Helper()
	o := &office{answers: answers}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		o.mu.Lock()
		o.asked = append(o.asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
		answer, ok := o.answers[r.Method+" "+r.URL.EscapedPath()]
		o.mu.Unlock()
		status, known := answer.(int)
		switch {
		case known:
			w.WriteHeader(status)
			answer = operate.Error{Error: fmt.Sprintf("it is %d", status)}
		case !ok:
			w.WriteHeader(http.StatusNotFound)
			answer = operate.Error{Error: "no record of that id"}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *office) addr() string { return o.Listener.Addr().String() }

// client returns the address that clients would dial: the port below.
func (o *office) client(t *testing.T) string {
	t.Helper()
	host, port, err := net.SplitHostPort(o.addr())
	n, bad := strconv.Atoi(port)
	if err != nil || bad != nil {
		t.Fatal(err, bad)
	}
	return net.JoinHostPort(host, strconv.Itoa(n-1))
}

const someID = "0123456789abcdef0123456789abcdef"

var story = operate.Story{ //nolint:gochecknoglobals // never written
	ID: someID, Broker: "10.0.0.7:13800", Topic: "trade", Type: "paid", Seq: 17,
	Events: []operate.Event{
		{AtMs: 1_700_000_000_123, What: operate.Stored, Text: "stored as seq 17"},
		{What: operate.Waiting, Group: "s-books", Text: "nobody of the group is connected"},
	},
}

// TestExplain finds the brokers by the registry, and tells apart who knows, who does not and who is away.
func TestExplain(t *testing.T) {
	t.Parallel()
	knows := newOffice(t, map[string]any{"GET /messages/" + someID: story})
	knowsNot, fails := newOffice(t, nil), newOffice(t, map[string]any{"GET /messages/" + someID: 503})
	for name, c := range map[string]struct {
		offices []*office
		code    int
		out     string
		err     string
	}{
		"one knows":    {[]*office{knows, knowsNot}, exitOK, "now", ""},
		"none knows":   {[]*office{knowsNot}, exitNone, "", "no record of that id"},
		"one fails":    {[]*office{knows, fails}, exitError, "now", "it is 503"},
		"no broker":    {nil, exitError, "", "no broker"},
		"none to tell": {[]*office{knowsNot, fails}, exitError, "", "it is 503"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var addrs []string
			for _, o := range c.offices {
				addrs = append(addrs, o.client(t))
			}
			b.registry.SetBrokers("trade", addrs...)
			got := b.run("", "explain", someID)
			if got.code != c.code || !strings.Contains(got.err, c.err) || !strings.Contains(got.out, c.out) {
				t.Errorf("%+v", got)
			}
		})
	}
	b := setup(t)
	out := b.run("", "explain", someID, "--broker", knows.client(t)).mustOK(t).out
	for _, want := range []string{"message " + someID + " at broker 10.0.0.7:13800: topic trade, type paid\n", "00.123  stored   -", "now ", "waiting  s-books  nobody of the group is connected\n"} {
		if !strings.Contains(strings.ReplaceAll(out, ":20.123", ":00.123"), want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	var decoded operate.Story
	out = b.run("", "explain", someID, "--admin", knows.URL, "-o", "json").mustOK(t).out
	if err := json.Unmarshal([]byte(out), &decoded); err != nil || decoded.Seq != 17 || strings.Count(out, "\n") != 1 {
		t.Errorf("%s: %v", out, err)
	}
}

// TestOrders sends what the command line says.
func TestOrders(t *testing.T) {
	t.Parallel()
	const letter = "/deadletters/trade/a%20b/3"
	answers := map[string]any{
		"GET /transactions": operate.Transactions{Transactions: []operate.Transaction{{ID: someID, State: operate.Parked, By: "broker", Reason: "silence"}}},
		"GET /groups":       operate.Groups{Groups: []operate.Group{{Topic: "trade", Group: "s-books", Unsettled: 7}}},
		"GET /deadletters":  operate.Letters{Letters: []operate.Letter{{N: 3, ID: someID, State: operate.Dead, Reason: "expired"}}},
		"GET " + letter:     operate.Letter{N: 3, Header: &operate.Header{Group: "p-till"}, Body: []byte("order 17")},
		"GET /transactions/" + someID: operate.Transaction{
			ID: someID, State: operate.RolledBack, By: "operator ann", Reason: "no row",
		},
		"GET /deadletters/export": operate.Letter{N: 3, Reason: "expired"},
		"GET /delayed":            operate.Delays{Delayed: []operate.Postponed{{ID: someID, State: operate.Waits, Type: "paid"}}},
		"POST /delayed/" + someID + "/cancel": operate.Postponed{
			ID: someID, State: operate.Cancelled, CancelledMs: 1, By: "operator ann", Reason: "sold out",
		},
	}
	for _, path := range []string{"/transactions/" + someID + "/check", "/transactions/" + someID + "/commit", "/transactions/" + someID + "/rollback"} {
		answers["POST "+path] = operate.Transaction{ID: someID, State: operate.Committed}
	}
	for _, order := range []string{"pause", "resume", "seek"} {
		answers["POST /groups/trade/a%20b/"+order] = operate.Group{Topic: "trade", Group: "a b", Paused: order == "pause"}
	}
	for _, order := range []string{"requeue", "discard"} {
		answers["POST "+letter+"/"+order] = operate.Letter{N: 3, State: order + "d"}
	}
	const note = ` {"by":"ann","reason":"why"}`
	for _, c := range []struct {
		args  []string
		asked string
		out   string
	}{
		{[]string{"tx", "list", "--state", "parked", "--topic", "trade", "--group", "p-till"}, "GET /transactions?group=p-till&limit=1000&state=parked&topic=trade", "by broker: silence"},
		{[]string{"tx", "show", someID}, "GET /transactions/" + someID, "by operator ann: no row"},
		{[]string{"tx", "check", someID, "--by", "ann", "--reason", "why"}, "POST /transactions/" + someID + "/check" + note, "committed"},
		{[]string{"tx", "commit", someID, "--by", "ann", "--reason", "why"}, "POST /transactions/" + someID + "/commit" + note, "committed"},
		{[]string{"tx", "rollback", someID, "--by", "ann", "--reason", "why"}, "POST /transactions/" + someID + "/rollback" + note, "committed"},
		{[]string{"delayed", "list", "--topic", "trade"}, "GET /delayed?limit=1000&topic=trade", "paid"},
		{[]string{"delayed", "cancel", someID, "--by", "ann", "--reason", "why"}, "POST /delayed/" + someID + "/cancel" + note, "by operator ann: sold out"},
		{[]string{"groups", "trade", "--interval", "0"}, "GET /groups?topic=trade", "s-books"},
		{[]string{"flows", "trade", "--apart"}, "GET /groups?topic=trade", "s-books"},
		{[]string{"pause", "trade", "a b", "--by", "ann", "--reason", "why"}, "POST /groups/trade/a%20b/pause" + note, "true"},
		{[]string{"resume", "trade", "a b"}, "POST /groups/trade/a%20b/resume {}", "false"},
		{[]string{"seek", "trade", "a b", "--seq", "7", "--by", "ann"}, `POST /groups/trade/a%20b/seek {"by":"ann","seq":7}`, "a b"},
		{[]string{"seek", "trade", "a b", "--time", "2026-01-02T15:00:00Z"}, `POST /groups/trade/a%20b/seek {"time":"2026-01-02T15:00:00Z"}`, "a b"},
		{[]string{"dlq", "list", "trade", "a b"}, "GET /deadletters?group=a+b&limit=1000&topic=trade", "expired"},
		{[]string{"dlq", "show", "trade", "a b", "3"}, "GET " + letter, `body: "order 17"`},
		{[]string{"dlq", "requeue", "trade", "a b", "3", "--by", "ann", "--reason", "why"}, "POST " + letter + "/requeue" + note, "requeued"},
		{[]string{"dlq", "discard", "trade", "a b", "3", "--by", "ann", "--reason", "why"}, "POST " + letter + "/discard" + note, "discard"},
		{[]string{"dlq", "export", "trade", "a b"}, "GET /deadletters/export?group=a+b&topic=trade", `"reason":"expired"`},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, answers)
			got := setup(t).run("", append(c.args, "--admin", o.addr())...).mustOK(t)
			if len(o.asked) != 1 || o.asked[0] != c.asked || !strings.Contains(got.out, c.out) {
				t.Errorf("asked %q, want %q; printed\n%s", o.asked, c.asked, got.out)
			}
		})
	}
}

// TestOrdersRefused never reach a broker, or come back with what the broker says.
func TestOrdersRefused(t *testing.T) {
	t.Parallel()
	one, other := newOffice(t, map[string]any{"POST /groups/trade/g/pause": 409, "POST /groups/trade/g/resume": 400}), newOffice(t, nil)
	both := one.addr() + "," + other.addr()
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"seek", "trade", "g"}, exitUsage, "--seq or --time"},
		{[]string{"seek", "trade", "g", "--seq", "7", "--time", "8"}, exitUsage, "--seq or --time"},
		{[]string{"seek", "trade", "g", "--seq", "7", "--admin", both}, exitUsage, "2 brokers"},
		{[]string{"dlq", "discard", "trade", "g", "7", "--admin", both}, exitUsage, "2 brokers"},
		{[]string{"dlq"}, exitUsage, "list, show, requeue, discard, export"},
		{[]string{"tx", "rollback", someID}, exitUsage, "--reason is missing"},
		{[]string{"delayed", "cancel", someID}, exitUsage, "--reason is missing"},
		{[]string{"delayed"}, exitUsage, "list, cancel"},
		{[]string{"delayed", "cancel", someID, "--reason", "why", "--admin", both}, exitNone, "no record"},
		{[]string{"explain"}, exitUsage, "ID is missing"},
		{[]string{"explain", someID, "--admin", "here"}, exitUsage, `"http://here"`},
		{[]string{"explain", someID, "--admin", "ftp://a:1"}, exitUsage, "ftp"},
		{[]string{"explain", someID, "--broker", "a:65535"}, exitUsage, "65535"},
		{[]string{"explain", someID, "--broker", "here"}, exitUsage, `"here"`},
		{[]string{"explain", someID, "--admin", "127.0.0.1:1"}, exitError, "127.0.0.1:1"},
		{[]string{"pause", "trade", "g", "--admin", one.addr()}, exitError, "it is 409"},
		{[]string{"resume", "trade", "g", "--admin", one.addr()}, exitUsage, "it is 400"},
		{[]string{"pause", "trade", "g", "--admin", other.addr()}, exitNone, "no record"},
	} {
		got := setup(t).run("", c.args...)
		if got.code != c.code || !strings.Contains(got.err, c.text) || strings.Count(got.err, "\n") != 1 {
			t.Errorf("%q: %+v, want code %d and %q", c.args, got, c.code, c.text)
		}
	}
}
