package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
	"github.com/kiteq/kiteq/registry"
	"github.com/kiteq/kiteq/registry/zk"
)

// Options say who the client is and where its brokers are. Registry, ZKHost or Brokers, and Group
// must be given; the rest has defaults.
type Options struct {
	// Registry is a session of the caller's with the registry. The caller runs and closes it.
	Registry registry.Registry
	// ZKHost is where a session of the client's own goes, instead of Registry: a ZooKeeper ensemble,
	// "host:port,host:port" or "zk://user:password@host:port,host:port/chroot", or "file://path" of a
	// file that lists brokers and bindings. Such a file is only read: Subscribe fails when it has not the
	// bindings.
	ZKHost string
	// Brokers are "host:port" addresses to use for every topic, instead of discovery. With neither
	// Registry nor ZKHost beside them, Subscribe publishes no bindings: the broker must know them.
	Brokers []string
	// Group is the producer or consumer group, 1 to 255 bytes without '/'. A client is one member
	// of one group.
	Group string
	// SecretKey is shown to the broker; old brokers do not look at it.
	SecretKey string
	// PreEnv makes the client a member of the group Group-pre instead and publishes no bindings: a new
	// version of a consumer runs beside the old one and gets nothing, until an operator binds that
	// group.
	PreEnv bool
	// BoundElsewhere makes Subscribe publish no bindings: they only say which handler gets what. Somebody
	// else has bound the group, for example in a registry file.
	BoundElsewhere bool
	// WarmingUp is how long the broker gives this member less than its share after it connected,
	// in whole seconds. Default 0: the full share at once. At most 1h.
	WarmingUp time.Duration
	// Topics are those that will be published to. Subscribe needs no entry here.
	Topics []string
	// Lazy makes Dial return before there is a broker, and without a registry that answers: the client
	// goes on looking, Publish waits for what it needs, and Client.Ready tells. Default: Dial waits.
	Lazy bool

	// AckTimeout is how long a broker may take to answer a publish before it is repeated under the
	// same id; the client looks every quarter of it. Default 3s, range 10ms to 1m.
	AckTimeout time.Duration
	// HeartbeatEvery is the pause between heartbeats, less up to a tenth. A connection that leaves
	// three unanswered is given up. Default 10s, range 10ms to 5m.
	HeartbeatEvery time.Duration
	// ConnectTimeout bounds dialling and handshake of one attempt. Default 5s, range 10ms to 1m.
	ConnectTimeout time.Duration
	// DrainTimeout is how long work with a broker that left the registry may go on before its
	// connection is closed. Default 10s, range 0 (use the default) to 5m.
	DrainTimeout time.Duration
	// MaxPending is how many publishes may await their answer on one connection. Default 1024,
	// range 1 to 65536.
	MaxPending int
	// Concurrency is how many handlers of this client's subscriptions run at a time. Default 32,
	// range 1 to 4096. Up to 8192 deliveries wait for one.
	Concurrency int
	// Credit is how many deliveries each broker may have unanswered with this client, so that handlers need not
	// wait for the network. Default twice Concurrency, at most 1024; range 1 to 1024. A broker that knows none
	// keeps its own limit.
	Credit int

	// CheckListener answers when a broker asks what became of a prepared message. PublishTx needs it.
	CheckListener CheckFunc
	// CheckTimeout is how long CheckListener may take before Unknown is answered. Default 5s, range
	// 10ms to 1m.
	CheckTimeout time.Duration

	// Middleware wraps every handler of Subscribe; the first one is outermost and sees a delivery first.
	Middleware []Middleware
	// Tracer follows published and delivered messages. Default nil: nobody does.
	Tracer Tracer
	// RawSnappy hands compressed bodies to the handlers as they came. Default: they are decompressed, up
	// to MaxDecompressed bytes, and those that cannot be are refused with the reason.
	RawSnappy bool

	// TLS makes the connections to brokers speak TLS: its roots and, where brokers ask for one, the client's
	// certificate. Without a ServerName the broker's certificate must be good for the address that is dialled.
	// Default nil: plain TCP.
	TLS *tls.Config
	// TLSPort is the port on which brokers speak TLS, where the registry names their plain one. Default 0:
	// the port that the registry, or Brokers, names.
	TLSPort int
	// Dialer opens the connections to brokers, under TLS if that is set. Default: TCP.
	Dialer func(ctx context.Context, addr string) (net.Conn, error)
	// Log gets connection changes at Info, and what was ignored at Debug. Default: nothing.
	Log *slog.Logger
}

