package sequence

import (
	"testing"

	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/memory"
	"github.com/kiteq/kiteq/store/mysql/mysqltest"
	"github.com/kiteq/kiteq/store/storetest"
)

// storage is a journal that the decisions are tried on.
type storage struct {
	// open opens what place holds; every test has a place of its own.
	open func(tb testing.TB, place string) store.Journal
	// crash returns a place that holds what place would if the process died now, and the journal there stays open
	// for a while. Nil: nothing outlives its process.
	crash func(tb testing.TB, place string) string
}

// storages are the stores, by what prepares one for a test: one more is one line more.
func storages() map[string]func(testing.TB) storage {
	return map[string]func(testing.TB) storage{
		"memory": func(testing.TB) storage {
			return storage{func(tb testing.TB, _ string) store.Journal { return mustMemory(tb, memory.Options{}) }, nil}
		},
		"mmap": func(testing.TB) storage { return mmapStorage() },
		"mysql": func(tb testing.TB) storage {
			o := mysqltest.Options(tb, "sequence")
			open := func(tb testing.TB, place string) store.Journal { return mysqltest.Open(tb, o, place) }
			return storage{open, func(_ testing.TB, place string) string { return place }} // taken over
		},
	}
}

func mmapStorage() storage { return storage{mustMMap, copyDir} }

func copyDir(tb testing.TB, place string) string {
	to := tb.TempDir()
	storetest.CopyDir(tb, place, to)
	return to
}
