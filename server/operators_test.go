package server

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/tlstest"
)

const staff = rules + `
[operators.ann]
role = "operator"
keys = [HASH(ann's token)]
[operators.bob]
role = "read-only"
keys = [HASH(bob's token)]
[operators.scraper]
role = "read-only"
certificate = true
`

// caller is somebody with an HTTP client.
type caller struct {
	t      *testing.T
	base   string
	client http.Client
	header http.Header
}

func newCaller(t *testing.T, s *Server, config *tls.Config) *caller {
	t.Helper()
	scheme := "http://"
	if config != nil {
		scheme = "https://"
	}
	return &caller{t: t, base: scheme + s.AdminAddr(), header: http.Header{}, client: http.Client{
		Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *caller) as(authorization string) *caller {
	other := *c
	other.header = http.Header{"Authorization": {authorization}}
	return &other
}

func (c *caller) user(name, token string) *caller {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(name, token)
	return c.as(r.Header.Get("Authorization"))
}

// call returns the status and the body.
func (c *caller) call(method, path, body string) (int, string) {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	request.Header = c.header
	response, err := c.client.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// TestOperatorsPort is the table of who may do what on the operators' port: health for everybody, looking for those
// who may look, orders, profiles and a reload for operators.
func TestOperatorsPort(t *testing.T) {
	t.Parallel()
	s, authority := adminBroker(t, true, staff)
	port := newCaller(t, s, authority.Client(t, ""))
	nobody, wrong := port, port.user("ann", "bob's token")
	ann, bob, bearer := port.user("ann", "ann's token"), port.user("bob", "bob's token"), port.as("Bearer bob:bob's token")
	scraper, guest := newCaller(t, s, authority.Client(t, "scraper")), newCaller(t, s, authority.Client(t, "guest"))
	const id = "/transactions/0123456789abcdef0123456789abcdef"
	for _, row := range []struct {
		method, path           string
		nobody, reads, operate int // statuses
	}{
		{"GET", "/healthz", 200, 200, 200},
		{"GET", "/readyz", 200, 200, 200},
		{"GET", "/stat", 401, 200, 200},
		{"GET", "/binds", 401, 200, 200},
		{"GET", "/metrics", 401, 200, 200},
		{"GET", "/transactions", 401, 200, 200},
		{"GET", id, 401, 404, 404},
		{"GET", "/groups", 401, 200, 200},
		{"GET", "/deadletters?topic=trade&group=s-books", 401, 200, 200},
		{"GET", "/ui/", 401, 200, 200},
		{"GET", "/", 401, 302, 302},
		{"GET", "/no/such/page", 401, 404, 404},
		{"POST", id + "/commit", 401, 403, 404},
		{"POST", "/groups/trade/s-books/pause", 401, 403, 404},
		{"POST", "/no/such/page", 401, 403, 404},
		{"DELETE", "/stat", 401, 403, 200},
		{"GET", "/reload", 401, 403, 200},
		{"GET", "/debug/pprof/cmdline", 401, 403, 200},
		{"GET", "/debug/pprof/heap", 401, 403, 200},
	} {
		body := ""
		if row.method == "POST" {
			body = `{"reason":"a test"}`
		}
		for _, who := range []struct {
			name string
			*caller
			want int
		}{
			{"nobody", nobody, row.nobody},
			{"a wrong token", wrong, row.nobody},
			{"a foreign certificate", guest, row.nobody},
			{"read-only", bob, row.reads},
			{"read-only, bearer", bearer, row.reads},
			{"read-only, certificate", scraper, row.reads},
			{"operator", ann, row.operate},
		} {
			if who.name == "a wrong token" && row.path != "/stat" {
				continue // after some the address has to wait
			}
			status, text := who.call(row.method, row.path, body)
			if status != who.want {
				t.Errorf("%s: %s %s: status %d, want %d: %.200s", who.name, row.method, row.path, status, who.want, text)
			}
			if strings.Contains(text, "token\"") || strings.Contains(text, "$2a$") || strings.Contains(text, "-configPath") {
				t.Errorf("%s: %s %s shows a secret or arguments: %.200s", who.name, row.method, row.path, text)
			}
		}
	}
	foreign := ann.as(ann.header.Get("Authorization"))
	foreign.header.Set("Sec-Fetch-Site", "cross-site")
	if status, _ := foreign.call("GET", "/reload", ""); status != http.StatusForbidden {
		t.Errorf("a page of another site ordered a reload: status %d", status)
	}
}

// adminBroker starts a broker whose operators' port speaks TLS, with the rules if there are any.
func adminBroker(t *testing.T, asked bool, text string) (*Server, *tlstest.Authority) {
	t.Helper()
	authority := tlstest.NewAuthority(t, "kiteq test")
	cert, key := authority.Issue(t, "broker")
	c := testConfig()
	file := fmt.Sprintf("[tls]\nadmin = true\ncert = %q\nkey = %q\nclient_ca = %q\n", cert, key, authority.File)
	if asked {
		file += fmt.Sprintf("[auth]\nfile = %q\n", rulesFile(t, "", text))
	}
	read := readBack(t, &c, file)
	s, _ := start(t, c, Control{Reload: read})
	return s, authority
}

// TestOperatorsByCertificate: without operators in the rules a certificate of the authority is what opens the port.
func TestOperatorsByCertificate(t *testing.T) {
	t.Parallel()
	s, authority := adminBroker(t, false, "")
	if status, _ := newCaller(t, s, authority.Client(t, "anybody")).call("GET", "/reload", ""); status != http.StatusOK {
		t.Errorf("with a certificate: status %d", status)
	}
	stranger := newCaller(t, s, authority.Client(t, ""))
	response, err := stranger.client.Get(stranger.base + "/healthz")
	if err == nil {
		_ = response.Body.Close()
		t.Errorf("without a certificate: status %d", response.StatusCode)
	}
}
