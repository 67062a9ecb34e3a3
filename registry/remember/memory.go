package remember

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

// The file is two lines: a JSON document, and the CRC-32C of the first line without its newline.
//
//	{"version":1,"topics":{"trade":{"seen_ms":1795232955769,"groups":[{"group":"s-a","since_ms":...,"bindings":[...]}]}}}
//	crc32c 1a2b3c4d
//
// The second line is there only when the first is complete, and tells of changed bytes. It is replaced
// whole: written beside, synced, renamed, and the directory synced. A crash leaves the old file or the
// new one; what it may leave beside is overwritten the next time and never read.

const (
	version = 1
	// maxSize is the largest file that is read, bytes.
	maxSize = 64 << 20
	// besideSuffix names the file while it is written.
	besideSuffix = ".new"
)

// memory is what was last seen of each topic.
type memory map[string]remembered

// remembered is what was bound on one topic.
type remembered struct {
	SeenMs int64         `json:"seen_ms"` // when the picture came, Unix ms
	Groups []groupMemory `json:"groups"`
}

type groupMemory struct {
	Group    string         `json:"group"`
	SinceMs  int64          `json:"since_ms"`
	Bindings []kite.Binding `json:"bindings,omitempty"`
	Bad      []string       `json:"bad,omitempty"` // the texts of what was left out
}

type document struct {
	Version int    `json:"version"`
	Topics  memory `json:"topics"`
}

// note takes a picture that came at the time into the memory.
func (m memory) note(picture registry.Bindings, at time.Time) {
	for topic, groups := range picture {
		seen := remembered{SeenMs: kite.UnixMs(at), Groups: make([]groupMemory, 0, len(groups))}
		for _, g := range groups {
			kept := groupMemory{Group: g.Group, SinceMs: g.SinceMs, Bindings: g.Bindings}
			for _, bad := range g.Bad {
				kept.Bad = append(kept.Bad, bad.Error())
			}
			seen.Groups = append(seen.Groups, kept)
		}
		m[topic] = seen
	}
}

// picture returns what is remembered of the topics, with every one of them, and when the oldest part of
// it was seen. Unknown are the topics that are not in the memory.
func (m memory) picture(topics []string) (picture registry.Bindings, oldest time.Time, unknown []string) {
	picture = registry.Bindings{}
	for _, topic := range topics {
		seen, found := m[topic]
		picture[topic] = []registry.GroupBindings{}
		if !found {
			unknown = append(unknown, topic)
			continue
		}
		if at := time.UnixMilli(seen.SeenMs); oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
		for _, kept := range seen.Groups {
			g := registry.GroupBindings{Group: kept.Group, SinceMs: kept.SinceMs, Bindings: kept.Bindings}
			for _, bad := range kept.Bad {
				g.Bad = append(g.Bad, kite.Errorf(kite.Invalid, "%s", bad))
			}
			picture[topic] = append(picture[topic], g)
		}
	}
	return picture, oldest, unknown
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (m memory) encode() ([]byte, error) {
	line, err := json.Marshal(document{version, m})
	if err != nil {
		return nil, fmt.Errorf("encode the bindings of %d topics: %w", len(m), err)
	}
	return fmt.Appendf(line, "\ncrc32c %08x\n", crc32.Checksum(line, castagnoli)), nil
}

// decode reads what encode has written. Everything else is an error, and nothing of it is believed.
func decode(data []byte) (memory, error) {
	line, sum, found := bytes.Cut(data, []byte("\n"))
	if !found {
		return nil, errors.New("the line with the checksum is missing")
	}
	if want := fmt.Sprintf("crc32c %08x\n", crc32.Checksum(line, castagnoli)); string(sum) != want {
		return nil, fmt.Errorf("the second line is %.32q, want %q by the first", sum, want)
	}
	var d document
	if err := json.Unmarshal(line, &d); err != nil {
		return nil, fmt.Errorf("the first line: %w", err)
	}
	if d.Version != version {
		return nil, fmt.Errorf("version %d was written by another broker, this one reads %d", d.Version, version)
	}
	for topic, seen := range d.Topics {
		if err := seen.check(topic); err != nil {
			return nil, fmt.Errorf("topic %.64q: %w", topic, err)
		}
	}
	return d.Topics, nil
}

// check holds what the receiver of a picture relies on.
func (s remembered) check(topic string) error {
	if err := kite.CheckTopic(topic); err != nil {
		return err
	}
	for _, g := range s.Groups {
		if err := kite.CheckGroup(g.Group); err != nil {
			return err
		}
		for _, b := range g.Bindings {
			if err := b.Validate(); err != nil {
				return err
			}
			if b.Topic != topic || b.Group != g.Group {
				return fmt.Errorf("a binding of group %q to topic %q is among those of group %q", b.Group, b.Topic, g.Group)
			}
		}
	}
	if !slices.IsSortedFunc(s.Groups, func(a, b groupMemory) int { return strings.Compare(a.Group, b.Group) }) {
		return errors.New("the groups are not sorted")
	}
	return nil
}

// load reads the file. One that is not there is empty.
func load(path string) (memory, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return memory{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSize {
		return nil, fmt.Errorf("%s is larger than %d MiB", path, maxSize>>20)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	m, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// save replaces the file.
func (m memory) save(path string) error {
	data, err := m.encode()
	if err != nil {
		return err
	}
	if err := writeBeside(path, data); err != nil {
		return err
	}
	return putInPlace(path)
}

// writeBeside writes what will be the file, and makes it durable.
func writeBeside(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(path+besideSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// putInPlace makes what was written beside the file.
func putInPlace(path string) error {
	if err := os.Rename(path+besideSuffix, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
