package remember

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var seenAt = time.UnixMilli(1_795_232_955_769)

// some is a picture with everything that can be in one.
func some() registry.Bindings {
	limited := kite.Regx("s-a", "trade", `^pay-"é"\d+$`)
	limited.Watermark, limited.Durable = 7, false
	return registry.Bindings{
		"trade": {
			{Group: "s-a", Bindings: []kite.Binding{limited, kite.Direct("s-a", "trade", "x")}, SinceMs: 17},
			{Group: "s-b", Bindings: []kite.Binding{kite.Fanout("s-b", "trade")}, Bad: []error{errors.New("element 1: bindType 9")}},
		},
		"message": {},
	}
}

func remembering(p registry.Bindings) memory {
	m := memory{}
	m.note(p, seenAt)
	return m
}

// errorTexts compares errors by what they say.
var errorTexts = cmp.Comparer(func(a, b error) bool { return a.Error() == b.Error() })

func TestMemory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "not", "there", "yet", "bindings.json")
	if m, err := load(path); err != nil || len(m) != 0 {
		t.Fatalf("a missing file: %v, %v", m, err)
	}
	if err := remembering(some()).save(path); err != nil {
		t.Fatal(err)
	}
	m, err := load(path)
	if err != nil {
		t.Fatal(err)
	}
	got, oldest, unknown := m.picture([]string{"message", "trade"})
	if diff := cmp.Diff(some(), got, errorTexts); diff != "" || !oldest.Equal(seenAt) || len(unknown) != 0 {
		t.Errorf("seen %v, unknown %v, %s", oldest, unknown, diff)
	}
	if !errors.Is(got["trade"][1].Bad[0], kite.Invalid) {
		t.Errorf("what was left out has not the code %v", kite.Invalid)
	}
	if _, err := os.Stat(path + besideSuffix); !os.IsNotExist(err) {
		t.Errorf("something is left beside the file: %v", err)
	}
}

func TestOnlyAskedTopics(t *testing.T) {
	t.Parallel()
	m := remembering(some())
	m.note(registry.Bindings{"relation": {}}, seenAt.Add(-time.Hour))
	for name, c := range map[string]struct {
		topics  []string
		age     time.Duration
		unknown string
	}{
		"one":       {[]string{"trade"}, 0, "[]"},
		"two ages":  {[]string{"trade", "relation"}, time.Hour, "[]"},
		"one more":  {[]string{"new", "trade"}, 0, "[new]"},
		"all other": {[]string{"new", "newer"}, -1, "[new newer]"},
	} {
		p, oldest, unknown := m.picture(c.topics)
		if c.age >= 0 && !oldest.Equal(seenAt.Add(-c.age)) || c.age < 0 && !oldest.IsZero() {
			t.Errorf("%s: seen at %v, want %v before %v", name, oldest, c.age, seenAt)
		}
		if fmt.Sprint(unknown) != c.unknown || len(p) != len(c.topics) {
			t.Errorf("%s: picture %v, unknown %v; want unknown %s", name, p, unknown, c.unknown)
		}
	}
}

