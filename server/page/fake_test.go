package page

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
	"github.com/kiteq/kiteq/server/admin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a broker that says what the test wants.
type fake struct {
	ready    error
	counters admin.Counters
	groups   operate.Groups
	tx       operate.Transactions
	one      operate.Transaction
	delays   operate.Delays
	letters  operate.Letters
	story    operate.Story
	brokers  operate.Brokers
	err      error       // of every order and look
	silent   atomic.Bool // no counters
	censuses atomic.Int64
	slow     func()   // what a census waits for
	orders   []string // what was ordered
}

func (f *fake) Ready() error { return f.ready }

func (f *fake) Counters(context.Context) (admin.Counters, error) {
	if f.silent.Load() {
		return admin.Counters{}, kite.Errorf(kite.Unavailable, "no answer")
	}
	return f.counters, nil
}

func (f *fake) Brokers(context.Context) (operate.Brokers, error) { return f.brokers, f.err }

func (f *fake) Story(context.Context, kite.MessageID) (operate.Story, error) { return f.story, f.err }

func (f *fake) Transactions(context.Context, operate.Filter) (operate.Transactions, error) {
	return f.tx, f.err
}

func (f *fake) Transaction(context.Context, kite.MessageID) (operate.Transaction, error) {
	if f.one.ID == "" {
		return f.one, kite.Errorf(kite.NotServed, "it never was a transaction")
	}
	return f.one, f.err
}

func (f *fake) Decide(_ context.Context, id kite.MessageID, d admin.Decision, n kite.Note) (operate.Transaction, error) {
	f.orders = append(f.orders, fmt.Sprintf("%s %s %s: %s", d, id, n.By, n.Reason))
	return f.one, f.err
}

func (f *fake) Delayed(context.Context, operate.Filter) (operate.Delays, error) {
	return f.delays, f.err
}

func (f *fake) Cancel(_ context.Context, id kite.MessageID, n kite.Note) (operate.Postponed, error) {
	f.orders = append(f.orders, fmt.Sprintf("cancel %s %s: %s", id, n.By, n.Reason))
	return operate.Postponed{}, f.err
}

func (f *fake) Groups(context.Context, operate.Filter) (operate.Groups, error) {
	f.censuses.Add(1)
	if f.slow != nil {
		f.slow()
	}
	return f.groups, f.err
}

func (f *fake) Pause(_ context.Context, topic, group string, paused bool, n kite.Note) (operate.Group, error) {
	f.orders = append(f.orders, fmt.Sprintf("paused %v %s %s %s: %s", paused, topic, group, n.By, n.Reason))
	return operate.Group{}, f.err
}

func (f *fake) Seek(context.Context, string, string, operate.Seek, kite.Note) (operate.Group, error) {
	panic("the page moves no group")
}

func (f *fake) Letters(context.Context, operate.Filter, bool) (operate.Letters, error) {
	return f.letters, f.err
}

func (f *fake) Letter(_ context.Context, _, _ string, n kite.Seq) (operate.Letter, error) {
	for _, l := range f.letters.Letters {
		if l.N == uint64(n) {
			return l, f.err
		}
	}
	return operate.Letter{}, kite.Errorf(kite.NotServed, "dead letter %d: it is not there", n)
}

func (f *fake) Dispose(_ context.Context, topic, group string, n kite.Seq, requeue bool, note kite.Note) (operate.Letter, error) {
	f.orders = append(f.orders, fmt.Sprintf("requeue %v %s %s %d %s", requeue, topic, group, n, note.By))
	return operate.Letter{}, f.err
}

// testID is a message of the fake.
const testID = "0123456789abcdef0123456789abcdef"

// odd is a group whose name is no friend of HTML.
const odd = `s-<b>"&'`

// small is a broker with something of everything.
func small() *fake {
	now := time.Now().UnixMilli()
	return &fake{
		counters: admin.Counters{Topics: []string{"trade", "fee"}, Received: map[string]int64{}, Connections: 3},
		groups: operate.Groups{
			Groups: []operate.Group{
				{Topic: "trade", Group: odd, Bound: true, Durable: true, Members: []string{}, Unsettled: 7, OldestMs: now - 60_000, OfflineMs: now - 90_000},
				{Topic: "trade", Group: "s-books", Bound: true, Durable: true, Members: []string{"10.0.0.1:4000"}, Dead: 2},
			},
			Bad: []operate.BadBinding{{Topic: "fee", Group: "s-bad", Error: "error parsing regexp"}},
		},
		tx: operate.Transactions{
			Transactions: []operate.Transaction{{ID: testID, Topic: "trade", Group: "p-till", State: operate.Parked, PreparedMs: now - 1000}},
			Open:         1, Parked: 1, OldestMs: now - 1000, Next: "5-x",
		},
		delays: operate.Delays{Delayed: []operate.Postponed{{ID: testID, Topic: "trade", Type: "paid", Group: "p-till", DueMs: now + 89*60_000 + 30_000}}, Next: "7", Waiting: 1},
		letters: operate.Letters{Letters: []operate.Letter{
			{N: 1, Topic: "trade", Group: "s-books", ID: testID, Type: "paid", Reason: "limit reached", Feedback: "no room", State: operate.Dead, DiedMs: now, Header: &operate.Header{Group: "p-till", Properties: map[string]string{"<k>": "<v>"}}, Body: []byte("<script>alert(1)</script>")},
			{N: 2, Topic: "trade", Group: "s-books", ID: testID, Type: "paid", State: operate.Requeued, DiedMs: now, Body: []byte{0, 255, 1}},
		}},
		story: operate.Story{ID: testID, Broker: "10.0.0.9:13800", Topic: "trade", Type: "paid", Publisher: "p-till", Events: []operate.Event{
			{AtMs: now - 5000, What: operate.Prepared, Text: "prepared by group p-till"},
			{AtMs: now + 60_000, What: operate.NextCheck, Text: "the next check is due"},
			{What: operate.Waiting, Group: odd, Text: "nobody is connected"},
		}},
		one:     operate.Transaction{ID: testID, State: operate.Open},
		brokers: operate.Brokers{Brokers: []operate.Broker{{Address: "10.0.0.9:13800", Self: true, Topics: 2}, {Address: "10.0.0.8:13800", Topics: 1}}},
	}
}

// newPage makes a page that has seen the broker twice.
func newPage(f *fake) *Page {
	p := New(f, slog.New(slog.DiscardHandler))
	p.history.add(time.Now().Add(-sampleEvery), f.counters)
	p.history.add(time.Now(), f.counters)
	return p
}

// get returns the status and the body.
func get(t testing.TB, p *Page, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("%s has the policy %q", path, policy)
	}
	return w.Code, w.Body.String()
}
