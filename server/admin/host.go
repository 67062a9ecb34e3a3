package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/kiteq/kiteq/internal/operate"
)

// ownHost refuses requests to loopback that were sent to a name of somebody else's. A page of another site may have
// its own name lead to 127.0.0.1, and would then pass for one of ours (DNS rebinding).
func ownHost(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok && at.IP.IsLoopback() && !ours(r.Host) {
			reply(w, http.StatusForbidden, operate.Error{Error: "this port is on loopback: write its address or localhost, not " + r.Host})
			return
		}
		h.ServeHTTP(w, r)
	})
}

// ours tells whether the host is an address, or a name that nobody else can have.
func ours(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || strings.EqualFold(host, "localhost")
}
