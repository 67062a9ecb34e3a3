package client

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
)

// dial opens a connection to the broker's "host:port", with TLS if that is wanted.
func (o *Options) dial(ctx context.Context, addr string) (net.Conn, error) {
	if o.TLS == nil {
		return o.Dialer(ctx, addr)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if o.TLSPort != 0 {
		port = strconv.Itoa(o.TLSPort)
	}
	raw, err := o.Dialer(ctx, net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	config := o.TLS
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = host
	}
	nc := tls.Client(raw, config)
	if err := nc.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return nc, nil
}
