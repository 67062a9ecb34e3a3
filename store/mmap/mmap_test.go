package mmap

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// small makes units that tests fill quickly.
var small = Options{SegmentBytes: 16 << 10, MaxBatchBytes: 64 << 10}

func TestJournal(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Env{
		Open: func(_ testing.TB, dir string) (store.Journal, error) {
			o := small
			o.Dir = dir
			return Open(o, nil)
		},
		OpenFaulty: func(_ testing.TB, dir string, fault *storetest.Fault) (store.Journal, error) {
			o := small
			o.Dir, o.FS = dir, faultyFS{osFS{}, fault}
			return Open(o, nil)
		},
		OpenFull: func(_ testing.TB, dir string) (store.Journal, error) {
			o := small
			o.Dir, o.FS = dir, &smallDisk{FS: osFS{}, free: 40}
			return Open(o, nil)
		},
		UnitBytes: 16 << 10,
	})
}

// TestJournalWritten is the class that leaves syncing to others: a dying process loses nothing either.
func TestJournalWritten(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Env{
		Open: func(_ testing.TB, dir string) (store.Journal, error) {
			o := small
			o.Dir, o.Sync = dir, SyncOS
			return Open(o, nil)
		},
		UnitBytes: 16 << 10,
	})
}
