package storetest

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/kiteq/kiteq/store"
)

// Env is a journal under test and what it can do.
type Env struct {
	// Open opens the journal in the directory, as a broker does. Its units of storage should be
	// small, so that Trim finds some.
	Open func(tb testing.TB, dir string) (store.Journal, error)
	// UnitBytes is how many bytes of bodies surely complete a unit.
	UnitBytes int
	// Volatile journals lose everything with Close; what needs a second Open is skipped.
	Volatile bool
	// Crash returns a directory that holds what dir would if the process died now. The journal in
	// dir may be open. Default: a copy of all files.
	Crash func(tb testing.TB, dir string) string
	// OpenFull opens a journal that returns store.ErrFull after some thousand messages of 256 bytes,
	// and takes them again after Trim. Nil when it has no bound of its own.
	OpenFull func(tb testing.TB, dir string) (store.Journal, error)
	// OpenFaulty is Open with fault asked before each operation on the disk. Nil when there is none.
	OpenFaulty func(tb testing.TB, dir string, fault *Fault) (store.Journal, error)
}

// Mode says how an operation goes wrong.
type Mode int

// The modes.
const (
	Before Mode = iota // the operation is not done
	Torn               // a write is done by half; any other operation not at all
	After              // the operation is done, and reported as failed
)

func (m Mode) String() string { return [...]string{"before", "torn", "after"}[m] }

// Fault makes the n-th operation go wrong, and no other.
type Fault struct {
	N     int64
	Mode  Mode
	count atomic.Int64
}

// Next counts an operation and tells whether it is the one.
func (f *Fault) Next() bool { return f.count.Add(1) == f.N }

// Fired tells whether the operation has come.
func (f *Fault) Fired() bool { return f.count.Load() >= f.N }

func (e Env) crash(tb testing.TB, dir string) string {
	tb.Helper()
	if e.Crash != nil {
		return e.Crash(tb, dir)
	}
	to := tb.TempDir()
	CopyDir(tb, dir, to)
	return to
}

// CopyDir copies the files of a directory.
func CopyDir(tb testing.TB, from, to string) {
	tb.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		tb.Fatal(err)
	}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(from, entry.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, entry.Name()), data, 0o600)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// mustOpen opens a journal, replays it into nothing and closes it with the test.
func (e Env) mustOpen(tb testing.TB, dir string) store.Journal {
	tb.Helper()
	j, err := e.Open(tb, dir)
	if err != nil {
		tb.Fatal(err)
	}
	mustReplay(tb, j, nil)
	tb.Cleanup(func() {
		if err := j.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return j
}

// Run checks all that store.Journal says.
func Run(t *testing.T, e Env) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, Env)
	}{
		{"order", testOrder},
		{"density", testDensity},
		{"ownership", testOwnership},
		{"streams", testStreams},
		{"read", testRead},
		{"nested", testNested},
		{"load", testLoad},
		{"commit", testCommit},
		{"find", testFind},
		{"find trimmed", testFindTrimmed},
		{"find seen", testFindSeen},
		{"bounds", testBounds},
		{"class", testClass},
		{"closed", testClosed},
		{"trim", testTrim},
		{"trim holds", testTrimHolds},
		{"trim commit", testTrimCommit},
		{"trim bytes", testTrimBytes},
		{"trim all", testTrimAll},
		{"delayed", testDelayed},
		{"delayed trimmed", testDelayedTrimmed},
		{"concurrency", testConcurrency},
		{"full", testFull},
		{"random", testRandom},
	} {
		t.Run(c.name, func(t *testing.T) { t.Parallel(); c.test(t, e) })
	}
	if e.Volatile {
		return
	}
	for _, c := range []struct {
		name string
		test func(*testing.T, Env)
	}{
		{"replay", testReplay},
		{"replay error", testReplayError},
		{"checkpoint", testCheckpoint},
		{"reopen", testReopen},
		{"reopen trimmed", testReopenTrimmed},
		{"reopen delayed", testReopenDelayed},
		{"crash", testCrash},
		{"faults", testFaults},
	} {
		t.Run(c.name, func(t *testing.T) { t.Parallel(); c.test(t, e) })
	}
}
