package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// TLS says how clients are served over TLS.
type TLS struct {
	// Listen is the address for TLS, "ip:port"; an empty ip means all. Default "": no TLS.
	Listen string `toml:"listen"`
	// Cert is a PEM file with the broker's certificate and what is between it and the root. It is read again when it
	// changes, with Key.
	Cert string `toml:"cert"`
	// Key is a PEM file with the private key of Cert.
	Key string `toml:"key"`
	// ClientCA is a PEM file of the authorities that sign clients' certificates: with it a client without one
	// is refused (mutual TLS). Default "": clients need none.
	ClientCA string `toml:"client_ca"`
	// Only leaves the plain port closed: then the registry names the address for TLS. Default false.
	Only bool `toml:"only"`
	// Admin makes the operators' port speak TLS, too, with the same certificates. Default false.
	Admin bool `toml:"admin"`
}

// Validate returns every problem, joined. It does not look into the files.
func (o TLS) Validate() error {
	var problems kite.Problems
	used := o.Listen != "" || o.Admin
	problems.Check(!used || o.Cert != "" && o.Key != "", "tls: name the files of the certificate and of its key with cert and key")
	problems.Check(used || o.Cert == "" && o.Key == "" && o.ClientCA == "", "tls: files are named and nothing uses them: set listen, as in \":13843\", or admin")
	problems.Check(!o.Only || o.Listen != "", "tls: only needs listen, or clients could not connect at all")
	return problems.Err()
}

func listenTLS(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp4", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s for TLS: the port is in use: stop what uses it or choose another in [tls] listen", addr)
	case err != nil:
		return nil, fmt.Errorf("listen on %s for TLS: %w: choose an address of this machine in [tls] listen", addr, err)
	}
	return l, nil
}

// accept serves the TLS port until the listener is closed, and returns when every connection has ended.
func (t *Transport) accept(ctx context.Context, l net.Listener) {
	var streams sync.WaitGroup
	defer streams.Wait()
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = nc.Close()
			}
			return
		case err != nil: // no descriptors, for example: others need theirs
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			t.log.Warn("accepting on the TLS port failed, trying again", "err", err, "pause", pause)
			retry := time.NewTimer(pause)
			select {
			case <-retry.C:
			case <-ctx.Done():
			}
			retry.Stop()
			continue
		}
		pause = 0
		from := addressOf(nc.RemoteAddr())
		if t.door.enter(from) != nil {
			_ = nc.Close()
			continue
		}
		streams.Go(func() {
			defer t.door.leave(from)
			t.welcome(ctx, nc)
		})
	}
}

// welcome shakes hands and serves the connection until it ends.
func (t *Transport) welcome(ctx context.Context, raw net.Conn) {
	opened := time.Now()
	nc := tls.Server(raw, t.certificates.Config())
	shake, cancel := context.WithTimeout(ctx, t.options.Load().UnauthenticatedTimeout)
	err := nc.HandshakeContext(shake)
	cancel()
	remote := raw.RemoteAddr()
	if err != nil {
		t.handshakes.Add(1)
		t.log.Debug("no TLS with a client", "remote", remote.String(), "err", err)
		_ = raw.Close()
		return
	}
	s := &stream{
		peer: peer{transport: t, remote: remote.String(), address: addressOf(remote), opened: opened},
		nc:   nc, wake: make(chan struct{}, 1),
	}
	s.hangUp = s.drop
	s.session = t.handler.Opened(s)
	t.add(&s.peer, nil)
	stop := context.AfterFunc(ctx, func() {
		s.closed.Store(true)
		s.drop()
	})
	defer stop()
	s.serve()
}
