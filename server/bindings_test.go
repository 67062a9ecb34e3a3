package server

import (
	"strings"
	"testing"
	"time"

	libzk "github.com/go-zookeeper/zk"

	"github.com/kiteq/kiteq/internal/operate"
	"github.com/kiteq/kiteq/internal/zktest"
)

// TestBadBindings puts what nobody can understand into binding znodes: each bad binding costs only itself,
// with a warning and a count. The group's other bindings and all other groups go on.
func TestBadBindings(t *testing.T) {
	t.Parallel()
	s, log := start(t, testConfig(), Control{})
	c := zktest.Raw(t, s.RegistryAddr())
	put := func(group, data string) {
		t.Helper()
		if _, err := c.Create("/kiteq/sub/trade/"+group+"-bind", []byte(data), 0, libzk.WorldACL(libzk.PermAll)); err != nil {
			t.Fatal(err)
		}
	}
	binding := func(group, messageType, bindType string) string {
		return `{"groupId":"` + group + `","topic":"trade","messageType":"` + messageType + `","bindType":` + bindType + `,"version":"1.0.0","watermark":1000,"persistent":true}`
	}
	put("s-json", `[{"groupId":`)
	put("s-mixed", "["+binding("s-mixed", "pay(", "1")+","+binding("s-mixed", "x", "7")+","+binding("s-mixed", "pay", "0")+"]")
	put("s-good", "["+binding("s-good", "pay", "0")+"]")
	eventually(t, 10*time.Second, func() string {
		if s.exchange.Route("trade", "s-mixed") == nil || s.exchange.Route("trade", "s-good") == nil || s.badBindings.Load() < 3 {
			return "the bindings are not read"
		}
		return ""
	})
	if s.exchange.Route("trade", "s-json") != nil {
		t.Error("a group without one good binding has a route")
	}
	if n := s.badBindings.Load(); n != 3 {
		t.Errorf("%d bad bindings counted, want 3", n)
	}
	groups, err := s.Groups(t.Context(), operate.Filter{Topic: "trade", Group: "s-mixed"})
	if err != nil || len(groups.Bad) != 2 || !strings.Contains(groups.Bad[0].Error, "pay(") || !strings.Contains(groups.Bad[0].Error, "RE2") {
		t.Errorf("operators see %+v, %v", groups.Bad, err)
	}
	for _, want := range []string{"group=s-json", "pay(", "bindType 7"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no warning names %s", want)
		}
	}
	mixed, good := connect(t, s, "s-mixed"), connect(t, s, "s-good")
	publisher := connect(t, s, "p-test")
	publisher.publish("trade", 1)
	mixed.consume(1)
	good.consume(1)
}
