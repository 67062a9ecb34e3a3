package mysql

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url   string
		want  Options
		notes int
		bad   string // in the error
	}{
		{url: "mysql://h", want: Options{Master: "h:3306"}},
		{url: "mysql://root@h:3307/", want: Options{Master: "h:3307", User: "root"}},
		{url: "mysql://u:p%40ss%3A@h,r:3307?db=kite", want: Options{Master: "h:3306", Replica: "r:3307", User: "u", Password: "p@ss:", DB: "kite"}},
		{url: "mysql://[::1]:3307,[::2]", want: Options{Master: "[::1]:3307", Replica: "[::2]:3306"}},
		{
			url:   "mysql://h?db=kite&username=u&password=p&shardnum=2&batchUpdateSize=100&batchDelSize=100&flushSeconds=1&maxConn=20",
			want:  Options{Master: "h:3306", DB: "kite", User: "u", Password: "p", Shards: 2, MaxConn: 20},
			notes: 3,
		},
		{
			url: "mysql://h?broker=b1&tls=skip-verify&timeout=1s&readTimeout=2s&writeTimeout=3s&takeover_after=10s&db=",
			want: Options{
				Master: "h:3306", Broker: "b1", TLS: "skip-verify", Timeout: time.Second, ReadTimeout: 2 * time.Second,
				WriteTimeout: 3 * time.Second, TakeoverAfter: 10 * time.Second,
			},
		},
		{url: "mysql://", bad: `server "": write host:port`},
		{url: "mysql://u:secret@h:x", bad: `server "h:x"`},
		{url: "mysql://u:secret@a,b,c", bad: "3 servers"},
		{url: "mysql://u:secret%@h", bad: "write it as %25"},
		{url: "mysql://u:secret@h?shardnum=17", bad: "shardnum 17: use 1 to 16"},
		{url: "mysql://u:secret@h?shardnum=many", bad: `shardnum "many": write a number`},
		{url: "mysql://u:secret@h?tls=maybe&timeout=5", bad: `tls "maybe"`},
		{url: "mysql://u:secret@h?tls=maybe&timeout=5", bad: `timeout "5": write a time`},
		{url: "mysql://u@h?shards=3&password=secret", bad: `parameter "shards" is unknown; use broker, db, maxConn`},
		{url: "mysql://u@h?password=secret%zz", bad: "cannot be read"},
		{url: "mysql://u@h?db=a%60b&password=secret", bad: "db \"a`b\""},
		{url: "file://x", bad: "use mysql://"},
	} {
		got, notes, err := ParseURL(c.url)
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) || kite.CodeOf(err) != kite.Invalid || strings.Contains(err.Error(), "secret") {
				t.Errorf("parse %s: %v, want %q with code invalid and without the password", c.url, err, c.bad)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, c.want) || len(notes) != c.notes {
			t.Errorf("parse %s: %+v, %d notes, %v; want %+v, %d notes", c.url, got, len(notes), err, c.want, c.notes)
		}
	}
}

// TestSecret holds that the password is in nothing that is printed.
func TestSecret(t *testing.T) {
	t.Parallel()
	o, _, err := ParseURL("mysql://u:hunter2@h?db=kite")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprintf("%v %+v %#v %v", o, o, o, &o), Redact("mysql://u:hunter2@h:1,r?db=kite&password=hunter2&tls=true"), Redact("mysql:/u:hunter2@h"),
	} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the password is in %s", text)
		}
	}
	if got := Redact("mysql://u:hunter2@h:1,r?db=kite&password=hunter2&tls=true"); got != "mysql://u@h:1,r?db=kite&tls=true" {
		t.Errorf("redacted: %s", got)
	}
}
