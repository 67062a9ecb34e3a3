package mysql

import (
	"testing"

	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/storetest"
)

// TestJournal checks the contract. All journals are in the same tables. A crash is a broker that is gone
// without a word: its rows are as they are, and the next one claims the journal.
func TestJournal(t *testing.T) {
	t.Parallel()
	d := mustDial(t, options(t))
	storetest.Run(t, storetest.Env{
		Open: func(_ testing.TB, dir string) (store.Journal, error) { return openDir(d, dir) },
		OpenFaulty: func(_ testing.TB, dir string, fault *storetest.Fault) (store.Journal, error) {
			lossy := *d
			lossy.writers = faulty{d.writers, fault}
			return openDir(&lossy, dir)
		},
		Crash:     func(_ testing.TB, dir string) string { return dir },
		UnitBytes: testUnit * 512,
	})
}
