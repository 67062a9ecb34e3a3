package mmap

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Sync says what Journal.Sync does: SyncAlways, SyncOS or a duration for SyncEvery.
type Sync time.Duration

// The ways to sync.
const (
	// SyncAlways calls fdatasync in every Sync: class synced.
	SyncAlways Sync = 0
	// SyncOS leaves the time of writing to the operating system: class written.
	SyncOS Sync = -1
)

// SyncEvery calls fdatasync in the background (Journal.Run) once per d, at least 1ms: class written.
func SyncEvery(d time.Duration) Sync { return Sync(d) }

// ParseSync reads "always", "os" or a duration such as "200ms".
func ParseSync(text string) (Sync, error) {
	switch text {
	case "always":
		return SyncAlways, nil
	case "os":
		return SyncOS, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Millisecond {
		return 0, fmt.Errorf("sync %q: use always, os or a duration of at least 1ms", text)
	}
	return SyncEvery(d), nil
}

func (s Sync) String() string {
	switch s {
	case SyncAlways:
		return "always"
	case SyncOS:
		return "os"
	}
	return time.Duration(s).String()
}

// MarshalText makes Sync a text in configuration files.
func (s Sync) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what ParseSync reads.
func (s *Sync) UnmarshalText(text []byte) error {
	parsed, err := ParseSync(string(text))
	if err == nil {
		*s = parsed
	}
	return err
}

const (
	defaultSegment kite.ByteSize = 256 << 20
	minSegment     kite.ByteSize = 4 << 10
	maxSegment     kite.ByteSize = 2 << 30
	defaultBatch   kite.ByteSize = 64 << 20
	maxBatch       kite.ByteSize = 1 << 30
)

// Options of a Journal. None of them can be changed while it is open.
type Options struct {
	// Dir is the directory of the journal; it is created when absent. No default.
	Dir string
	// Sync says when appended bytes are forced to the disk. Default SyncAlways.
	Sync Sync
	// SegmentBytes is the size of a segment file, bytes: 4 KiB to 2 GiB, default 256 MiB. It may
	// differ from one Open to the next; existing segments keep their size.
	SegmentBytes kite.ByteSize
	// MaxBatchBytes is the largest batch that Append takes, encoded bytes: 4 KiB to 1 GiB, default
	// 64 MiB. A batch over SegmentBytes gets a segment of its own size.
	MaxBatchBytes kite.ByteSize
	// FS replaces the operating system's files, for tests. Default: the operating system.
	FS FS `toml:"-" json:"-"`
}

// WithDefaults returns o with every zero field at its default.
func (o Options) WithDefaults() Options {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegment
	}
	if o.MaxBatchBytes == 0 {
		o.MaxBatchBytes = defaultBatch
	}
	if o.FS == nil {
		o.FS = osFS{}
	}
	return o
}

// Validate returns every problem of o, or nil.
func (o Options) Validate() error {
	var bad []error
	if o.Dir == "" {
		bad = append(bad, errors.New("store directory: empty; name one, as in mmap:///var/lib/kiteq"))
	}
	if o.Sync < SyncOS || o.Sync > 0 && time.Duration(o.Sync) < time.Millisecond {
		bad = append(bad, fmt.Errorf("store sync %d: use always, os or a duration of at least 1ms", int64(o.Sync)))
	}
	if o.SegmentBytes < minSegment || o.SegmentBytes > maxSegment {
		bad = append(bad, fmt.Errorf("store segment of %s: use %s to %s", o.SegmentBytes, minSegment, maxSegment))
	}
	if o.MaxBatchBytes < minSegment || o.MaxBatchBytes > maxBatch {
		bad = append(bad, fmt.Errorf("store batch of %s: use %s to %s", o.MaxBatchBytes, minSegment, maxBatch))
	}
	return errors.Join(bad...)
}

// ParseURL reads mmap://path?sync=always|os|200ms&segment=256MiB, or file:// as the original KiteQ
// wrote it. Its parameters cap, checkSeconds and flushBatchSize mean nothing here: each comes back
// as a note to be logged. Unknown parameters are errors.
func ParseURL(raw string) (o Options, notes []string, err error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || scheme != "mmap" && scheme != "file" {
		return o, nil, kite.Errorf(kite.Invalid, "store %q: use mmap://path or file://path", raw)
	}
	path, query, _ := strings.Cut(rest, "?")
	if path == "" {
		return o, nil, kite.Errorf(kite.Invalid, "store %q: the path is empty", raw)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return o, nil, kite.Errorf(kite.Invalid, "store %q: %w", raw, err)
	}
	o.Dir = filepath.Clean(path)
	var bad []error
	for key := range values {
		value := values.Get(key)
		switch key {
		case "sync":
			o.Sync, err = ParseSync(value)
		case "segment":
			o.SegmentBytes, err = kite.ParseByteSize(value)
		case "cap", "checkSeconds", "flushBatchSize":
			notes = append(notes, fmt.Sprintf("store parameter %s=%s has no meaning any more", key, value))
			err = nil
		default:
			err = fmt.Errorf("parameter %q is unknown; use sync and segment", key)
		}
		if err != nil {
			bad = append(bad, err)
		}
	}
	if err := errors.Join(bad...); err != nil {
		return Options{}, nil, kite.Errorf(kite.Invalid, "store %q: %w", raw, err)
	}
	if err := o.WithDefaults().Validate(); err != nil {
		return Options{}, nil, kite.Errorf(kite.Invalid, "store %q: %w", raw, err)
	}
	return o, notes, nil
}
