package webhook

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// maxGroups bounds the groups with a hook: each has Parallel goroutines.
const maxGroups = 256

// Options of the hooks.
type Options struct {
	// URLs says by publishing group where its hook is: http or https. A user and a password in it are sent as
	// basic authentication, and nothing of it but host and port is ever shown. Default none, at most 256 groups.
	URLs map[string]string `toml:"urls" secret:"yes"`
	// Timeout bounds one request, from the connecting to the last byte of the answer. Default 5s, 100ms to 1m.
	Timeout time.Duration `toml:"timeout"`
	// Parallel is how many requests a hook gets at a time. Default 4, 1 to 64.
	Parallel int `toml:"parallel"`

	// First and Longest are the pauses of a hook that does not answer: from First on they double up to Longest, as
	// those between two checks do, and are the same ones.
	First   time.Duration `toml:"-"`
	Longest time.Duration `toml:"-"`
}

// WithDefaults returns the options with the default in place of every zero.
func (o Options) WithDefaults() Options {
	if o.URLs == nil {
		o.URLs = map[string]string{}
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	return o
}

// Validate returns every problem, joined. It shows no URL: there may be a password in it.
func (o Options) Validate() error {
	var problems kite.Problems
	problems.Check(len(o.URLs) <= maxGroups, "webhook urls of %d groups: at most %d are allowed", len(o.URLs), maxGroups)
	problems.Check(o.Timeout >= 100*time.Millisecond && o.Timeout <= time.Minute, "webhook timeout %v: use 100ms to 1m", o.Timeout)
	problems.Check(o.Parallel >= 1 && o.Parallel <= 64, "webhook parallel %d: use 1 to 64", o.Parallel)
	for _, group := range slices.Sorted(maps.Keys(o.URLs)) {
		if err := kite.CheckGroup(group); err != nil {
			problems.Check(false, "webhook urls: %v", err)
			continue
		}
		_, err := parse(o.URLs[group])
		problems.Check(err == nil, "webhook url of group %q: %v", group, err)
	}
	return problems.Err()
}

// parse reads a hook's URL. Its error shows nothing of it.
func parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("write http://host:port/path or https://host/path")
	}
	return u, nil
}
