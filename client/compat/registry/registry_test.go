package registry_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/kiteq/kiteq/client/compat/registry"
)

// The data of binding znodes are those of the original, byte for byte.
func TestGoldenBinds(t *testing.T) {
	t.Parallel()
	for name, bindings := range map[string][]*registry.Binding{
		"direct": {registry.Bind_Direct("s-golden", "trade", "pay-succ", 1000, true)},
		"regx":   {registry.Bind_Regx("s-golden", "trade", `pay-\d+`, -1, false)},
		"fanout": {registry.Bind_Fanout("s-golden", "trade", 8000, true)},
		"two_entries": {
			registry.Bind_Direct("s-golden", "trade", "pay-succ", 1000, true),
			registry.Bind_Direct("s-golden", "trade", "pay-fail", 1000, true).WithHandler(func(interface{}) (bool, error) { return true, nil }),
		},
	} {
		want, err := os.ReadFile(filepath.Join("..", "..", "..", "registry", "testdata", "binding_"+name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		want = bytes.TrimSpace(want)
		got, err := registry.MarshalBinds(bindings)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, want)
		}
		back, err := registry.UmarshalBinds(want)
		if err != nil || len(back) != len(bindings) {
			t.Fatalf("%s: %d bindings, %v", name, len(back), err)
		}
		for i, b := range back {
			bindings[i].Handler = nil
			if b.GroupId != bindings[i].GroupId || b.MessageType != bindings[i].MessageType || b.BindType != bindings[i].BindType ||
				b.Watermark != bindings[i].Watermark || b.Persistent != bindings[i].Persistent || b.Version != "1.0.0" {
				t.Errorf("%s: read %+v, want %+v", name, b, bindings[i])
			}
		}
	}
}

func TestNoBinds(t *testing.T) {
	t.Parallel()
	if got, err := registry.MarshalBinds(nil); err != nil || string(got) != "[]" {
		t.Errorf("none are %s, %v", got, err)
	}
	if got, err := registry.UmarshalBinds(nil); err != nil || len(got) != 0 {
		t.Errorf("of nothing: %v, %v", got, err)
	}
	if _, err := registry.UmarshalBinds([]byte("{")); err == nil {
		t.Error("junk was read")
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	direct, regx := registry.Bind_Direct("g", "trade", "pay", 0, true), registry.Bind_Regx("g", "trade", `^refund-\d+$`, 0, true)
	fanout, broken := registry.Bind_Fanout("g", "trade", 0, true), registry.Bind_Regx("g", "trade", "(", 0, true)
	strange := registry.Bind_Fanout("g", "trade", 0, true)
	strange.BindType = 9
	for _, tt := range []struct {
		binding            *registry.Binding
		topic, messageType string
		want               bool
	}{
		{direct, "trade", "pay", true},
		{direct, "trade", "pay-more", false},
		{direct, "stock", "pay", false},
		{regx, "trade", "refund-17", true},
		{regx, "trade", "refund-x", false},
		{regx, "stock", "refund-17", false}, // the original's matched any topic
		{fanout, "trade", "anything", true},
		{fanout, "stock", "anything", false}, // likewise
		{broken, "trade", "(", false},
		{strange, "trade", "*", false},
	} {
		if got := tt.binding.Matches(tt.topic, tt.messageType); got != tt.want {
			t.Errorf("%s %q on %s/%s: %v", tt.binding.Topic, tt.binding.MessageType, tt.topic, tt.messageType, got)
		}
	}
}

func TestTypeOfBind(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]registry.BindType{
		"direct": registry.BIND_DIRECT, "REGX": registry.BIND_REGX, "Fanout": registry.BIND_FANOUT, "": registry.BIND_DIRECT, "other": registry.BIND_DIRECT,
	} {
		if got := registry.TypeOfBind(name); got != want {
			t.Errorf("%q is %d, want %d", name, got, want)
		}
	}
}

func FuzzUmarshalBinds(f *testing.F) {
	f.Add([]byte(`[{"groupId":"g","topic":"t","messageType":"(","bindType":1}]`))
	f.Add([]byte(`[null]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		bindings, err := registry.UmarshalBinds(data)
		if err != nil {
			return
		}
		for _, b := range bindings {
			b.Matches("t", "x")
		}
		if _, err := registry.MarshalBinds(bindings); err != nil {
			t.Errorf("cannot be written again: %v", err)
		}
	})
}
