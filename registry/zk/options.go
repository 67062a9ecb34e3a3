package zk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/kiteq/kiteq/internal/kite"
)

// Options says where ZooKeeper is and how patient to be.
type Options struct {
	// Hosts are the servers, "host:port" each, at least one. Names are looked up when a handle is
	// opened, thus again after three session timeouts without a session.
	Hosts []string
	// Root is the chroot: a path that goes before every znode, made when missing. Default "": none.
	Root string
	// Auth is "user:password" of the digest scheme, for servers whose znodes are protected. Nodes are
	// made open to everyone all the same, unless Protect is set. Default "": none.
	Auth string
	// Protect makes nodes that only Auth may change, and closes those that brokers need and that are open; existing
	// clients go on binding and publishing (acl.go has who may do what). It needs Auth. Default false.
	Protect bool
	// SessionTimeout is how long the server keeps the session of a silent broker. The server may grant
	// another time. Default 30s, from 100ms to 10m.
	SessionTimeout time.Duration
	// ConnectTimeout bounds one TCP connect. Default 1s, from 10ms to 1m.
	ConnectTimeout time.Duration
	// Spacing is the pause between the nodes of two topics, since old Go clients lose events of a
	// burst. It is shorter when all pauses together would be longer than 5s. Default 20ms, at most 10s,
	// below 0 none.
	Spacing time.Duration
	// GapOnLeftover is the time from the removal of a broker's node to its new creation. When it is
	// shorter clients may take both for no change and keep a dead connection. Default 1.5s, at most
	// 1m, below 0 none.
	GapOnLeftover time.Duration
	// Dial opens a connection, for instance one with TLS. Default: TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Form is what ParseURL reads, for messages and help texts.
const Form = "zk://[user:password@]host:port,host:port[/chroot][?timeout=30s&acl=digest]"

const (
	zkScheme    = "zk://"
	defaultPort = "2181"
)

// WithDefaults returns the options with every zero value replaced.
func (o Options) WithDefaults() Options {
	for _, d := range []struct {
		value *time.Duration
		is    time.Duration
	}{
		{&o.SessionTimeout, 30 * time.Second},
		{&o.ConnectTimeout, time.Second},
		{&o.Spacing, 20 * time.Millisecond},
		{&o.GapOnLeftover, 1500 * time.Millisecond},
	} {
		if *d.value == 0 {
			*d.value = d.is
		}
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	return o
}

// Validate returns every problem, joined, each naming the value and what is allowed.
func (o Options) Validate() error {
	var bad []error
	refuse := func(format string, args ...any) {
		bad = append(bad, kite.Errorf(kite.Invalid, format, args...))
	}
	if len(o.Hosts) == 0 {
		refuse("no ZooKeeper host: give at least one host:port")
	}
	for _, host := range o.Hosts {
		if err := checkHost(host); err != nil {
			bad = append(bad, err)
		}
	}
	if err := checkRoot(o.Root); err != nil {
		bad = append(bad, err)
	}
	if user, _, ok := strings.Cut(o.Auth, ":"); o.Auth != "" && (!ok || user == "") {
		refuse("ZooKeeper auth: write it as user:password") // without the value, which is a secret
	}
	if o.Protect && o.Auth == "" {
		refuse("ZooKeeper acl=digest: it needs user:password@ before the hosts")
	}
	for _, d := range []struct {
		name                 string
		value, lowest, limit time.Duration
	}{
		{"session timeout", o.SessionTimeout, 100 * time.Millisecond, 10 * time.Minute},
		{"connect timeout", o.ConnectTimeout, 10 * time.Millisecond, time.Minute},
		{"spacing", max(o.Spacing, 0), 0, 10 * time.Second},
		{"gap on leftover", max(o.GapOnLeftover, 0), 0, time.Minute},
	} {
		if d.value < d.lowest || d.value > d.limit {
			refuse("ZooKeeper %s %v: from %v to %v is allowed", d.name, d.value, d.lowest, d.limit)
		}
	}
	return errors.Join(bad...)
}

// ParseURL reads Form, with or without "zk://". A host without a port has 2181. In user and password
// '/', '?', '@', '%' and, in the user, ':' are percent-encoded. What the text does not say is left at
// zero. No error shows the password.
func ParseURL(text string) (Options, error) {
	refuse := func(format string, args ...any) (Options, error) {
		return Options{}, kite.Errorf(kite.Invalid, "ZooKeeper address %q: %w: write %s", Redacted(text), fmt.Errorf(format, args...), Form)
	}
	rest, hasScheme := strings.CutPrefix(strings.TrimSpace(text), zkScheme)
	if scheme, _, other := strings.Cut(rest, "://"); other && !hasScheme && !strings.ContainsAny(scheme, ":@") {
		return refuse("scheme %q is not zk", scheme)
	}
	var auth string
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		var err error
		if auth, err = parseAuth(rest[:at]); err != nil {
			return refuse("%w", err)
		}
		rest = rest[at+1:]
	}
	rest, query, _ := strings.Cut(rest, "?")
	hosts, root, hasRoot := strings.Cut(rest, "/")
	o := Options{Auth: auth}
	for _, host := range strings.Split(hosts, ",") {
		host = strings.TrimSpace(host)
		if host == "" {
			return refuse("a host is empty")
		}
		host = withPort(host)
		if err := checkHost(host); err != nil {
			return refuse("%w", err)
		}
		o.Hosts = append(o.Hosts, host)
	}
	if hasRoot && root != "" {
		o.Root = "/" + root
		if err := checkRoot(o.Root); err != nil {
			return refuse("%w", err)
		}
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return refuse("query %q: %w", query, err)
	}
	for key, value := range values {
		switch key {
		case "timeout":
			if o.SessionTimeout, err = time.ParseDuration(value[0]); err != nil || o.SessionTimeout <= 0 {
				return refuse("timeout %q is no duration like 30s", value[0])
			}
		case "acl":
			if o.Protect = value[0] == "digest"; !o.Protect && value[0] != "open" {
				return refuse("acl %q is not open or digest", value[0])
			}
			if o.Protect && o.Auth == "" {
				return refuse("acl=digest needs user:password@ before the hosts")
			}
		default:
			return refuse("parameter %q is not known, only timeout and acl are", key)
		}
	}
	return o, nil
}

// parseAuth decodes what is before the last '@'. Its errors show nothing of it.
func parseAuth(text string) (auth string, err error) {
	if strings.ContainsAny(text, "/?@") {
		return "", errors.New("what is before the last '@' is taken for user:password: write '/', '?' and '@' in it as %2F, %3F and %40, or leave the '@' out")
	}
	user, password, ok := strings.Cut(text, ":")
	if !ok || user == "" {
		return "", errors.New("before '@' there is no user:password")
	}
	user, bad := url.PathUnescape(user)
	password, worse := url.PathUnescape(password)
	switch {
	case bad != nil || worse != nil:
		return "", errors.New("in user or password a '%' is not followed by two hexadecimal digits: write '%' as %25")
	case strings.Contains(user, ":"):
		return "", errors.New("the user contains a ':', which ZooKeeper's digest scheme cannot tell from the one before the password")
	}
	return user + ":" + password, nil
}

// Redacted returns an address, right or wrong, with "***" instead of its password, for messages and logs.
// The path of a registry file has none.
func Redacted(text string) string {
	at := strings.LastIndexByte(text, '@')
	if at < 0 || strings.HasPrefix(text, "file://") {
		return text
	}
	before, scheme := strings.TrimSpace(text[:at]), ""
	if rest, ok := strings.CutPrefix(before, zkScheme); ok {
		before, scheme = rest, zkScheme
	}
	user, _, ok := strings.Cut(before, ":")
	if !ok {
		return scheme + "***" + text[at:] // it may be the password alone
	}
	return scheme + user + ":***" + text[at:]
}

func (o Options) acls() acls {
	if !o.Protect {
		return acls{}
	}
	return acls{auth: o.Auth}
}

// String returns where ZooKeeper is, as an address, with "***" instead of the password.
func (o Options) String() string {
	auth := ""
	if o.Auth != "" {
		auth = o.Auth + "@"
	}
	return Redacted(zkScheme+auth+strings.Join(o.Hosts, ",")) + o.Root
}

// LogValue implements slog.LogValuer: no log shows the password.
func (o Options) LogValue() slog.Value { return slog.StringValue(o.String()) }

// withPort adds the default port when host has none.
func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	if bare := strings.Trim(host, "[]"); bare == host && !strings.Contains(host, ":") || host == "["+bare+"]" {
		return net.JoinHostPort(bare, defaultPort)
	}
	return host
}

func checkHost(hostport string) error {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return kite.Errorf(kite.Invalid, "ZooKeeper host %q is not host:port", hostport)
	}
	if host == "" || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f || unicode.IsSpace(r) }) {
		return kite.Errorf(kite.Invalid, "ZooKeeper host %q has no usable name", hostport)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return kite.Errorf(kite.Invalid, "ZooKeeper host %q: port %q is not from 1 to 65535", hostport, port)
	}
	return nil
}

func checkRoot(root string) error {
	if root == "" {
		return nil
	}
	if root[0] != '/' {
		return kite.Errorf(kite.Invalid, "chroot %q does not begin with '/'", root)
	}
	for _, name := range strings.Split(root[1:], "/") {
		if name == "" || name == "." || name == ".." || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
			return kite.Errorf(kite.Invalid, "chroot %q: %q is no name of a znode", root, name)
		}
	}
	return nil
}
