package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// scripted is an Operator that notes what it is asked and answers with err, or with next to nothing.
type scripted struct {
	err   error
	asked string
	pages []operate.Letters
}

func (s *scripted) note(format string, args ...any) error {
	s.asked += fmt.Sprintf(format, args...)
	return s.err
}

func (s *scripted) Story(_ context.Context, id kite.MessageID) (operate.Story, error) {
	return operate.Story{ID: id.String()}, s.note("story %v", id)
}

func (s *scripted) Transactions(_ context.Context, f operate.Filter) (operate.Transactions, error) {
	return operate.Transactions{}, s.note("transactions %+v", f)
}

func (s *scripted) Transaction(_ context.Context, id kite.MessageID) (operate.Transaction, error) {
	return operate.Transaction{}, s.note("transaction %v", id)
}

func (s *scripted) Decide(_ context.Context, id kite.MessageID, d Decision, note kite.Note) (operate.Transaction, error) {
	return operate.Transaction{}, s.note("%s %v %+v", d, id, note)
}

func (s *scripted) Delayed(_ context.Context, f operate.Filter) (operate.Delays, error) {
	return operate.Delays{}, s.note("delayed %+v", f)
}

func (s *scripted) Cancel(_ context.Context, id kite.MessageID, note kite.Note) (operate.Postponed, error) {
	return operate.Postponed{}, s.note("cancel %v %+v", id, note)
}

func (s *scripted) Groups(_ context.Context, f operate.Filter) (operate.Groups, error) {
	return operate.Groups{}, s.note("groups %+v", f)
}

func (s *scripted) Pause(_ context.Context, topic, group string, paused bool, note kite.Note) (operate.Group, error) {
	return operate.Group{}, s.note("pause %v %s %s %+v", paused, topic, group, note)
}

func (s *scripted) Seek(_ context.Context, topic, group string, to operate.Seek, note kite.Note) (operate.Group, error) {
	return operate.Group{}, s.note("seek %s %s %d %q %+v", topic, group, to.Seq, to.Time, note)
}

func (s *scripted) Letters(_ context.Context, f operate.Filter, whole bool) (operate.Letters, error) {
	if len(s.pages) == 0 {
		return operate.Letters{Letters: []operate.Letter{}}, s.note("letters %+v %v", f, whole)
	}
	page := s.pages[0]
	s.pages = s.pages[1:]
	return page, s.note("letters %+v %v;", f, whole)
}

func (s *scripted) Letter(_ context.Context, topic, group string, n kite.Seq) (operate.Letter, error) {
	return operate.Letter{}, s.note("letter %s %s %d", topic, group, n)
}

func (s *scripted) Dispose(_ context.Context, topic, group string, n kite.Seq, requeue bool, note kite.Note) (operate.Letter, error) {
	return operate.Letter{}, s.note("dispose %s %s %d %v %+v", topic, group, n, requeue, note)
}

func (s *scripted) Messages(_ context.Context, topic string, p operate.Peek) (operate.Messages, error) {
	return operate.Messages{}, s.note("messages %s %+v", topic, p)
}

func (s *scripted) Status(context.Context) (operate.Status, error) {
	return operate.Status{}, s.note("status")
}

func (s *scripted) Drain(_ context.Context, on bool, note kite.Note) (operate.Status, error) {
	return operate.Status{}, s.note("drain %v %+v", on, note)
}

// ask sends one request through the server's routes.
func ask(t *testing.T, o Operator, method, path, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	s := &Server{sampler: newSampler(&fake{}, slog.New(slog.DiscardHandler))}
	request := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	request.RemoteAddr, request.Host = "10.1.2.3:4567", "broker:13801"
	if change != nil {
		change(request)
	}
	w := httptest.NewRecorder()
	s.routes(&fake{}, &desk{o}).ServeHTTP(w, request)
	return w
}

const (
	anyID   = "0123456789abcdef0123456789abcdef"
	defPage = "{Topic: Group: State: After: Limit:100}"
)

