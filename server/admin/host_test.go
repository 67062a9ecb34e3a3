package admin

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestOwnHost refuses on loopback what was sent to a name that anybody may have.
func TestOwnHost(t *testing.T) {
	t.Parallel()
	h := ownHost(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for _, c := range []struct {
		local, host string
		want        int
	}{
		{"127.0.0.1", "127.0.0.1:13801", http.StatusNoContent},
		{"127.0.0.1", "localhost:13801", http.StatusNoContent},
		{"127.0.0.1", "LOCALHOST", http.StatusNoContent},
		{"::1", "[::1]:13801", http.StatusNoContent},
		{"127.0.0.1", "evil.example:13801", http.StatusForbidden},
		{"127.0.0.1", "localhost.evil.example", http.StatusForbidden},
		{"127.0.0.1", "", http.StatusForbidden},
		{"10.0.0.1", "broker1.example:13801", http.StatusNoContent},
	} {
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(c.local)}), "GET", "/stat", nil)
		r.Host = c.host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%q at %s: %d, want %d", c.host, c.local, w.Code, c.want)
		}
	}
}
