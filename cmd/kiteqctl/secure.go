package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// tokenVariable names the environment variable with NAME:TOKEN of an operator.
const tokenVariable = "KITEQ_ADMIN_TOKEN"

// security is what the flags say about TLS.
type security struct {
	tls           bool
	port          int
	ca, cert, key string
}

func (s *security) register(flags *pflag.FlagSet) {
	flags.BoolVar(&s.tls, "tls", false, "speak TLS with brokers; with operators' ports where --admin says https://")
	flags.IntVar(&s.port, "tls-port", 0, "`PORT` on which brokers speak TLS, where the registry names their plain one")
	flags.StringVar(&s.ca, "ca", "", "PEM `FILE` of the authorities of brokers' certificates (default: the system's)")
	flags.StringVar(&s.cert, "cert", "", "PEM `FILE` of a client certificate, where brokers ask for one")
	flags.StringVar(&s.key, "key", "", "PEM `FILE` of its private key")
}

// config returns how TLS is spoken.
func (s *security) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.ca != "" {
		text, err := os.ReadFile(s.ca)
		if err != nil {
			return nil, usage("--ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, usage("--ca %s: there is no certificate in it", s.ca)
		}
	}
	if s.cert != "" || s.key != "" {
		pair, err := tls.LoadX509KeyPair(s.cert, s.key)
		if err != nil {
			return nil, usage("--cert and --key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// introduce says who asks, if the environment does.
func (g *globals) introduce(r *http.Request) error {
	if g.token == "" {
		return nil
	}
	name, token, ok := strings.Cut(g.token, ":")
	if !ok || name == "" || token == "" {
		return usage("%s: write NAME:TOKEN in it", tokenVariable)
	}
	r.SetBasicAuth(name, token)
	return nil
}

// refusedBecause says what to do about an operators' port that refuses.
func refusedBecause(status int) string {
	if status == http.StatusUnauthorized {
		return fmt.Sprintf(": put NAME:TOKEN of an operator in %s", tokenVariable)
	}
	return ""
}
