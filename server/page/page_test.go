package page

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestPages looks at every page for what an operator looks for.
func TestPages(t *testing.T) {
	t.Parallel()
	p := newPage(small())
	for _, test := range []struct {
		path   string
		status int
		has    []string
	}{
		{"/ui/", 200, []string{
			"1 parked transaction: ", "is away. Nobody of it is connected since", "7 messages wait", "2 dead letters", "A binding of group s-bad on topic fee is left out: error parsing regexp",
			"this one, ready", "10.0.0.8:13800", "announced", `hx-sse:connect="/ui/?live="`,
		}},
		{"/ui/topics", 200, []string{"fee", "no group", `href="/ui/topics/trade"`}},
		{"/ui/topics/trade", 200, []string{"s-books", `href="/ui/groups/trade/s-%3Cb%3E%22&amp;%27"`, "s-&lt;b&gt;"}},
		{"/ui/topics/none", 404, []string{"it is not served by this broker"}},
		{"/ui/groups", 200, []string{"s-books", "1 to 2 of 2"}},
		{"/ui/groups?q=BOOKS", 200, []string{"s-books", "1 to 1 of 1"}},
		{"/ui/groups?state=away", 200, []string{"s-&lt;b&gt;", "1 to 1 of 1"}},
		{"/ui/groups/trade/s-books", 200, []string{"dead letters.", "10.0.0.1:4000", "/ui/groups/trade/s-books/pause"}},
		{"/ui/groups/trade/" + url.PathEscape(odd), 200, []string{"Start its consumers", "s-&lt;b&gt;&#34;&amp;&#39;"}},
		{"/ui/groups/trade/none", 404, []string{"never was"}},
		{"/ui/transactions?topic=trade", 200, []string{testID, "parked", "p-till", "?after=5-x&amp;topic=trade"}},
		{"/ui/delayed?topic=trade", 200, []string{testID, "1 message for later", "89 min", "?after=7&amp;topic=trade"}},
		{"/ui/deadletters", 200, []string{`href="/ui/deadletters/trade/s-books"`, "1 to 1 of 1"}},
		{"/ui/deadletters/trade/s-books", 200, []string{"limit reached", "no room", "/ui/deadletters/trade/s-books/1/requeue", "requeued"}},
		{"/ui/deadletters/trade/s-books/1", 200, []string{"&lt;script&gt;alert(1)&lt;/script&gt;", "&lt;k&gt;", "the last answer: no room"}},
		{"/ui/deadletters/trade/s-books/2", 200, []string{"00000000  00 ff 01", "not text"}},
		{"/ui/deadletters/trade/s-books/3", 404, []string{"it is not there"}},
		{"/ui/deadletters/trade/s-books/x", 400, []string{"give its number"}},
		{"/ui/deadletters/tr%00ade/s-books", 400, []string{"topic"}},
		{"/ui/messages/" + testID, 200, []string{"Decide it", "prepared by group p-till", "<svg", "s-&lt;b&gt;", "/ui/transactions/" + testID + "/commit"}},
		{"/ui/messages/17", 400, []string{"32 hexadecimal digits"}},
		{"/ui/nothing", 404, []string{"There is no page here."}},
	} {
		status, body := get(t, p, test.path)
		if status != test.status {
			t.Errorf("%s: %d, want %d", test.path, status, test.status)
		}
		for _, want := range test.has {
			if !strings.Contains(body, want) {
				t.Errorf("%s lacks %q:\n%s", test.path, want, body)
			}
		}
		for _, raw := range []string{"<b>", "<script>", "<v>", "ZgotmplZ"} {
			if strings.Contains(body, raw) {
				t.Errorf("%s has %s, which somebody else wrote", test.path, raw)
			}
		}
	}
}

