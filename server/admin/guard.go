package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"strings"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// Guard knows who may use the operators' port. It may change its mind while the broker runs.
type Guard interface {
	// Asks tells whether the port asks who comes. When it does not, everybody may do everything.
	Asks() bool
	// Operator tells whether the operator with this token, at remote, "ip:port", may order, or only look.
	Operator(ctx context.Context, name, token, remote string) (mayOrder bool, err error)
	// Certified tells the same of the common name of a verified client certificate.
	Certified(name string) (mayOrder bool, err error)
}

// Secure has the port speak TLS, unless config is nil, and guard, unless that is nil, asked about every request.
// It is called before Run.
func (s *Server) Secure(config *tls.Config, guard Guard) {
	if config != nil {
		s.listener = tls.NewListener(s.listener, config)
	}
	if guard != nil {
		s.http.Handler = guarded(guard, s.http.Handler)
	}
}

// need is what a request needs.
type need int

const (
	nothing need = iota // whoever watches the broker's health has no token
	look
	order
)

// needOf says what a request needs: who may only look may not have the broker work on itself, either.
func needOf(r *http.Request) need {
	path := r.URL.Path
	switch {
	case path == "/healthz" || path == "/readyz":
		return nothing
	case path == "/reload" || strings.HasPrefix(path, "/debug/"):
		return order
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return look
	}
	return order
}

// nameKey is the context key of who was let in.
type nameKey struct{}

// guarded lets through whoever may.
func guarded(g Guard, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		need := needOf(r)
		if need == nothing || !g.Asks() {
			h.ServeHTTP(w, r)
			return
		}
		name, mayOrder, err := identify(g, r)
		switch {
		case errors.Is(err, kite.Busy):
			reply(w, http.StatusTooManyRequests, operate.Error{Error: err.Error()})
		case err != nil:
			w.Header().Set("WWW-Authenticate", `Basic realm="kiteq", charset="UTF-8"`)
			reply(w, http.StatusUnauthorized, operate.Error{Error: err.Error()})
		case need == order && !mayOrder:
			reply(w, http.StatusForbidden, operate.Error{Error: "operator " + name + " may look and not order"})
		case need == order && r.Header.Get("Sec-Fetch-Site") == "cross-site":
			reply(w, http.StatusForbidden, operate.Error{Error: "the page that sends this is not of this broker"})
		default:
			h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), nameKey{}, name)))
		}
	})
}

// identify returns who sends the request: by "Authorization: Basic" or "Bearer NAME:TOKEN", or by a certificate.
func identify(g Guard, r *http.Request) (name string, mayOrder bool, err error) {
	name, token, given := r.BasicAuth()
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		name, token, given = strings.Cut(bearer, ":")
	}
	if given {
		mayOrder, err = g.Operator(r.Context(), name, token, r.RemoteAddr)
		return name, mayOrder, err
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		name = r.TLS.PeerCertificates[0].Subject.CommonName
		mayOrder, err = g.Certified(name)
		return name, mayOrder, err
	}
	return "", false, kite.Errorf(kite.Unauthorized, "who are you? send NAME:TOKEN of an operator as HTTP basic authentication (kiteqctl: KITEQ_ADMIN_TOKEN)")
}

// operatorOf returns the name under which the request was let in, or "".
func operatorOf(r *http.Request) string {
	name, _ := r.Context().Value(nameKey{}).(string)
	return name
}

// cmdline is pprof's, without the arguments: there may be passwords among them.
func cmdline(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(os.Args[0]))
}
