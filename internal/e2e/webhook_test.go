package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/operate"
)

// TestWebhook leaves transactions undecided, with nobody of the group connected and over a kill -9 of the broker, and
// has the group's hook decide each by its own row.
func TestWebhook(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	rows, asked := map[string]bool{}, map[string]string{}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var q struct {
			ID         string            `json:"message_id"`
			Topic      string            `json:"topic"`
			Type       string            `json:"message_type"`
			Group      string            `json:"group"`
			PreparedAt time.Time         `json:"prepared_at"`
			Properties map[string]string `json:"properties"`
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || time.Since(q.PreparedAt) > time.Hour {
			t.Errorf("asked %+v: %v", q, err)
		}
		user, password, _ := r.BasicAuth()
		asked[q.ID] = strings.Join([]string{q.Topic, q.Type, q.Group, q.Properties["shop"], user, password}, " ")
		outcome := "rollback"
		if rows[q.ID] {
			outcome = "commit"
		}
		fmt.Fprintf(w, `{"outcome":%q,"reason":"row %t"}`, outcome, rows[q.ID])
	}))
	t.Cleanup(hook.Close)
	zk := freeAddr(t)
	b := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "trade")
	file := filepath.Join(b.dir, "kiteq.toml")
	more := fmt.Sprintf("%s\n[webhook.urls]\np-job = %q\n", config, strings.Replace(hook.URL, "//", "//kite:hidden@", 1))
	if err := os.WriteFile(file, []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Start()
	ctx := patient(t)
	job, err := client.Dial(ctx, client.Options{ZKHost: zk, Group: "p-job", Topics: []string{"trade"}})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for n := range 6 {
		m := &client.Message{ID: client.NewID(), Topic: "trade", Type: "paid", Body: []byte("1"), Properties: map[string]string{"shop": "7"}}
		tx, err := job.Prepare(ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		tx.Leave()
		ids = append(ids, m.ID)
		mu.Lock()
		rows[m.ID] = n%2 == 0
		mu.Unlock()
	}
	if err := job.Close(ctx); err != nil {
		t.Fatal(err)
	}
	b.Kill()
	b.Start()
	o, by := operator{t, b.admin}, "webhook "+hook.Listener.Addr().String()
	for n, id := range ids {
		what, row := operate.Committed, "row true"
		if n%2 == 1 {
			what, row = operate.RolledBack, "row false"
		}
		o.expect(id, what, "", by+": "+row)
		o.expect(id, operate.Checked, "", by)
		mu.Lock()
		if asked[id] != "trade paid p-job 7 kite hidden" {
			t.Errorf("asked %q", asked[id])
		}
		mu.Unlock()
	}
	var all operate.Transactions
	o.must("GET", "/transactions", "", &all)
	if all.Open != 0 || all.WebhookChecks < 6 {
		t.Errorf("%+v", all)
	}
	if strings.Contains(b.log.String(), "hidden") {
		t.Error("the password is in the log")
	}
}
