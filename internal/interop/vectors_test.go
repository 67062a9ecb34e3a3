package interop

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// vectors are bytes that the original packages have produced.
type vectors struct {
	frames   map[string][]byte
	framings map[string]framing
	bindings map[string]string // name -> the znode's data
}

//nolint:gochecknoglobals // read once, never changed
var golden = sync.OnceValues(func() (*vectors, error) {
	data, err := os.ReadFile(filepath.Join("..", "protocol", "testdata", "golden", "vectors.json"))
	if err != nil {
		return nil, err
	}
	var file struct {
		Frames   []struct{ Name, Framing, Hex string }
		Bindings []struct{ Name, Data string }
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	v := &vectors{frames: map[string][]byte{}, framings: map[string]framing{}, bindings: map[string]string{}}
	for _, f := range file.Frames {
		if v.frames[f.Name], err = hex.DecodeString(f.Hex); err != nil {
			return nil, err
		}
		v.framings[f.Name] = framing(f.Framing[0])
	}
	for _, b := range file.Bindings {
		v.bindings[b.Name] = b.Data
	}
	return v, nil
})

// vector returns the bytes of a golden frame.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	v, err := golden()
	if err != nil {
		t.Fatal(err)
	}
	raw := v.frames[name]
	if raw == nil {
		t.Fatalf("there is no golden frame %s", name)
	}
	return append([]byte(nil), raw...)
}

// vectorMessage returns the payload of a golden frame, taken apart.
func vectorMessage(t testing.TB, name string) message {
	t.Helper()
	raw := vector(t, name)
	v, _ := golden()
	fr, size, err := v.framings[name].cut(raw)
	if err != nil || size != len(raw) {
		t.Fatalf("golden frame %s: %d of %d bytes, %v", name, size, len(raw), err)
	}
	m, err := parse(fr.payload)
	if err != nil {
		t.Fatalf("golden frame %s: %v", name, err)
	}
	return m
}

// vectorBinding returns the data of a golden bind node.
func vectorBinding(t testing.TB, name string) string {
	t.Helper()
	v, err := golden()
	if err != nil {
		t.Fatal(err)
	}
	if v.bindings[name] == "" {
		t.Fatalf("there is no golden binding %s", name)
	}
	return v.bindings[name]
}

// TestVectors holds our own codec against the golden frames: what it takes apart it can put together.
func TestVectors(t *testing.T) {
	t.Parallel()
	v, err := golden()
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range v.frames {
		f := v.framings[name]
		fr, size, err := f.cut(raw)
		if name == "90_header_too_large" {
			if err == nil {
				t.Errorf("%s was taken", name)
			}
			continue
		}
		if err != nil || size != len(raw) {
			t.Fatalf("%s: %d of %d bytes, %v", name, size, len(raw), err)
		}
		if again := f.encode(fr); hex.EncodeToString(again) != hex.EncodeToString(raw) {
			t.Errorf("%s:\n%x became\n%x", name, raw, again)
		}
		m, err := parse(fr.payload)
		if name == "91_unknown_cmd" {
			continue
		}
		if err != nil || hex.EncodeToString(m.encode()) != hex.EncodeToString(fr.payload) {
			t.Errorf("%s: payload %x became %x, %v", name, fr.payload, m.encode(), err)
		}
		if lacks := missing(fr.cmd, m); (lacks != "") != (name == "93_connmeta_missing_required") {
			t.Errorf("%s lacks %q", name, lacks)
		}
	}
	if len(v.frames) != 49 || len(v.bindings) != 4 {
		t.Errorf("%d frames and %d bindings, want 49 and 4", len(v.frames), len(v.bindings))
	}
}
