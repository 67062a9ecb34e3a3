package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/kiteq/kiteq/internal/tlstest"
)

// TestHash makes a hash of what comes on standard input.
func TestHash(t *testing.T) {
	t.Parallel()
	hash := func(in string) (int, string, string) {
		var out, failures bytes.Buffer
		code := run(t.Context(), []string{"hash"}, terminal{in: strings.NewReader(in), out: &out, err: &failures})
		return code, strings.TrimSpace(out.String()), failures.String()
	}
	code, got, _ := hash("a key\n")
	if code != exitOK || bcrypt.CompareHashAndPassword([]byte(got), []byte("a key")) != nil {
		t.Errorf("code %d, %q", code, got)
	}
	for _, in := range []string{"", "\n", strings.Repeat("k", 73)} {
		if code, got, failures := hash(in); code == exitOK || got != "" || in != "" && in != "\n" && strings.Contains(failures, in) {
			t.Errorf("%q: code %d, %q, %q", in, code, got, failures)
		}
	}
}

// TestToken shows the operator's token to the operators' port, over TLS, and in no output.
func TestToken(t *testing.T) {
	t.Parallel()
	authority := tlstest.NewAuthority(t, "kiteq test")
	seen := make(chan string, 1)
	port := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, token, _ := r.BasicAuth()
		if len(r.TLS.PeerCertificates) > 0 {
			name += " with the certificate of " + r.TLS.PeerCertificates[0].Subject.CommonName
		}
		seen <- name + " " + token
		w.WriteHeader(http.StatusUnauthorized)
	}))
	cert, key := authority.Issue(t, "broker")
	config := authority.Client(t, "broker")
	port.TLS = config.Clone()
	port.TLS.ClientAuth, port.TLS.ClientCAs = 4, authority.Pool // RequireAndVerifyClientCert
	port.StartTLS()
	defer port.Close()
	for _, test := range []struct{ token, shown string }{{"ann:the token", "ann with the certificate of broker the token"}, {"", " with the certificate of broker "}} {
		var out, failures bytes.Buffer
		code := run(t.Context(), []string{"tx", "list", "--admin", port.URL, "--ca", authority.File, "--cert", cert, "--key", key},
			terminal{in: strings.NewReader(""), out: &out, err: &failures, token: test.token})
		if code != exitError {
			t.Fatalf("code %d, %s", code, failures.String())
		}
		if got := <-seen; got != test.shown {
			t.Errorf("%q was shown, want %q", got, test.shown)
		}
		if text := failures.String(); strings.Contains(text, "the token") || !strings.Contains(text, tokenVariable) {
			t.Errorf("%q", text)
		}
	}
	var failures bytes.Buffer
	if code := run(t.Context(), []string{"tx", "list", "--admin", port.URL}, terminal{in: strings.NewReader(""), out: &bytes.Buffer{}, err: &failures, token: "secret without a name"}); code != exitUsage || strings.Contains(failures.String(), "secret") {
		t.Errorf("code %d, %q", code, failures.String())
	}
}
