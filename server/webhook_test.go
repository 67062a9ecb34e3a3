package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
	"github.com/kiteq/kiteq/internal/protocol"
)

// expectTold waits until the message's story has the event, whose text has all the parts.
func expectTold(t *testing.T, s *Server, id kite.MessageID, what string, parts ...string) {
	t.Helper()
	eventually(t, 20*time.Second, func() string {
		story, err := s.Story(t.Context(), id)
		if err != nil {
			return err.Error()
		}
		for _, e := range story.Events {
			if e.What == what && !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(e.Text, part) }) {
				return ""
			}
		}
		return fmt.Sprintf("no %s with %q in %+v", what, parts, story.Events)
	})
}

// TestWebhook decides by a group's hook while nobody of it is connected, after an answer that decides nothing and
// one that fails. The story tells each step, and the hook is left alone while a member is there.
func TestWebhook(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			MessageID string `json:"message_id"`
			Checks    int32
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.MessageID == "" || asked.Checks <= calls.Load() {
			t.Errorf("asked %+v: %v", asked, err)
		}
		switch calls.Add(1) {
		case 1:
			fmt.Fprint(w, `{"outcome":"unknown"}`)
		case 2:
			w.WriteHeader(http.StatusInternalServerError)
		default:
			fmt.Fprint(w, `{"outcome":"commit","reason":"row 17"}`)
		}
	}))
	defer hook.Close()
	by := "webhook " + strings.TrimPrefix(hook.URL, "http://")
	c := testConfig()
	c.Transaction.First, c.Transaction.Longest = 200*time.Millisecond, time.Second
	c.Webhook.URLs = map[string]string{"p-till": hook.URL}
	s, _ := start(t, c, Control{})

	till := connect(t, s, "p-till")
	id, _ := kite.ParseMessageID("0123456789abcdef0123456789abcdef")
	till.write(protocol.AppendMessage(nil, protocol.FramingG, 2, protocol.CmdBytesMessage, &protocol.Header{
		MessageID: id.String(), Topic: "trade", MessageType: "paid", GroupID: "p-till", ExpiredTime: -1, DeliverLimit: 100,
	}, []byte("body")))
	expectTold(t, s, id, operate.Checked, "check 1 sent to 127.0.0.1:") // the member: it is connected
	if calls.Load() != 0 {
		t.Error("the hook is asked while a member is connected")
	}
	till.conn.Close()
	expectTold(t, s, id, operate.Answered, by+" answered a check and could not decide")
	expectTold(t, s, id, operate.Waiting, "nobody of group p-till is connected: checks go to its "+by)
	expectTold(t, s, id, operate.Answered, by+" (status 500) answered a check and could not decide")
	expectTold(t, s, id, operate.Committed, "seq 1 by "+by+": row 17")
	expectTold(t, s, id, operate.Checked, "sent to "+by)
	page, err := s.Transactions(t.Context(), operate.Filter{Limit: 1})
	if err != nil || page.ChecksSent < 4 || page.WebhookChecks != 3 || page.WebhookFailures != 1 || page.Open != 0 {
		t.Errorf("%+v, %v", page, err)
	}
}

// TestWebhookAway says in the story that the hook does not answer; no check is counted.
func TestWebhookAway(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(nil)
	gone.Close()
	c := testConfig()
	c.Transaction.First, c.Transaction.Longest = 100*time.Millisecond, 100*time.Millisecond
	c.Webhook.URLs = map[string]string{"p-till": strings.Replace(gone.URL, "//", "//ann:hidden@", 1)}
	s, log := start(t, c, Control{})
	till := connect(t, s, "p-till")
	id, _ := kite.ParseMessageID("0123456789abcdef0123456789abcdef")
	till.write(protocol.AppendMessage(nil, protocol.FramingG, 2, protocol.CmdBytesMessage, &protocol.Header{
		MessageID: id.String(), Topic: "trade", MessageType: "paid", GroupID: "p-till", ExpiredTime: -1, DeliverLimit: 100,
	}, []byte("body")))
	till.read() // the answer
	till.conn.Close()
	expectTold(t, s, id, operate.Waiting, "checks go to its webhook", "connection refused")
	if hooks := s.hooks.Stats(); hooks.Requests != 0 || hooks.Failures == 0 {
		t.Errorf("%+v, though nothing was sent", hooks)
	}
	if strings.Contains(log.String(), "hidden") {
		t.Errorf("the password is in the log:\n%s", log)
	}
}
