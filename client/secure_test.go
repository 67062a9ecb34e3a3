package client_test

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/clienttest"
	"github.com/kiteq/kiteq/internal/tlstest"
)

// TestTLS publishes over TLS to a broker whose plain address the registry names, and to none whose certificate is
// not good for the address, or is of an unknown authority.
func TestTLS(t *testing.T) {
	t.Parallel()
	authority := tlstest.NewAuthority(t, "kiteq test")
	l, err := tls.Listen("tcp4", "127.0.0.1:0", authority.Client(t, "broker"))
	if err != nil {
		t.Fatal(err)
	}
	b := clienttest.New()
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			b.Serve(nc)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-served
		b.Close()
	})
	_, text, _ := net.SplitHostPort(l.Addr().String())
	port, _ := strconv.Atoi(text)
	unknown, misnamed := authority.Client(t, ""), authority.Client(t, "")
	unknown.RootCAs = tlstest.NewAuthority(t, "somebody else").Pool
	misnamed.ServerName = "elsewhere.example"
	named := authority.Client(t, "")
	named.ServerName = "" // that of the address
	for _, test := range []struct {
		name   string
		config *tls.Config
		addr   string
		port   int
		good   bool
	}{
		{"its port", authority.Client(t, ""), l.Addr().String(), 0, true},
		{"the name of the address", named, l.Addr().String(), 0, true},
		{"a port beside", named, "127.0.0.1:1", port, true},
		{"unknown authority", unknown, l.Addr().String(), 0, false},
		{"another name", misnamed, l.Addr().String(), 0, false},
		{"no TLS", nil, l.Addr().String(), 0, false},
	} {
		patience := 10 * time.Second
		if !test.good {
			patience = 300 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := client.Dial(ctx, client.Options{Brokers: []string{test.addr}, Group: "g", Topics: []string{"trade"}, TLS: test.config, TLSPort: test.port})
		if (err == nil) != test.good {
			t.Errorf("%s: %v", test.name, err)
		}
		if err != nil {
			continue
		}
		if err := c.Publish(ctx, message()); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if err := c.Close(ctx); err != nil {
			t.Errorf("%s: close: %v", test.name, err)
		}
	}
	if _, err := client.Dial(t.Context(), client.Options{Brokers: []string{"b:1"}, Group: "g", TLSPort: 7}); client.CodeOf(err) != client.Invalid {
		t.Errorf("a port without TLS: %v", err)
	}
}
