package memory

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/kiteq/kiteq/internal/kite"
)

const (
	defaultBytes    kite.ByteSize = 256 << 20
	minBytes        kite.ByteSize = 4 << 10
	defaultMessages               = 500_000
)

// Options of a Journal. None of them can be changed while it is in use.
type Options struct {
	// MaxBytes is how much the records may occupy, bytes, with recordBytes for each record itself:
	// 4 KiB or more, default 256 MiB.
	MaxBytes kite.ByteSize
	// MaxMessages is how many messages, committed or prepared, may be kept: 1 or more, default 500,000.
	MaxMessages int
}

// WithDefaults returns o with every zero field at its default.
func (o Options) WithDefaults() Options {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultBytes
	}
	if o.MaxMessages == 0 {
		o.MaxMessages = defaultMessages
	}
	return o
}

// Validate returns every problem of o, or nil.
func (o Options) Validate() error {
	var bad []error
	if o.MaxBytes < minBytes {
		bad = append(bad, fmt.Errorf("memory store of %s: use %s or more", o.MaxBytes, minBytes))
	}
	if o.MaxMessages < 1 {
		bad = append(bad, fmt.Errorf("memory store of %d messages: use 1 or more", o.MaxMessages))
	}
	return errors.Join(bad...)
}

// ParseURL reads memory://.?initcap=&maxcap= as the original KiteQ wrote it, or memory:// alone. Its
// shipped files leave out the dot, or the dot and the question mark: that is understood, too. maxcap is
// MaxMessages. initcap means nothing here and comes back as a note to be logged. Unknown parameters are
// errors, and so are bad values, all at once.
func ParseURL(raw string) (o Options, notes []string, err error) {
	rest, ok := strings.CutPrefix(raw, "memory://")
	path, query, asked := strings.Cut(rest, "?")
	if !asked && strings.Contains(path, "=") {
		path, query = "", path
	}
	if !ok || path != "" && path != "." {
		return o, nil, kite.Errorf(kite.Invalid, "store %q: use memory://.?maxcap=500000", raw)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return o, nil, kite.Errorf(kite.Invalid, "store %q: %w", raw, err)
	}
	var bad []error
	for _, key := range slices.Sorted(maps.Keys(values)) {
		value := values.Get(key)
		switch key {
		case "initcap":
			notes = append(notes, fmt.Sprintf("store parameter initcap=%s has no meaning any more", value))
		case "maxcap":
			if value == "" {
				continue
			}
			if o.MaxMessages, err = strconv.Atoi(value); err != nil || o.MaxMessages < 1 {
				bad = append(bad, fmt.Errorf("maxcap %q is not a number of messages from 1 on", value))
			}
		default:
			bad = append(bad, fmt.Errorf("parameter %q is unknown; use maxcap", key))
		}
	}
	if err := errors.Join(bad...); err != nil {
		return Options{}, nil, kite.Errorf(kite.Invalid, "store %q: %w", raw, err)
	}
	return o, notes, nil
}
