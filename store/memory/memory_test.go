package memory_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/memory"
	"github.com/kiteq/kiteq/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestJournal(t *testing.T) {
	t.Parallel()
	open := func(o memory.Options) func(testing.TB, string) (store.Journal, error) {
		return func(testing.TB, string) (store.Journal, error) { return memory.New(o) }
	}
	storetest.Run(t, storetest.Env{
		Open:      open(memory.Options{}),
		OpenFull:  open(memory.Options{MaxBytes: 2 << 20}),
		UnitBytes: 1024 * 512,
		Volatile:  true,
	})
}
