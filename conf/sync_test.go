package conf

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kiteq/kiteq/internal/kite"
)

// TestTopicSync reads the table of a file and the flag, which replaces it. A topic that is not served is noted.
func TestTopicSync(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kiteq.toml")
	if err := os.WriteFile(path, []byte("topics = [\"trade\"]\n[sync]\ntrade = \"always\"\n\"pay.logs\" = \"os\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		flags string
		want  map[string]kite.Class
		noted string
	}{
		{"", map[string]kite.Class{"trade": kite.ClassSynced, "pay.logs": kite.ClassWritten}, "pay.logs"},
		{"-sync=trade=os, fee=always", map[string]kite.Class{"trade": kite.ClassWritten, "fee": kite.ClassSynced}, "fee"},
		{"-sync=", map[string]kite.Class{}, ""},
	} {
		args := []string{"-configPath=" + path}
		if test.flags != "" {
			args = append(args, test.flags)
		}
		c, err := Load(args, &bytes.Buffer{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, c.Classes()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.flags, diff)
		}
		if notes := strings.Join(c.Notes, "\n"); !strings.Contains(notes, test.noted) || (notes == "") != (test.noted == "") {
			t.Errorf("%q: notes %q, want one about %q", test.flags, notes, test.noted)
		}
	}
}
