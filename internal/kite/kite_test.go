package kite

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseMessageID(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		ok   bool
	}{
		{"0123456789abcdef0123456789abcdef", true},
		{"FEDCBA98765432100123456789abcdef", true},
		{"0123456789abcdef0123456789abcde", false},
		{"0123456789abcdef0123456789abcdef0", false},
		{"0123456789abcdef0123456789abcdeg", false},
		{"", false},
	} {
		id, ok := ParseMessageID(test.text)
		if ok != test.ok {
			t.Errorf("%q: %v", test.text, ok)
		}
		if ok && id.String() != strings.ToLower(test.text) {
			t.Errorf("%q became %q", test.text, id)
		}
	}
}

func TestMatcher(t *testing.T) {
	t.Parallel()
	m, err := NewMatcher([]Binding{
		Direct("g", "t", "pay"),
		Regx("g", "t", `ord-\d+`),
		Regx("g", "t", `broken(`),
		{Group: "g", Topic: "t", MessageType: "x", Type: 9},
	})
	if err == nil || !strings.Contains(err.Error(), "broken(") || !strings.Contains(err.Error(), "bindType 9") {
		t.Fatalf("the bad bindings are not named: %v", err)
	}
	for _, test := range []struct {
		messageType string
		want        bool
	}{{"pay", true}, {"repay", false}, {"ord-7", true}, {"my-ord-77-x", true}, {"ord-", false}, {"", false}} {
		for range 2 { // the second answer comes from the cache
			if got := m.Matches([]byte(test.messageType)); got != test.want {
				t.Errorf("%q: %v", test.messageType, got)
			}
		}
	}
	for i := range 3 * maxCached {
		m.Matches(fmt.Appendf(nil, "type-%d", i))
	}
	if len(m.answers) > maxCached {
		t.Errorf("%d answers are kept", len(m.answers))
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("publish: %w", Errorf(NotServed, "topic %q is not served", "x"))
	if !errors.Is(err, NotServed) || errors.Is(err, Busy) || CodeOf(err) != NotServed {
		t.Errorf("%v has code %v", err, CodeOf(err))
	}
	if CodeOf(nil) != OK || CodeOf(errors.New("x")) != Internal {
		t.Error("nil is OK, a foreign error Internal")
	}
}

func TestCheckNames(t *testing.T) {
	t.Parallel()
	for topic, ok := range map[string]bool{"trade": true, "user-profile_1.x": true, "": false, "a/b": false, "a b": false, "..": false, strings.Repeat("x", 256): false} {
		if err := CheckTopic(topic); (err == nil) != ok {
			t.Errorf("topic %q: %v", topic, err)
		}
	}
	for group, ok := range map[string]bool{"s-pay": true, "组": true, "a/b": false, "": false, "a\nb": false} {
		if err := CheckGroup(group); (err == nil) != ok {
			t.Errorf("group %q: %v", group, err)
		}
	}
}