// TestCrashWhileSaving stops after each step of save: what is loaded is the old file or the new one.
func TestCrashWhileSaving(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bindings.json")
	only := func(topic string) memory { return remembering(registry.Bindings{topic: {}}) }
	loaded := func(topic string) {
		t.Helper()
		if m, err := load(path); err != nil || len(m) != 1 || m[topic].SeenMs != seenAt.UnixMilli() {
			t.Fatalf("loaded is %v, error %v; want %s alone", m, err, topic)
		}
	}
	if err := only("old").save(path); err != nil {
		t.Fatal(err)
	}
	data, err := only("new").encode()
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(data) { // in the middle of writing
		if err := os.WriteFile(path+besideSuffix, data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		loaded("old")
	}
	if err := writeBeside(path, data); err != nil { // written, not renamed
		t.Fatal(err)
	}
	loaded("old")
	if err := writeBeside(path, bytes.Repeat(data, 2)); err != nil { // longer than what comes next
		t.Fatal(err)
	}
	if err := only("newer").save(path); err != nil {
		t.Fatal(err)
	}
	loaded("newer")
	if err := only("new").save(path); err != nil {
		t.Fatal(err)
	}
	loaded("new")
}

// TestDamage cuts the file at every byte and turns every bit.
func TestDamage(t *testing.T) {
	t.Parallel()
	data, err := remembering(some()).encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(data); err != nil {
		t.Fatal(err)
	}
	for n := range len(data) {
		if m, err := decode(data[:n]); err == nil {
			t.Fatalf("cut at %d of %d bytes it gives %v", n, len(data), m)
		}
		for bit := range 8 {
			damaged := bytes.Clone(data)
			damaged[n] ^= 1 << bit
			if m, err := decode(damaged); err == nil {
				t.Fatalf("with bit %d of byte %d turned it gives %v", bit, n, m)
			}
		}
	}
	if _, err := decode(append(data, '\n')); err == nil {
		t.Error("a third line is accepted")
	}
}

// signed adds the right checksum, so that what is refused is the content.
func signed(line string) []byte {
	return fmt.Appendf(nil, "%s\ncrc32c %08x\n", line, crc32.Checksum([]byte(line), castagnoli))
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	group := func(group, of, topic, kind string) string {
		return `{"group":"` + group + `","since_ms":1,"bindings":[{"groupId":"` + of + `","topic":"` + topic + `","messageType":"(","bindType":` + kind + `,"version":"1.0.0"}]}`
	}
	topics := func(topic string, groups ...string) string {
		return `{"version":1,"topics":{"` + topic + `":{"seen_ms":1,"groups":[` + strings.Join(groups, ",") + `]}}}`
	}
	if _, err := decode(signed(topics("t", group("g", "g", "t", "0")))); err != nil {
		t.Fatalf("what is right is refused: %v", err)
	}
	for text, want := range map[string]string{
		"":                          "unexpected end of JSON",
		"[]":                        "cannot unmarshal",
		`{"topics":{}}`:             "version 0 was written by another broker",
		`{"version":2,"topics":{}}`: "version 2 was written by another broker",
		topics("a/b"):               `topic "a/b"`,
		topics("t", group("a/b", "a/b", "t", "0")):                        `group "a/b"`,
		topics("t", group("g", "h", "t", "0")):                            `a binding of group "h" to topic "t" is among those of group "g"`,
		topics("t", group("g", "g", "u", "0")):                            `a binding of group "g" to topic "u"`,
		topics("t", group("g", "g", "t", "1")):                            `pattern "("`,
		topics("t", group("g", "g", "t", "7")):                            "bindType 7",
		topics("t", group("h", "h", "t", "0"), group("g", "g", "t", "0")): "not sorted",
	} {
		if m, err := decode(signed(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v, error %v; want %q", text, m, err, want)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := load(dir); err == nil {
		t.Error("a directory is loaded")
	}
	large, err := os.Create(filepath.Join(dir, "large"))
	if err == nil {
		err = errors.Join(large.Truncate(maxSize+1), large.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := load(large.Name()); err == nil || !strings.Contains(err.Error(), "larger than 64 MiB") {
		t.Errorf("a file that is too large: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	data, err := remembering(some()).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(signed(`{"version":1,"topics":{"t":{"groups":null}}}`))
	f.Add([]byte("{}\ncrc32c 00000000\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		line, _, _ := bytes.Cut(data, []byte("\n"))
		for _, candidate := range [][]byte{data, signed(string(line))} { // past the checksum, too
			m, err := decode(candidate)
			if err != nil {
				continue
			}
			again, err := m.encode()
			if err != nil {
				t.Fatal(err)
			}
			back, err := decode(again)
			if err != nil {
				t.Fatalf("%q became %q, which is refused: %v", candidate, again, err)
			}
			if third, err := back.encode(); err != nil || !bytes.Equal(again, third) {
				t.Fatalf("%q became %q, then %q: %v", candidate, again, third, err)
			}
		}
	})
}
