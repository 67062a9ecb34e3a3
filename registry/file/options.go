package file

import (
	"errors"
	"strings"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// MaxSize is the largest file that is read, bytes.
const MaxSize = 16 << 20

// maxEntries bounds what a file lists, as pairs of broker and topic and as bindings of one group each:
// with aliases a small file can name very many.
const maxEntries = 100_000

// Options says which file to read and how often.
type Options struct {
	// Path is the file, relative to the working directory or absolute. It has no default.
	Path string
	// ReloadEvery is the time between two readings, give or take a quarter. Default 1m, as in the
	// original broker, from 100ms to 24h; below 0 only Reload reads again.
	ReloadEvery time.Duration
}

// Form is what ParseURL reads, for messages and help texts.
const Form = "file://path, as in file://conf/registry.yaml or file:///etc/kiteq/registry.yaml"

const scheme = "file://"

// ParseURL reads Form: everything after the scheme is the path, without any decoding.
func ParseURL(text string) (Options, error) {
	path, ok := strings.CutPrefix(strings.TrimSpace(text), scheme)
	if !ok {
		return Options{}, kite.Errorf(kite.Invalid, "registry %q does not begin with %q: write %s", text, scheme, Form)
	}
	if err := checkPath(path); err != nil {
		return Options{}, kite.Errorf(kite.Invalid, "registry %q: %w: write %s", text, err, Form)
	}
	return Options{Path: path}, nil
}

// WithDefaults returns the options with every zero value replaced.
func (o Options) WithDefaults() Options {
	if o.ReloadEvery == 0 {
		o.ReloadEvery = time.Minute
	}
	return o
}

// Validate returns every problem, joined, each naming the value and what is allowed.
func (o Options) Validate() error {
	var bad []error
	if err := checkPath(o.Path); err != nil {
		bad = append(bad, err)
	}
	const lowest, limit = 100 * time.Millisecond, 24 * time.Hour
	if o.ReloadEvery >= 0 && (o.ReloadEvery < lowest || o.ReloadEvery > limit) {
		bad = append(bad, kite.Errorf(kite.Invalid, "reload every %v: from %v to %v is allowed, and below 0 for never", o.ReloadEvery, lowest, limit))
	}
	return errors.Join(bad...)
}

func checkPath(path string) error {
	switch {
	case path == "":
		return kite.Errorf(kite.Invalid, "no path of a registry file")
	case strings.ContainsRune(path, 0):
		return kite.Errorf(kite.Invalid, "path %q has a zero byte", path)
	}
	return nil
}