// TestEndpoints asks for everything once: what arrives at the broker is what was said.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	const ann = `{"by":"ann","reason":"why"}`
	for _, c := range []struct{ method, path, body, asked string }{
		{"GET", "/messages/" + strings.ToUpper(anyID), "", "story " + anyID},
		{"GET", "/transactions", "", "transactions " + defPage},
		{"GET", "/transactions?topic=t&group=g&state=parked&after=7&limit=1000", "", "transactions {Topic:t Group:g State:parked After:7 Limit:1000}"},
		{"GET", "/transactions/" + anyID, "", "transaction " + anyID},
		{"POST", "/transactions/" + anyID + "/commit", ann, "commit " + anyID + " {By:operator ann Reason:why}"},
		{"POST", "/transactions/" + anyID + "/rollback", `{"reason":"why"}`, "rollback " + anyID + " {By:operator 10.1.2.3 Reason:why}"},
		{"POST", "/transactions/" + anyID + "/check", "", "check " + anyID + " {By:operator 10.1.2.3 Reason:}"},
		{"GET", "/delayed?topic=t&after=7-1&limit=5", "", "delayed {Topic:t Group: State: After:7-1 Limit:5}"},
		{"POST", "/delayed/" + anyID + "/cancel", ann, "cancel " + anyID + " {By:operator ann Reason:why}"},
		{"GET", "/groups?topic=t", "", "groups {Topic:t Group: State: After: Limit:100}"},
		{"POST", "/groups/t/g/pause", ann, "pause true t g {By:operator ann Reason:why}"},
		{"POST", "/groups/t/a%20b%3F/resume", "", "pause false t a b? {By:operator 10.1.2.3 Reason:}"},
		{"POST", "/groups/t/g/seek", `{"seq":7,"by":"ann"}`, `seek t g 7 "" {By:operator ann Reason:}`},
		{"POST", "/groups/t/g/seek", `{"time":"2026-01-02T15:00:00Z"}`, `seek t g 0 "2026-01-02T15:00:00Z" {By:operator 10.1.2.3 Reason:}`},
		{"GET", "/deadletters?topic=t&group=g&after=3&limit=2", "", "letters {Topic:t Group:g State: After:3 Limit:2} false"},
		{"GET", "/deadletters/t/g/3", "", "letter t g 3"},
		{"POST", "/deadletters/t/g/3/requeue", ann, "dispose t g 3 true {By:operator ann Reason:why}"},
		{"POST", "/deadletters/t/g/3/discard", "", "dispose t g 3 false {By:operator 10.1.2.3 Reason:}"},
		{"GET", "/deadletters/export?topic=t&group=g", "", "letters {Topic:t Group:g State: After: Limit:16} true"},
		{"GET", "/topics/t/messages", "", "messages t {From:0 Time: Limit:100}"},
		{"GET", "/topics/t/messages?from=7&limit=2", "", "messages t {From:7 Time: Limit:2}"},
		{"GET", "/topics/t/messages?time=17", "", "messages t {From:0 Time:17 Limit:100}"},
		{"GET", "/broker", "", "status"},
		{"POST", "/broker/drain", ann, "drain true {By:operator ann Reason:why}"},
		{"POST", "/broker/serve", "", "drain false {By:operator 10.1.2.3 Reason:}"},
	} {
		s := &scripted{}
		w := ask(t, s, c.method, c.path, c.body, nil)
		if w.Code != http.StatusOK || s.asked != c.asked {
			t.Errorf("%s %s: %d %s, asked %q, want %q", c.method, c.path, w.Code, w.Body, s.asked, c.asked)
		}
	}
}

// TestRefusedRequests never reach the broker; the answer names the value and what is allowed.
func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1025)
	for _, c := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"GET", "/messages/17", "", 400, `\"17\": give 32 hexadecimal digits`},
		{"GET", "/messages/" + anyID + "0", "", 400, "32 hexadecimal"},
		{"GET", "/transactions/x", "", 400, "32 hexadecimal"},
		{"GET", "/transactions?limit=1001", "", 400, "1 to 1000"},
		{"GET", "/transactions?limit=0", "", 400, "1 to 1000"},
		{"GET", "/transactions?limit=ten", "", 400, `\"ten\"`},
		{"GET", "/transactions?state=done", "", 400, "open or parked"},
		{"GET", "/transactions?tpoic=t", "", 400, "tpoic"},
		{"GET", "/groups?after=3", "", 400, "give topic, group"},
		{"POST", "/transactions/" + anyID + "/commit", "", 400, "reason"},
		{"POST", "/transactions/" + anyID + "/commit", `{"by":"ann","reason":"  "}`, 400, "reason"},
		{"POST", "/transactions/" + anyID + "/commit", `{"reason":`, 400, "body"},
		{"POST", "/transactions/" + anyID + "/commit", `{"why":"x"}`, 400, "why"},
		{"POST", "/transactions/" + anyID + "/commit", `{"reason":"` + long + `"}`, 400, "1024"},
		{"POST", "/transactions/" + anyID + "/commit", `{"by":"a\u0000b","reason":"x"}`, 400, "zero byte"},
		{"POST", "/transactions/" + anyID + "/commit", strings.Repeat(" ", maxBody+1), 400, "65536"},
		{"POST", "/transactions/" + anyID + "/forget", "", 404, "commit, rollback or check"},
		{"GET", "/delayed?group=g", "", 400, "give topic, after, limit"},
		{"POST", "/delayed/" + anyID + "/cancel", "", 400, "reason"},
		{"POST", "/delayed/x/cancel", "", 400, "32 hexadecimal"},
		{"POST", "/delayed/" + anyID + "/hurry", "", 404, "give cancel"},
		{"POST", "/groups/t/g/stop", "", 404, "pause, resume or seek"},
		{"POST", "/groups/t%2Fu/g/pause", "", 400, "t/u"},
		{"POST", "/groups/t/a%2Fb/pause", "", 400, "a/b"},
		{"POST", "/groups/t/g/seek", `{"seq":-1}`, 400, "seq"},
		{"GET", "/deadletters", "", 400, "topic and group"},
		{"GET", "/deadletters?topic=t", "", 400, "topic and group"},
		{"GET", "/deadletters/export?topic=t", "", 400, "topic and group"},
		{"GET", "/deadletters/t/g/0", "", 400, "1 or more"},
		{"GET", "/deadletters/t/g/x", "", 400, "1 or more"},
		{"POST", "/deadletters/t/g/1/burn", "", 404, "requeue or discard"},
		{"GET", "/topics/t%2Fu/messages", "", 400, "t/u"},
		{"GET", "/topics/t/messages?from=0", "", 400, "1 or more"},
		{"GET", "/topics/t/messages?from=1&time=1", "", 400, "one of them"},
		{"GET", "/topics/t/messages?limit=1001", "", 400, "1 to 1000"},
		{"GET", "/topics/t/messages?group=g", "", 400, "give from, time, limit"},
		{"GET", "/broker?topic=t", "", 400, "topic"},
		{"POST", "/broker/stop", "", 404, "drain or serve"},
	} {
		s := &scripted{}
		w := ask(t, s, c.method, c.path, c.body, nil)
		var refused operate.Error
		if err := json.Unmarshal(w.Body.Bytes(), &refused); err != nil || refused.Error == "" {
			t.Errorf("%s %s: %s is no error as JSON", c.method, c.path, w.Body)
		}
		if w.Code != c.status || s.asked != "" || !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("%s %s: %d %s, asked %q, want %d and %q", c.method, c.path, w.Code, w.Body, s.asked, c.status, c.text)
		}
	}
	for _, path := range []string{"/transactions/" + anyID + "/commit", "/groups/t/g/pause", "/deadletters/t/g/1/discard"} {
		if w := ask(t, &scripted{}, "GET", path, "", nil); w.Code != http.StatusMethodNotAllowed && w.Code != http.StatusNotFound {
			t.Errorf("GET %s: %d: an order by GET", path, w.Code)
		}
	}
}