// TestTroubles: what does not work is told, on every page.
func TestTroubles(t *testing.T) {
	t.Parallel()
	f := small()
	f.ready = errors.New("store: closed\nregistry: away")
	p := newPage(f)
	if _, body := get(t, p, "/ui/"); !strings.Contains(body, "<li>store: closed</li><li>registry: away</li>") || !strings.Contains(body, "this one, not ready") {
		t.Errorf("a broker that is not ready:\n%s", body)
	}
	if _, body := get(t, p, "/ui/topics"); !strings.Contains(body, "This broker is not ready") {
		t.Errorf("topics of a broker that is not ready:\n%s", body)
	}
	f.err = kite.Errorf(kite.Unavailable, "the broker is stopping")
	if status, body := get(t, p, "/ui/transactions"); status != http.StatusServiceUnavailable || !strings.Contains(body, "the broker is stopping") {
		t.Errorf("%d\n%s", status, body)
	}
}

// TestFind leads to the message, whatever was pasted.
func TestFind(t *testing.T) {
	t.Parallel()
	p := newPage(small())
	for query, want := range map[string]string{
		"+" + testID + "+": "/ui/messages/" + testID, "": "/ui/messages/-", url.QueryEscape("//evil/../x?y"): "/ui/messages/%2F%2Fevil%2F..%2Fx%3Fy",
	} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ui/messages?id="+query, nil))
		if got := w.Header().Get("Location"); w.Code != http.StatusSeeOther || got != want {
			t.Errorf("%q: %d %s, want %s", query, w.Code, got, want)
		}
	}
}

// TestOrders gives each order, as a browser sends it.
func TestOrders(t *testing.T) {
	t.Parallel()
	ann := url.Values{"by": {"ann"}, "reason": {"the row is there"}}
	for _, test := range []struct {
		path    string
		form    url.Values
		status  int
		next    string // where the browser goes, or what the page says
		ordered string
	}{
		{"/ui/transactions/" + testID + "/commit", ann, 303, "/ui/messages/" + testID, "commit " + testID + " operator ann: the row is there"},
		{"/ui/transactions/" + testID + "/rollback", ann, 303, "/ui/messages/" + testID, "rollback " + testID + " operator ann: the row is there"},
		{"/ui/transactions/" + testID + "/check", nil, 303, "/ui/messages/" + testID, "check " + testID + " operator 192.0.2.1: "},
		{"/ui/transactions/" + testID + "/commit", url.Values{"by": {"ann"}}, 400, "reason: it is missing", ""},
		{"/ui/transactions/" + testID + "/forget", ann, 404, "commit, rollback or check", ""},
		{"/ui/transactions/17/commit", ann, 400, "32 hexadecimal digits", ""},
		{"/ui/delayed/" + testID + "/cancel", ann, 303, "/ui/messages/" + testID, "cancel " + testID + " operator ann: the row is there"},
		{"/ui/delayed/" + testID + "/cancel", nil, 400, "reason: it is missing", ""},
		{"/ui/delayed/" + testID + "/hurry", ann, 404, "give cancel", ""},
		{"/ui/groups/trade/" + url.PathEscape(odd) + "/pause", ann, 303, "/ui/groups/trade/" + url.PathEscape(odd), "paused true trade " + odd + " operator ann: the row is there"},
		{"/ui/groups/trade/s-books/resume", nil, 303, "/ui/groups/trade/s-books", "paused false trade s-books operator 192.0.2.1: "},
		{"/ui/groups/trade/s-books/stop", nil, 404, "pause or resume", ""},
		{"/ui/deadletters/trade/s-books/1/requeue", ann, 303, "/ui/deadletters/trade/s-books", "requeue true trade s-books 1 operator ann"},
		{"/ui/deadletters/trade/s-books/1/discard", ann, 303, "/ui/deadletters/trade/s-books", "requeue false trade s-books 1 operator ann"},
		{"/ui/deadletters/trade/s-books/0/discard", ann, 400, "give its number", ""},
		{"/ui/deadletters/trade/s-books/1/burn", ann, 404, "requeue or discard", ""},
		{"/ui/groups/trade/s-books/pause", url.Values{"reason": {strings.Repeat("x", maxForm)}}, 400, "form: ", ""},
	} {
		f := small()
		w := post(t, newPage(f), test.path, test.form, nil)
		if got := w.Header().Get("Location"); w.Code != test.status || (got != test.next && !strings.Contains(w.Body.String(), test.next)) {
			t.Errorf("%s: %d to %q, want %d %q\n%s", test.path, w.Code, got, test.status, test.next, w.Body)
		}
		if got := strings.Join(f.orders, "; "); got != test.ordered {
			t.Errorf("%s ordered %q, want %q", test.path, got, test.ordered)
		}
	}
}

