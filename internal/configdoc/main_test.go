package main

import (
	"os"
	"strings"
	"testing"
)

// TestPageIsCurrent: doc/config.md says what the structs say.
func TestPageIsCurrent(t *testing.T) {
	t.Parallel()
	const root = "../.."
	old, err := os.ReadFile(root + "/" + page)
	if err != nil {
		t.Fatal(err)
	}
	text, err := fill(root, string(old))
	if err != nil {
		t.Fatal(err)
	}
	if text != string(old) {
		t.Error("doc/config.md is not current: run ./build.sh docs")
	}
	if n := strings.Count(text, "\n| `"); n < 30 {
		t.Errorf("the page has %d keys", n)
	}
	if _, err := fill(root, "no places"); err == nil {
		t.Error("a page without places is filled")
	}
}
