package exchange

import (
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

func TestSwap(t *testing.T) {
	t.Parallel()
	var e Exchange
	if e.Loaded() || e.Routes() != nil || e.Route("trade", "s-a") != nil {
		t.Fatal("a new exchange knows nothing")
	}
	e.Swap([]string{"trade", "fee"}, []kite.Route{{Topic: "trade", Group: "s-b"}, {Topic: "fee", Group: "s-a"}, {Topic: "trade", Group: "s-a", SinceMs: 7}})
	var order []string
	for _, r := range e.Routes() {
		order = append(order, r.Topic+" "+r.Group)
	}
	if len(order) != 3 || order[0] != "fee s-a" || order[1] != "trade s-a" || order[2] != "trade s-b" {
		t.Errorf("order %v", order)
	}
	if r := e.Route("trade", "s-a"); r == nil || r.SinceMs != 7 {
		t.Errorf("route %+v", r)
	}
	if !e.Knows("fee") || e.Knows("other") {
		t.Error("it knows the topics that it was told")
	}
	e.Swap([]string{"trade"}, nil)
	if !e.Loaded() || e.Route("trade", "s-a") != nil || e.Knows("fee") {
		t.Error("the second table replaces the first")
	}
}
