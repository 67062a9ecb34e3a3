package mysql

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Secret is text that is never printed.
type Secret string

// String hides the text.
func (Secret) String() string { return "xxxxx" }

// GoString hides the text.
func (s Secret) GoString() string { return s.String() }

// Options of a Database. None of them can be changed while it is in use.
type Options struct {
	// Master is the server that is written to, "host:port". No default.
	Master string
	// Replica is a server of the same data that Read asks first, "host:port". Default "": none.
	Replica string
	// DB is the database on it. It is made when it is not there and the user may. Default "kiteq".
	DB string
	// User and Password are how to log in. Default "root" without a password.
	User     string
	Password Secret
	// TLS is "false", "true", "skip-verify" or "preferred". Default "false".
	TLS string
	// Shards is over how many tables the messages are spread by their topic: 1 to 16. It is settled when the
	// tables are made; default 4, or what they have.
	Shards int
	// MaxConn is how many connections readers may have to one server: 2 or more, default 20; half of them are
	// kept when idle. Each journal has one more, for writing.
	MaxConn int
	// Timeout is how long connecting may take, 1ms or more, default 5s.
	Timeout time.Duration
	// ReadTimeout is how long an answer may take: 1s or more, default 20s.
	ReadTimeout time.Duration
	// WriteTimeout is how long sending a statement may take: 1s or more, default 20s.
	WriteTimeout time.Duration
	// Broker is the name under which a broker has its journals. Default: the address that it advertises.
	Broker string
	// TakeoverAfter is for how long a broker must be gone before another takes its journals: 1s or more,
	// default 30s.
	TakeoverAfter time.Duration
	// MaxMessage is the largest message that will be appended, bytes: a server that does not take statements of
	// twice as much is refused. Default kite.MaxPayload.
	MaxMessage kite.ByteSize

	unitRows  int           // records of a unit of Trim; tests have small ones
	tailBytes kite.ByteSize // what a journal keeps of its newest records in memory; tests have little
}

const (
	defaultPort   = "3306"
	defaultShards = 4
	maxShards     = 16
	unitRows      = 4096
	tailBytes     = 32 << 20
)

// WithDefaults returns o with every zero field at its default, but Shards: that may be the database's.
func (o Options) WithDefaults() Options {
	setDefault(&o.DB, "kiteq")
	setDefault(&o.User, "root")
	setDefault(&o.TLS, "false")
	setDefault(&o.MaxConn, 20)
	setDefault(&o.Timeout, 5*time.Second)
	setDefault(&o.ReadTimeout, 20*time.Second)
	setDefault(&o.WriteTimeout, 20*time.Second)
	setDefault(&o.TakeoverAfter, 30*time.Second)
	setDefault(&o.MaxMessage, kite.MaxPayload)
	setDefault(&o.unitRows, unitRows)
	setDefault(&o.tailBytes, tailBytes)
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate returns every problem of o, or nil.
func (o Options) Validate() error {
	var bad []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Errorf(format, args...))
		}
	}
	check(validHost(o.Master), "server %q: write host:port", o.Master)
	check(o.Replica == "" || validHost(o.Replica), "replica %q: write host:port", o.Replica)
	check(o.DB != "" && len(o.DB) <= 64 && !strings.ContainsAny(o.DB, "`/\\.\x00 "), "db %q: 1 to 64 letters, digits, '_' and '-'", o.DB)
	check(o.User != "", "the user is empty")
	check(slices.Contains([]string{"false", "true", "skip-verify", "preferred"}, o.TLS), "tls %q: use true, false, skip-verify or preferred", o.TLS)
	check(o.Shards >= 0 && o.Shards <= maxShards, "shardnum %d: use 1 to %d", o.Shards, maxShards)
	check(o.MaxConn >= 2, "maxConn %d: use 2 or more", o.MaxConn)
	check(o.Timeout >= time.Millisecond, "timeout %v: use 1ms or more", o.Timeout)
	check(o.ReadTimeout >= time.Second, "readTimeout %v: use 1s or more", o.ReadTimeout)
	check(o.WriteTimeout >= time.Second, "writeTimeout %v: use 1s or more", o.WriteTimeout)
	check(o.TakeoverAfter >= time.Second, "takeover_after %v: use 1s or more", o.TakeoverAfter)
	check(len(o.Broker) <= kite.MaxName, "broker of %d bytes: at most %d are allowed", len(o.Broker), kite.MaxName)
	return errors.Join(bad...)
}

func validHost(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" {
		return false
	}
	n, err := strconv.Atoi(port)
	return err == nil && n > 0 && n < 1<<16
}

