package conf

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/handler/access"
)

// TestRules reads the auth file, and shows nothing of a key or a hash that is wrong.
func TestRules(t *testing.T) {
	t.Parallel()
	hash, err := access.Hash("till")
	if err != nil {
		t.Fatal(err)
	}
	load := func(text string, mode os.FileMode) (Config, error) {
		dir := t.TempDir()
		rules, path := filepath.Join(dir, "rules.toml"), filepath.Join(dir, "kiteq.toml")
		for file, text := range map[string]string{rules: text, path: fmt.Sprintf("[auth]\nfile = %q\n", rules)} {
			if err := os.WriteFile(file, []byte(text), mode); err != nil {
				t.Fatal(err)
			}
		}
		return Load([]string{"-configPath=" + path}, &bytes.Buffer{})
	}
	good := fmt.Sprintf("[groups.p-till]\nkeys = [%q]\npublish = [\"trade\"]\n[groups.\"*\"]\nopen = true\n[operators.ann]\nkeys = [%q]\nrole = \"read-only\"\n", hash, hash)
	c, err := load(good, 0o600)
	if err != nil || c.Rules.Groups["p-till"].Keys[0] != hash || !c.Rules.Groups[access.Others].Open || c.Rules.Operators["ann"].Role != access.ReadOnly || len(c.Notes) != 0 {
		t.Errorf("%+v, notes %q, %v", c.Rules, c.Notes, err)
	}
	if c, err := load(good, 0o644); err != nil || len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "chmod") {
		t.Errorf("a file for everybody: notes %q, %v", c.Notes, err)
	}
	for name, text := range map[string]string{
		"no hash":      "[groups.a]\nkeys = [\"secret\"]",
		"no list":      "[groups.a]\nkeys = \"secret\"",
		"not closed":   "[groups.a]\nkeys = [\"secret\n",
		"a wrong key":  "[groups.a]\nsecret_key = \"secret\"\nopen = true",
		"no group":     "",
		"neither":      "[groups.a]\npublish = [\"*\"]",
		"another role": "[groups.a]\nopen = true\n[operators.x]\ncertificate = true\nrole = \"secret\"",
	} {
		_, err := load(text, 0o600)
		if err == nil || name != "a wrong key" && name != "another role" && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Load([]string{"-configPath=" + filepath.Join(t.TempDir(), "none")}, &bytes.Buffer{}); err == nil {
		t.Error("no file")
	}
}
