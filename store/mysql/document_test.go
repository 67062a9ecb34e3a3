package mysql

import (
	"os"
	"strings"
	"testing"
)

// TestDocument holds that the page has the DDL as it is.
func TestDocument(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../doc/store-mysql.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range append(migration(1, 1), versions) {
		if !strings.Contains(string(page), statement+";\n") {
			t.Errorf("doc/store-mysql.md lacks\n%s;", statement)
		}
	}
}