// Redact returns the URL of a store without its password.
func Redact(raw string) string {
	rest, ok := strings.CutPrefix(raw, "mysql:")
	if !ok {
		return raw
	}
	place, query, _ := strings.Cut(strings.TrimLeft(rest, "/"), "?")
	if i := strings.LastIndexByte(place, '@'); i >= 0 {
		user, _, _ := strings.Cut(place[:i], ":")
		place = user + place[i:]
	}
	shown := "mysql://" + place
	for i, pair := range slices.DeleteFunc(strings.Split(query, "&"), func(s string) bool { return s == "" || strings.HasPrefix(s, "password=") }) {
		shown += string("?&"[min(i, 1)]) + pair
	}
	return shown
}

// keys are the parameters of a URL. Those of the original KiteQ have its spelling.
var keys = map[string]func(o *Options, value string) error{
	"db":             text(func(o *Options) *string { return &o.DB }),
	"username":       text(func(o *Options) *string { return &o.User }),
	"password":       func(o *Options, v string) error { o.Password = Secret(v); return nil },
	"shardnum":       number(func(o *Options) *int { return &o.Shards }),
	"maxConn":        number(func(o *Options) *int { return &o.MaxConn }),
	"broker":         text(func(o *Options) *string { return &o.Broker }),
	"tls":            text(func(o *Options) *string { return &o.TLS }),
	"timeout":        duration(func(o *Options) *time.Duration { return &o.Timeout }),
	"readTimeout":    duration(func(o *Options) *time.Duration { return &o.ReadTimeout }),
	"writeTimeout":   duration(func(o *Options) *time.Duration { return &o.WriteTimeout }),
	"takeover_after": duration(func(o *Options) *time.Duration { return &o.TakeoverAfter }),
}

func text(field func(*Options) *string) func(*Options, string) error {
	return func(o *Options, v string) error { *field(o) = v; return nil }
}

func number(field func(*Options) *int) func(*Options, string) error {
	return func(o *Options, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return errors.New("write a number from 1 on")
		}
		*field(o) = n
		return nil
	}
}

func duration(field func(*Options) *time.Duration) func(*Options, string) error {
	return func(o *Options, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return errors.New("write a time as 5s or 500ms")
		}
		*field(o) = d
		return nil
	}
}

// ParseURL reads mysql://user:password@master:3306,replica:3306?db=kiteq&... with the parameters of keys. What
// the original KiteQ's batchUpdateSize, batchDelSize and flushSeconds said means nothing here: each comes back
// as a note to be logged. Unknown parameters are errors. No error has the password in it.
func ParseURL(raw string) (o Options, notes []string, err error) {
	refuse := func(format string, args ...any) (Options, []string, error) {
		return Options{}, nil, kite.Errorf(kite.Invalid, "store %q: %w", Redact(raw), fmt.Errorf(format, args...))
	}
	rest, ok := strings.CutPrefix(raw, "mysql://")
	if !ok {
		return refuse("use mysql://user:password@host:3306?db=kiteq")
	}
	place, query, _ := strings.Cut(rest, "?")
	if i := strings.LastIndexByte(place, '@'); i >= 0 {
		user, password, _ := strings.Cut(place[:i], ":")
		name, err1 := url.PathUnescape(user)
		secret, err2 := url.PathUnescape(password)
		if err1 != nil || err2 != nil {
			return refuse("user or password has a %% that is no escape: write it as %%25")
		}
		o.User, o.Password, place = name, Secret(secret), place[i+1:]
	}
	hosts := strings.Split(strings.TrimSuffix(place, "/"), ",")
	if len(hosts) > 2 {
		return refuse("%d servers: name the master and at most one replica", len(hosts))
	}
	o.Master = withPort(hosts[0])
	if len(hosts) == 2 {
		o.Replica = withPort(hosts[1])
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return refuse("its parameters cannot be read") // the error would show them
	}
	var bad []error
	for _, key := range slices.Sorted(maps.Keys(values)) {
		value := values.Get(key)
		switch set := keys[key]; {
		case key == "batchUpdateSize" || key == "batchDelSize" || key == "flushSeconds":
			notes = append(notes, fmt.Sprintf("store parameter %s=%s has no meaning any more", key, value))
		case set == nil:
			bad = append(bad, fmt.Errorf("parameter %q is unknown; use %s", key, strings.Join(slices.Sorted(maps.Keys(keys)), ", ")))
		case value != "":
			if err := set(&o, value); err != nil {
				bad = append(bad, fmt.Errorf("%s %q: %w", key, value, err))
			}
		}
	}
	if err := errors.Join(append(bad, o.WithDefaults().Validate())...); err != nil {
		return refuse("%w", err)
	}
	return o, notes, nil
}

func withPort(host string) string {
	if host == "" {
		return ""
	}
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), defaultPort)
}
