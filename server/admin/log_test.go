package admin

import (
	"net/http"
	"strings"
	"testing"
)

// TestLogLevel sees and changes the level, by PUT and by POST.
func TestLogLevel(t *testing.T) {
	t.Parallel()
	f := &fake{level: "info"}
	_, url := listen(t, f)
	if code, _, text := fetch(t, http.MethodGet, url+"/log"); code != http.StatusOK || text != `{"level":"info"}`+"\n" {
		t.Errorf("%d %s", code, text)
	}
	send := func(method, body, origin string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url+"/log", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		f.mu.Lock()
		defer f.mu.Unlock()
		return response.StatusCode, f.level + " " + f.by
	}
	for _, test := range []struct {
		method, body, origin string
		code                 int
		now                  string
	}{
		{http.MethodPut, `{"level":"debug","by":"ann"}`, "", http.StatusOK, "debug operator ann"},
		{http.MethodPost, `{"level":"warn"}`, "", http.StatusOK, "warn operator 127.0.0.1"},
		{http.MethodPut, `{"level":"loud"}`, "", http.StatusBadRequest, "warn operator 127.0.0.1"},
		{http.MethodPut, `{"level":"debug"}`, "http://elsewhere.example", http.StatusForbidden, "warn operator 127.0.0.1"},
	} {
		if code, now := send(test.method, test.body, test.origin); code != test.code || now != test.now {
			t.Errorf("%s %s from %q: %d, then %q; want %d, %q", test.method, test.body, test.origin, code, now, test.code, test.now)
		}
	}
}
