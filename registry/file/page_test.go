package file

import (
	"os"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestPageExample reads the file that the documentation shows.
func TestPageExample(t *testing.T) {
	t.Parallel()
	const page = "../../doc/registry.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```yaml\n")
	example, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatalf("%s shows no YAML", page)
	}
	p, err := parse(page, []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.notes) != 0 || strings.Join(p.brokers["trade"], " ") != "10.0.0.1:13800 10.0.0.2:13800" || len(p.brokers["message"]) != 1 {
		t.Errorf("brokers are %v, notes %q", p.brokers, p.notes)
	}
	for _, want := range []kite.Binding{
		{Topic: "message", Group: "s-members", MessageType: "pay-succ", Watermark: 1000, Durable: true},
		{Topic: "message", Group: "s-audit", MessageType: "pay-succ", Watermark: 1000, Durable: true},
		{Topic: "trade", Group: "s-statistics", MessageType: "-paid$", Type: kite.BindRegx},
		{Topic: "trade", Group: "s-audit", MessageType: "*", Type: kite.BindFanout, Durable: true},
	} {
		want.Version = kite.BindingVersion
		if g := p.find(want.Topic, want.Group); g == nil || len(g.Bad) != 0 || len(g.Bindings) != 1 || g.Bindings[0] != want {
			t.Errorf("bound is %+v, want %+v", g, want)
		}
	}
}
