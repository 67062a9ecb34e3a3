package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Server is the operators' HTTP server.
type Server struct {
	listener net.Listener
	http     *http.Server
	mux      *http.ServeMux
	sampler  *sampler
}

// Listen binds addr.
func Listen(addr string, broker Broker, operator Operator, log *slog.Logger) (*Server, error) {
	l, err := net.Listen("tcp4", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s for health checks: the port is in use: choose another with -pport, or -pport=-1 for none", addr)
	case err != nil:
		return nil, fmt.Errorf("listen on %s for health checks: %w", addr, err)
	}
	log = log.With("component", "admin")
	s := &Server{listener: l, sampler: newSampler(broker, log)}
	s.http = &http.Server{
		Handler: ownHost(s.routes(broker, &desk{operator})), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

func (s *Server) routes(broker Broker, d *desk) http.Handler {
	mux := http.NewServeMux()
	s.mux = mux
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := broker.Ready(); err != nil {
			http.Error(w, strings.ReplaceAll(err.Error(), "\n", "; "), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("/stat", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.sampler.newest.Load().stat) })
	mux.HandleFunc("/binds", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.sampler.newest.Load().binds) })
	mux.HandleFunc("/reload", func(w http.ResponseWriter, r *http.Request) {
		topics, err := broker.Reload(r.Context())
		answer(w, newReloaded(topics, err))
	})
	mux.Handle("GET /metrics", broker.Metrics())
	d.register(mux)
	registerLog(mux, broker)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// reloaded is the answer of /reload. The original answers 200 whatever happened, and null topics when it
// did not work; Error is ours.
type reloaded struct {
	Status int      `json:"status"`
	Topics []string `json:"topics"`
	Error  string   `json:"error,omitempty"`
}

func newReloaded(topics []string, err error) reloaded {
	if err != nil {
		return reloaded{Status: http.StatusOK, Error: strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return reloaded{Status: http.StatusOK, Topics: topics}
}

// answer writes v as the original does: any method, always 200, text/json.
func answer(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("admin: an answer that is not JSON: " + err.Error())
	}
	w.Header().Set("Content-Type", "text/json")
	_, _ = w.Write(body) // a client that went away is not our concern
}

// Mount has h answer what lies below the path, and / lead there. It is called before Run.
func (s *Server) Mount(path string, h http.Handler) {
	s.mux.Handle(path+"/", h)
	s.mux.Handle("GET /{$}", http.RedirectHandler(path+"/", http.StatusFound))
}

// Addr returns the "ip:port" listened on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run serves until ctx ends. It samples the broker in a goroutine of its own.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() { s.sampler.run(ctx) })
	defer wait.Wait()
	defer cancel()
	stopped := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(stopped)
		_ = s.http.Close()
	})
	err := s.http.Serve(s.listener)
	if !unhook() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