func post(t *testing.T, p *Page, path string, form url.Values, header map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://broker:13801"+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for key, value := range header {
		r.Header.Set(key, value)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

// TestForeignOrders: another page gives no orders, by whatever the browser says about it.
func TestForeignOrders(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		header map[string]string
		status int
	}{
		{map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://broker:13801"}, 303},
		{map[string]string{"Origin": "http://broker:13801"}, 303}, // an old browser
		{nil, 303}, // no browser
		{map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "http://broker:13801"}, 403},
		{map[string]string{"Sec-Fetch-Site": "same-site"}, 403}, // another port of the host
		{map[string]string{"Origin": "http://broker:9"}, 403},
		{map[string]string{"Origin": "null"}, 403},
	} {
		f := small()
		w := post(t, newPage(f), "/ui/groups/trade/s-books/pause", nil, test.header)
		if w.Code != test.status || (len(f.orders) == 1) != (test.status == 303) {
			t.Errorf("%v: %d, ordered %q, want %d", test.header, w.Code, f.orders, test.status)
		}
	}
}

// TestNothingInline: the policy forbids what the templates must not have, and nothing names another host.
func TestNothingInline(t *testing.T) {
	t.Parallel()
	forbidden := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|hx-on|javascript:|https?://|//cdn|hx-vals|\[[a-z.]+\]"`)
	entries, err := templates.ReadDir("templates")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		text, err := templates.ReadFile("templates/" + entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		if found := forbidden.FindString(string(text)); found != "" {
			t.Errorf("%s has %q", entry.Name(), found)
		}
		for _, script := range regexp.MustCompile(`<script[^>]*>`).FindAllString(string(text), -1) {
			if !strings.Contains(script, " src=") {
				t.Errorf("%s has %s", entry.Name(), script)
			}
		}
	}
}

// TestVendored: the files of others are as they were published.
func TestVendored(t *testing.T) {
	t.Parallel()
	sources, err := assets.ReadFile("assets/vendor/SOURCES")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := assets.ReadDir("assets/vendor")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		body, err := assets.ReadFile("assets/vendor/" + entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(body)
		if line := hex.EncodeToString(sum[:]) + "  " + entry.Name() + "  "; entry.Name() != "SOURCES" && !strings.Contains(string(sources), line) {
			t.Errorf("SOURCES lacks %q", line)
		}
	}
}

// TestAssets are served with their types, and not twice.
func TestAssets(t *testing.T) {
	t.Parallel()
	p := newPage(small())
	for path, kind := range map[string]string{
		"page.css": "text/css", "page.js": "text/javascript", "kite.svg": "image/svg+xml", "vendor/htmx.min.js": "text/javascript",
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ui/assets/"+path, nil)
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) {
			t.Errorf("%s: %d %s", path, w.Code, w.Header().Get("Content-Type"))
		}
		r.Header.Set("If-None-Match", w.Header().Get("ETag"))
		again := httptest.NewRecorder()
		p.ServeHTTP(again, r)
		if again.Code != http.StatusNotModified || again.Body.Len() > 0 {
			t.Errorf("%s again: %d, %d bytes", path, again.Code, again.Body.Len())
		}
	}
}
