package conf

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWebhooks reads the table of hooks, and shows nothing of a URL that cannot be one: there may be a password in it.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	load := func(text string) (Config, error) {
		path := filepath.Join(t.TempDir(), "kiteq.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Load([]string{"-configPath=" + path}, &bytes.Buffer{})
	}
	c, err := load("[webhook]\ntimeout = \"2s\"\n[webhook.urls]\np-till = \"https://ann:secret@till.example/checks\"\n\"p desk\" = \"http://10.0.0.1\"\n")
	if err != nil || len(c.Webhook.URLs) != 2 || c.Webhook.URLs["p desk"] != "http://10.0.0.1" || c.Webhook.Timeout != 2*time.Second || c.Webhook.Parallel != 4 {
		t.Errorf("%+v, %v", c.Webhook, err)
	}
	for name, text := range map[string]string{
		"no URL":       "[webhook.urls]\np-till = \"ftp://ann:secret@till.example/\"",
		"no table":     "[webhook]\nurls = \"http://ann:secret@till.example/\"",
		"another type": "[webhook.urls]\np-till = [\"http://ann:secret@till.example/\"]",
		"a table":      "[webhook.urls]\np-till = {url = \"http://ann:secret@till.example/\"}",
		"not closed":   "[webhook.urls]\np-till = \"http://ann:secret@till.example/\nx = 1",
		"no group":     "[webhook.urls]\n\"p/till\" = \"http://ann:secret@till.example/\"",
		"a wrong key":  "[webhook]\nurl = \"http://ann:secret@till.example/\"",
	} {
		if _, err := load(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
