package transport

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Certificates are what the broker shows clients, and what it asks of them. They are replaced while it runs:
// a new handshake has the new ones, a connection keeps its own.
type Certificates struct {
	files   TLS
	log     *slog.Logger
	current atomic.Pointer[tls.Config]

	mu   sync.Mutex
	seen [sha256.Size]byte // of the files in force
}

// lookEvery is how often the files are looked at, expiryNotice from when on the log warns of the end.
const (
	lookEvery    = 10 * time.Second
	expiryNotice = 7 * 24 * time.Hour
)

// LoadCertificates reads the files. An error names the file.
func LoadCertificates(o TLS, log *slog.Logger) (*Certificates, error) {
	c := &Certificates{files: o, log: log.With("component", "tls")}
	if _, err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Config returns the configuration for a listener: each handshake takes what is in force then.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current.Load(), nil },
	}
}

// Optional returns the configuration for a listener that looks at clients' certificates, and demands one only
// when the function says so. Without client_ca it looks at none.
func (c *Certificates) Optional(demanded func() bool) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			config := c.current.Load()
			if config.ClientCAs != nil && !demanded() {
				config = config.Clone()
				config.ClientAuth = tls.VerifyClientCertIfGiven
			}
			return config, nil
		},
	}
}

// Reload reads the files and tells whether they have changed. After an error what was in force still is.
func (c *Certificates) Reload() (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var texts [3][]byte
	hash := sha256.New()
	for i, path := range []string{c.files.Cert, c.files.Key, c.files.ClientCA} {
		if path == "" {
			continue
		}
		if texts[i], err = os.ReadFile(path); err != nil {
			return false, kite.Errorf(kite.Invalid, "tls: %w", err)
		}
		fmt.Fprintln(hash, len(texts[i]))
		hash.Write(texts[i])
	}
	sum := [sha256.Size]byte(hash.Sum(nil))
	if sum == c.seen {
		return false, nil
	}
	config, err := configOf(c.files, texts[0], texts[1], texts[2])
	if err != nil {
		return false, err
	}
	c.seen = sum
	c.current.Store(config)
	leaf := config.Certificates[0].Leaf
	c.log.Info("certificate in force", "subject", leaf.Subject.CommonName, "names", leaf.DNSNames, "until", leaf.NotAfter, "mutual", c.files.ClientCA != "")
	return true, nil
}

func configOf(files TLS, cert, key, authorities []byte) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, kite.Errorf(kite.Invalid, "tls: certificate %s with key %s: %w", files.Cert, files.Key, err)
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) {
		return nil, kite.Errorf(kite.Invalid, "tls: certificate %s is good until %v only: renew it", files.Cert, pair.Leaf.NotAfter)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if files.ClientCA != "" {
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(authorities) {
			return nil, kite.Errorf(kite.Invalid, "tls: client_ca %s has no certificate", files.ClientCA)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
		// Who resumes a session is not asked for its certificate again: an authority that was taken out
		// would still be good for a week.
		config.SessionTicketsDisabled = true
	}
	return config, nil
}

// Run reads the files again when they change, until ctx ends. Files that do not fit together may be just
// being replaced: they are tried again.
func (c *Certificates) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	told := ""
	var warned time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			_, err := c.Reload()
			switch {
			case err == nil:
				told = ""
			case err.Error() != told:
				told = err.Error()
				c.log.Warn("the certificate stays as it is", "err", err)
			}
			if until := c.current.Load().Certificates[0].Leaf.NotAfter; until.Sub(now) < expiryNotice && now.Sub(warned) > 24*time.Hour {
				warned = now
				c.log.Warn("the certificate ends soon: renew it, the file is read again by itself", "until", until)
			}
		}
	}
}
