package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/operate"
)

// TestDelayedOrders lists and cancels messages that wait, with the command line, over a kill -9 of the broker.
func TestDelayedOrders(t *testing.T) {
	t.Parallel()
	zk := freeAddr(t)
	b := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "trade")
	b.Start()
	ctx, o := patient(t), operator{t, b.admin}
	shop, err := client.Dial(ctx, client.Options{ZKHost: zk, Group: "p-shop", Topics: []string{"trade"}})
	if err != nil {
		t.Fatal(err)
	}
	defer shop.Close(ctx)
	publish := func(delay time.Duration) string {
		t.Helper()
		m := &client.Message{ID: client.NewID(), Topic: "trade", Type: "reminder", Body: []byte("1"), Delay: delay}
		if err := shop.Publish(ctx, m); err != nil {
			t.Fatal(err)
		}
		return m.ID
	}
	sold, kept := publish(time.Hour), publish(2*time.Hour)
	if out := ctl(t, "delayed", "list", "--topic", "trade", "--admin", b.admin); !strings.Contains(out, sold) || !strings.Contains(out, kept) || !strings.Contains(out, "p-shop") {
		t.Errorf("listed:\n%s", out)
	}
	out := ctl(t, "delayed", "cancel", sold, "--by", "ann", "--reason", "sold out", "--admin", b.admin)
	if !strings.Contains(out, operate.Cancelled) || !strings.Contains(out, "operator ann: sold out") {
		t.Errorf("cancelled:\n%s", out)
	}
	b.Kill()
	b.Start()
	if out := ctl(t, "delayed", "list", "--admin", b.admin); strings.Contains(out, sold) || !strings.Contains(out, kept) {
		t.Errorf("after a kill:\n%s", out)
	}
	o.expect(sold, operate.Cancelled, "", "operator ann: sold out", "never delivered")
	var again operate.Postponed
	o.must("POST", "/delayed/"+sold+"/cancel", `{"by":"bob","reason":"again"}`, &again)
	if !again.Repeat || again.By != "operator ann" || again.Type != "reminder" {
		t.Errorf("%+v", again)
	}
	if status, text := o.do("POST", "/delayed/"+strings.Repeat("0", 31)+"1/cancel", `{"reason":"x"}`); status != 404 {
		t.Errorf("cancel of nothing: %d %s", status, text)
	}
	now := publish(0)
	if status, text := o.do("POST", "/delayed/"+now+"/cancel", `{"reason":"x"}`); status != 404 {
		t.Errorf("cancel of what never waited: %d %s", status, text)
	}
}
