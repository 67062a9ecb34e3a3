package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/operate"
)

// operator talks to a broker's admin port.
type operator struct {
	t     *testing.T
	admin string
}

// do sends a request and returns the status and the body.
func (o operator) do(method, path, body string) (int, []byte) {
	o.t.Helper()
	request, err := http.NewRequestWithContext(o.t.Context(), method, "http://"+o.admin+path, strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		o.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return response.StatusCode, raw
}

// ask decodes the answer into v and returns "" or what is wrong.
func (o operator) ask(method, path, body string, v any) string {
	o.t.Helper()
	status, raw := o.do(method, path, body)
	if status != http.StatusOK {
		return fmt.Sprintf("%s %s: %d %s", method, path, status, raw)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		o.t.Fatal(err)
	}
	return ""
}

func (o operator) must(method, path, body string, v any) {
	o.t.Helper()
	if bad := o.ask(method, path, body, v); bad != "" {
		o.t.Fatal(bad)
	}
}

// expect waits until the message's story has the event, whose text has all the parts.
func (o operator) expect(id, what, group string, parts ...string) operate.Event {
	o.t.Helper()
	var found operate.Event
	eventually(o.t, 30*time.Second, func() string {
		var story operate.Story
		if bad := o.ask("GET", "/messages/"+id, "", &story); bad != "" {
			return bad
		}
		for _, e := range story.Events {
			lacks := func(part string) bool { return !strings.Contains(e.Text, part) }
			if e.What == what && e.Group == group && !slices.ContainsFunc(parts, lacks) {
				found = e
				return ""
			}
		}
		told, _ := json.MarshalIndent(story, "", " ")
		return fmt.Sprintf("no %s of group %q with %q in %s", what, group, parts, told)
	})
	return found
}

// TestExplain lets a message meet every fate and reads its story.
func TestExplain(t *testing.T) {
	t.Parallel()
	zk := freeAddr(t)
	b := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "trade")
	b.Start()
	o := operator{t, b.admin}
	ctx := patient(t)
	party := func(group string, binding client.Binding, handle client.Handler) *client.Client {
		c, err := client.Dial(ctx, client.Options{ZKHost: zk, Group: group})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Subscribe(ctx, []client.Binding{binding}, handle); err != nil {
			t.Fatal(err)
		}
		return c
	}
	takes := func(context.Context, *client.Delivery) error { return nil }
	books := party("s-books", client.Direct("trade", "paid"), takes)
	defer books.Close(ctx)
	near := party("s-near", client.Direct("trade", "paix"), takes)
	defer near.Close(ctx)
	nacks := party("s-nacks", client.Regx("trade", "^pai"), func(context.Context, *client.Delivery) error { return errors.New("no room for it") })
	defer nacks.Close(ctx)
	away := party("s-away", client.Fanout("trade"), takes)
	if err := away.Close(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func() string {
		var all operate.Groups
		if bad := o.ask("GET", "/groups?topic=trade", "", &all); bad != "" || len(all.Groups) < 4 {
			return fmt.Sprintf("%s%+v", bad, all)
		}
		return ""
	})
	till, err := client.Dial(ctx, client.Options{
		ZKHost: zk, Group: "p-till", Topics: []string{"trade"},
		CheckListener: func(context.Context, client.Check) client.Verdict { return client.Unknown },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer till.Close(ctx)

	id := client.NewID()
	if err := till.Publish(ctx, &client.Message{ID: id, Topic: "trade", Type: "paid", Body: []byte("17"), DeliverLimit: 2}); err != nil {
		t.Fatal(err)
	}
	o.expect(id, operate.Stored, "", "seq 1", "p-till")
	o.expect(id, operate.Settled, "s-books")
	o.expect(id, operate.Unmatched, "s-near", `direct "paix"`)
	o.expect(id, operate.Waiting, "s-away", "connected")
	o.expect(id, operate.Dead, "s-nacks", "2 attempts", "no room for it")
	deadLetters(t, o, id)

	tx := client.NewID()
	prepared, err := till.Prepare(ctx, &client.Message{ID: tx, Topic: "trade", Type: "paid", Body: []byte("18")})
	if err != nil {
		t.Fatal(err)
	}
	prepared.Leave()
	o.expect(tx, operate.Prepared, "", "p-till")
	o.expect(tx, operate.Checked, "", "check ", "127.0.0.1:")
	o.expect(tx, operate.Answered, "", "127.0.0.1:")
	decided(t, o, tx)
	printed(t, b, tx)
	badOrders(t, o, tx)
}

// deadLetters looks at the one of s-nacks, and ends it.
func deadLetters(t *testing.T, o operator, id string) {
	t.Helper()
	var page operate.Letters
	o.must("GET", "/deadletters?topic=trade&group=s-nacks", "", &page)
	if len(page.Letters) != 1 || page.Letters[0].ID != id || page.Letters[0].Seq != 1 || page.Letters[0].State != operate.Dead {
		t.Fatalf("%+v", page)
	}
	var letter operate.Letter
	_, line := o.do("GET", "/deadletters/export?topic=trade&group=s-nacks", "")
	if err := json.Unmarshal(line, &letter); err != nil || string(letter.Body) != "17" || letter.Header.Group != "p-till" || bytes.Count(line, []byte("\n")) != 1 {
		t.Errorf("exported %s: %v", line, err)
	}
	letter = operate.Letter{}
	o.must("POST", "/deadletters/trade/s-nacks/1/discard", `{"by":"ann","reason":"seen"}`, &letter)
	if letter.State != operate.Discarded {
		t.Errorf("%+v", letter)
	}
	o.expect(id, operate.Discarded, "s-nacks", "operator ann", "seen")
	o.must("GET", "/deadletters?topic=trade&group=s-nacks", "", &page)
	if len(page.Letters) != 0 {
		t.Errorf("still listed: %+v", page)
	}
	if status, text := o.do("POST", "/deadletters/trade/s-nacks/1/requeue", ""); status != http.StatusConflict {
		t.Errorf("requeue of a discarded one: %d %s", status, text)
	}
}

// decided lists the transaction, commits it and contradicts that.
func decided(t *testing.T, o operator, tx string) {
	t.Helper()
	var all operate.Transactions
	o.must("GET", "/transactions?topic=trade&state=open", "", &all)
	if len(all.Transactions) != 1 || all.Transactions[0].ID != tx || all.Open != 1 || all.ChecksSent == 0 || all.OldestMs == 0 {
		t.Fatalf("%+v", all)
	}
	var one operate.Transaction
	o.must("POST", "/transactions/"+tx+"/check", "", &one)
	o.must("POST", "/transactions/"+tx+"/commit", `{"by":"ann","reason":"the row is there"}`, &one)
	if one.State != operate.Committed || one.By != "operator ann" || one.Reason != "the row is there" || one.Seq != 2 || one.Repeat {
		t.Errorf("%+v", one)
	}
	o.must("POST", "/transactions/"+tx+"/commit", `{"by":"bob","reason":"again"}`, &one)
	if !one.Repeat || one.By != "operator ann" {
		t.Errorf("%+v", one)
	}
	status, text := o.do("POST", "/transactions/"+tx+"/rollback", `{"by":"bob","reason":"no"}`)
	if status != http.StatusConflict || !strings.Contains(string(text), "operator ann") {
		t.Errorf("%d %s", status, text)
	}
	o.expect(tx, operate.Committed, "", "seq 2", "operator ann", "the row is there")
	o.expect(tx, operate.Checked, "", "127.0.0.1:") // it is told after the decision, too
	o.expect(tx, operate.Refused, "", "rollback by operator bob", "no")
	o.expect(tx, operate.Settled, "s-books")
	o.must("GET", "/transactions", "", &all)
	if all.Open != 0 || all.Conflicts != 1 {
		t.Errorf("%+v", all)
	}
}

// printed reads the story as people do.
func printed(t *testing.T, b *broker, tx string) {
	t.Helper()
	out := ctl(t, "explain", tx, "--admin", b.admin)
	for _, want := range []string{"message " + tx, "topic trade, type paid", "committed as seq 2 by operator ann: the row is there", "s-away"} {
		if !strings.Contains(out, want) {
			t.Errorf("explain lacks %q:\n%s", want, out)
		}
	}
	var story operate.Story
	if err := json.Unmarshal([]byte(ctl(t, "explain", tx, "--admin", b.admin, "-o", "json")), &story); err != nil || story.Seq != 2 {
		t.Errorf("%+v: %v", story, err)
	}
	unknown := exec.CommandContext(t.Context(), filepath.Join(binaries, "kiteqctl"), "explain", strings.Repeat("0", 32), "--admin", b.admin)
	if err := unknown.Run(); err == nil || unknown.ProcessState.ExitCode() != 3 {
		t.Errorf("explain of an unknown id: %v, want exit code 3", err)
	}
}

// badOrders are refused, with a text that names the value and what is allowed.
func badOrders(t *testing.T, o operator, tx string) {
	t.Helper()
	unknown := strings.Repeat("0", 32)
	for _, bad := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"GET", "/messages/17", "", 400, "32 hexadecimal digits"},
		{"GET", "/messages/" + unknown, "", 404, unknown},
		{"GET", "/transactions/" + unknown, "", 404, unknown},
		{"POST", "/transactions/" + unknown + "/check", "", 404, unknown},
		{"POST", "/transactions/" + unknown + "/commit", `{"reason":"x"}`, 404, unknown},
		{"POST", "/transactions/" + tx + "/commit", "", 400, "reason"},
		{"POST", "/transactions/" + tx + "/check", "", 404, "not undecided"},
		{"POST", "/groups/trade/s-books/seek", `{"seq":99}`, 400, "1 to 2"},
		{"POST", "/groups/trade/s-books/seek", `{"time":"yesterday"}`, 400, "RFC 3339"},
		{"POST", "/groups/trade/s-books/seek", "", 400, "seq or time"},
		{"POST", "/groups/trade/nobody/pause", "", 404, "nobody"},
		{"POST", "/groups/trade/" + url.PathEscape("a b") + "/pause", "", 404, "a b"},
		{"GET", "/deadletters/trade/s-nacks/9", "", 404, "1 to 1"},
		{"GET", "/deadletters/trade/s-books/1", "", 404, "none"},
	} {
		status, text := o.do(bad.method, bad.path, bad.body)
		if status != bad.status || !strings.Contains(string(text), bad.text) || !json.Valid(text) {
			t.Errorf("%s %s %s: %d %s, want %d %q", bad.method, bad.path, bad.body, status, text, bad.status, bad.text)
		}
	}
}
