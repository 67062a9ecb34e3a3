package kite

import (
	"strings"
	"testing"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	l := Limits{}.WithDefaults()
	if err := l.Validate(); err != nil {
		t.Error(err)
	}
	err := Limits{Properties: -1, PropertyBytes: 5, PatternBytes: 2000}.Validate()
	for _, want := range []string{"properties -1", "property bytes 5B", "pattern bytes 2000B"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	l.PatternBytes = 3
	long, short, direct := Direct("g", "t", "abcd"), Direct("g", "t", "abc"), Direct("g", "t", "abcd")
	long.Type, short.Type = BindRegx, BindRegx
	if l.CheckPattern(long) == nil || l.CheckPattern(short) != nil || l.CheckPattern(direct) != nil {
		t.Error("a pattern is bounded, and nothing else")
	}
}