// TestStatuses translates what the broker says.
func TestStatuses(t *testing.T) {
	t.Parallel()
	for code, status := range map[kite.Code]int{
		kite.Invalid: 400, kite.TooLarge: 400, kite.NotServed: 404, kite.TxUnknown: 404, kite.TxConflict: 409,
		kite.Busy: 429, kite.Unavailable: 503, kite.Indeterminate: 503, kite.Internal: 500,
	} {
		s := &scripted{err: kite.Errorf(code, "first line\nsecond")}
		if w := ask(t, s, "GET", "/messages/"+anyID, "", nil); w.Code != status || w.Body.String() != `{"error":"first line; second"}`+"\n" {
			t.Errorf("%v: %d %s, want %d", code, w.Code, w.Body, status)
		}
	}
	if w := ask(t, &scripted{err: context.DeadlineExceeded}, "GET", "/groups", "", nil); w.Code != 503 {
		t.Errorf("no answer in time: %d", w.Code)
	}
}

// TestForeignPage gives no order for a page of another host that an operator was lured to.
func TestForeignPage(t *testing.T) {
	t.Parallel()
	for origin, status := range map[string]int{
		"": 200, "http://broker:13801": 200, "http://evil.example": 403, "http://broker:80": 403, "null": 403, "://": 403,
	} {
		w := ask(t, &scripted{}, "POST", "/groups/t/g/pause", "", func(r *http.Request) { r.Header.Set("Origin", origin) })
		if w.Code != status {
			t.Errorf("origin %q: %d %s, want %d", origin, w.Code, w.Body, status)
		}
	}
	named := &scripted{}
	ask(t, named, "POST", "/groups/t/g/pause", "", func(r *http.Request) { r.SetBasicAuth("ann", "x") })
	if !strings.Contains(named.asked, "operator ann") {
		t.Errorf("asked %q, want the HTTP user", named.asked)
	}
}

// TestExport streams all pages, and breaks off where it cannot go on.
func TestExport(t *testing.T) {
	t.Parallel()
	pages := func() []operate.Letters {
		return []operate.Letters{
			{Letters: []operate.Letter{{N: 1, Body: []byte("a")}, {N: 2}}, Next: "2"},
			{Letters: []operate.Letter{{N: 5}}},
		}
	}
	s := &scripted{pages: pages()}
	w := ask(t, s, "GET", "/deadletters/export?topic=t&group=g", "", nil)
	if n := bytes.Count(w.Body.Bytes(), []byte("\n")); n != 3 || !strings.Contains(w.Body.String(), `"body":"YQ=="`) || !strings.Contains(s.asked, "After:2 ") {
		t.Errorf("%d lines, asked %s:\n%s", n, s.asked, w.Body)
	}
	broken := &breaking{scripted{pages: pages()[:1]}}
	defer func() {
		if recover() != http.ErrAbortHandler { //nolint:errorlint // a panic's value
			t.Error("the answer looks whole")
		}
	}()
	ask(t, broken, "GET", "/deadletters/export?topic=t&group=g", "", nil)
}

// breaking fails after its pages.
type breaking struct{ scripted }

func (b *breaking) Letters(ctx context.Context, f operate.Filter, whole bool) (operate.Letters, error) {
	if len(b.pages) == 0 {
		return operate.Letters{}, io.ErrUnexpectedEOF
	}
	return b.scripted.Letters(ctx, f, whole)
}
