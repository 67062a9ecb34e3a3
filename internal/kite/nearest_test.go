package kite

import "testing"

func TestNearest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		bindings []string
		want     int
	}{
		{nil, -1},
		{[]string{"refund", "pair"}, 1},
		{[]string{"paid", "pai"}, 0},
		{[]string{"xaid", "paix"}, 1}, // as many edits; the second begins alike
	} {
		var bindings []Binding
		for _, text := range c.bindings {
			bindings = append(bindings, Direct("s-a", "trade", text))
		}
		if got := Nearest(bindings, "paid"); got != c.want {
			t.Errorf("of %q the nearest is %d, want %d", c.bindings, got, c.want)
		}
	}
}

func TestEdits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"paid", "paid", 0}, {"paid", "pai", 1}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"abc", "", 3}} {
		if got := edits(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