// WithDefaults returns a copy with every zero field that has a default at it.
func (o Options) WithDefaults() Options {
	durations := []struct {
		field    *time.Duration
		standard time.Duration
	}{
		{&o.AckTimeout, 3 * time.Second},
		{&o.HeartbeatEvery, 10 * time.Second},
		{&o.ConnectTimeout, 5 * time.Second},
		{&o.DrainTimeout, 10 * time.Second},
		{&o.CheckTimeout, 5 * time.Second},
	}
	for _, d := range durations {
		if *d.field == 0 {
			*d.field = d.standard
		}
	}
	if o.MaxPending == 0 {
		o.MaxPending = 1024
	}
	if o.Concurrency == 0 {
		o.Concurrency = 32
	}
	if o.Credit == 0 {
		o.Credit = min(2*max(o.Concurrency, 1), protocol.MaxCredit)
	}
	if o.Dialer == nil {
		o.Dialer = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate returns every problem of the options, joined, or nil. Each is an Error of code Invalid
// that names the field, its value and what is allowed.
func (o Options) Validate() error {
	var bad []error
	problem := func(format string, args ...any) {
		bad = append(bad, kite.Errorf(kite.Invalid, "client options: "+format, args...))
	}
	if o.Registry == nil && o.ZKHost == "" && len(o.Brokers) == 0 {
		problem("no Registry, no ZKHost and no Brokers: give one, for example ZKHost \"127.0.0.1:2181\"")
	}
	if o.Registry != nil && o.ZKHost != "" {
		problem("Registry and ZKHost %q are both set: give one of them", zk.Redacted(o.ZKHost))
	}
	for _, addr := range o.Brokers {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			problem("Brokers: %q is no address: give host:port", addr)
		}
	}
	if err := kite.CheckGroup(o.member()); err != nil {
		problem("Group: %w", err)
	}
	for _, topic := range o.Topics {
		if err := kite.CheckTopic(topic); err != nil {
			problem("Topics: %w", err)
		}
	}
	for i, m := range o.Middleware {
		if m == nil {
			problem("Middleware %d of %d is nil: leave it out", i, len(o.Middleware))
		}
	}
	if o.TLSPort < 0 || o.TLSPort > 65535 || o.TLSPort != 0 && o.TLS == nil {
		problem("TLSPort %d: use a port, with TLS, or 0 for that of the address", o.TLSPort)
	}
	o.checkRanges(problem)
	return errors.Join(bad...)
}

func (o Options) checkRanges(problem func(string, ...any)) {
	const short = 10 * time.Millisecond
	durations := []struct {
		name            string
		value, min, max time.Duration
	}{
		{"WarmingUp", o.WarmingUp, 0, time.Hour},
		{"AckTimeout", o.AckTimeout, short, time.Minute},
		{"HeartbeatEvery", o.HeartbeatEvery, short, 5 * time.Minute},
		{"ConnectTimeout", o.ConnectTimeout, short, time.Minute},
		{"DrainTimeout", o.DrainTimeout, 0, 5 * time.Minute},
		{"CheckTimeout", o.CheckTimeout, short, time.Minute},
	}
	for _, d := range durations {
		if d.value < d.min || d.value > d.max {
			problem("%s %s: %s to %s are allowed", d.name, d.value, d.min, d.max)
		}
	}
	counts := []struct {
		name       string
		value, max int
	}{
		{"MaxPending", o.MaxPending, 65536},
		{"Concurrency", o.Concurrency, 4096},
		{"Credit", o.Credit, protocol.MaxCredit},
	}
	for _, n := range counts {
		if n.value < 1 || n.value > n.max {
			problem("%s %d: 1 to %d are allowed", n.name, n.value, n.max)
		}
	}
}

// preSuffix is what PreEnv appends to the group; the original client has the same.
const preSuffix = "-pre"

// member returns the group that the client is a member of.
func (o Options) member() string {
	if o.PreEnv && o.Group != "" {
		return o.Group + preSuffix
	}
	return o.Group
}

// source names where brokers come from, for error texts.
func (o Options) source() string {
	switch {
	case len(o.Brokers) > 0:
		return fmt.Sprintf("brokers %v", o.Brokers)
	case o.ZKHost != "":
		return "registry " + zk.Redacted(o.ZKHost)
	}
	if s, ok := o.Registry.(fmt.Stringer); ok {
		return "registry " + s.String()
	}
	return "the registry"
}
