package mysql

import (
	"testing"

	"github.com/kiteq/kiteq/store/storetest"
)

// TestJournal checks the contract. A crash is a broker that is gone without a word: its database is as it is,
// and the next one claims the journal.
func TestJournal(t *testing.T) {
	t.Parallel()
	optionsOf(t, "") // skips once, with the reason
	storetest.Run(t, storetest.Env{
		Open:      openDir,
		Crash:     func(_ testing.TB, dir string) string { return dir },
		UnitBytes: 64 * 512,
	})
}
