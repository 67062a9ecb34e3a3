package zk_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/kiteq/kiteq/internal/zktest"
	"github.com/kiteq/kiteq/registry/registrytest"
)

// TestMain lets pass what TestLibraryStuck leaves behind.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/go-zookeeper/zk.(*Conn).flushRequests"))
}

func TestConformance(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t)
	registrytest.Run(t, func(t *testing.T) registrytest.Env { return zktest.Env(t, server) })
}
