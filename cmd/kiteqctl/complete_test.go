package main

import (
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestCompletion suggests what the registry has.
func TestCompletion(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.registry.SetBrokers("stock", "10.0.0.1:13800")
	for _, binding := range []kite.Binding{kite.Direct("s-books", "trade", "pay"), kite.Fanout("s-audit", "stock")} {
		if err := b.registry.Bind(t.Context(), []kite.Binding{binding}); err != nil {
			t.Fatal(err)
		}
	}
	for args, want := range map[string]string{
		"pub ":                       "stock trade",
		"pub st":                     "stock",
		"pause ":                     "stock trade",
		"pause trade ":               "s-books",
		"topics trade ":              "stock trade",
		"dlq show trade s-books ":    "",
		"explain ":                   "",
		"groups --group s":           "s-audit s-books",
		"tx list --topic ":           "stock trade",
		"store verify ":              "",
		"groups -o ":                 "text json",
		"pause stock s-audit --by x": "",
	} {
		got := b.run("", append([]string{"__complete"}, strings.Split(args, " ")...)...)
		var words []string
		for line := range strings.Lines(got.out) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, ":") {
				words = append(words, line)
			}
		}
		if found := strings.Join(words, " "); found != want || got.code != exitOK {
			t.Errorf("%q: suggested %q, want %q; %+v", args, found, want, got)
		}
	}
}

// TestColours paints only where it is told to.
func TestColours(t *testing.T) {
	t.Parallel()
	for colours, want := range map[bool]string{
		false: "A   STATE       B\n1é  ready       x\n22  paused: so  y\n",
		true: bold + "A" + plain + "   " + bold + "STATE" + plain + "       " + bold + "B" + plain + "\n" +
			"1é  " + green + "ready" + plain + "       x\n22  " + yellow + "paused: so" + plain + "  y\n",
	} {
		var out strings.Builder
		g := newGlobals(terminal{out: &out, colours: colours})
		if err := g.columns("", "A\tSTATE\tB", []string{"1é\tready\tx", "22\tpaused: so\ty"}); err != nil || out.String() != want {
			t.Errorf("printed %q, want %q, %v", out.String(), want, err)
		}
	}
	for state, colour := range map[string]string{"ok": green, "not ready": red, "damaged at offset 7": red, "offline, paused": yellow} {
		if got := colourOf(state); got != colour {
			t.Errorf("%s is %q", state, got)
		}
	}
}
