package zk_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/registry/zk"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]zk.Options{
		"zk://h1:2181,h2:2182":              {Hosts: []string{"h1:2181", "h2:2182"}},
		"h1:2181,h2":                        {Hosts: []string{"h1:2181", "h2:2181"}},
		" zk://h1 , h2 ":                    {Hosts: []string{"h1:2181", "h2:2181"}},
		"zk://h1/":                          {Hosts: []string{"h1:2181"}},
		"zk://h1:2181/apps/kite?timeout=5s": {Hosts: []string{"h1:2181"}, Root: "/apps/kite", SessionTimeout: 5 * time.Second},
		"h1/apps":                           {Hosts: []string{"h1:2181"}, Root: "/apps"},
		"h1?timeout=1m":                     {Hosts: []string{"h1:2181"}, SessionTimeout: time.Minute},
		"zk://[::1]:2181,[::2],127.0.0.1":   {Hosts: []string{"[::1]:2181", "[::2]:2181", "127.0.0.1:2181"}},
		"zk://me:secret@h1,h2/a?timeout=9s": {Hosts: []string{"h1:2181", "h2:2181"}, Auth: "me:secret", Root: "/a", SessionTimeout: 9 * time.Second},
		"zk://me:pw@h1?acl=digest":          {Hosts: []string{"h1:2181"}, Auth: "me:pw", Protect: true},
		"h1?acl=open":                       {Hosts: []string{"h1:2181"}},
		"me:@h1":                            {Hosts: []string{"h1:2181"}, Auth: "me:"},
		"zk://m%65:p%40%2F%3f%25:,+ @h1":    {Hosts: []string{"h1:2181"}, Auth: "me:p@/?%:,+ "},
	} {
		got, err := zk.ParseURL(text)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b zk.Options) bool {
			return cmp.Equal(a.Hosts, b.Hosts) && a.Root == b.Root && a.Auth == b.Auth && a.SessionTimeout == b.SessionTimeout && a.Protect == b.Protect
		})); err != nil || diff != "" {
			t.Errorf("%q: error %v, %s", text, err, diff)
		}
		if err := got.WithDefaults().Validate(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	t.Parallel()
	for text, part := range map[string]string{
		"":                         "a host is empty",
		"zk://":                    "a host is empty",
		"h1,,h2":                   "a host is empty",
		"etcd://h1:2379":           `scheme "etcd"`,
		"zk://h1:port":             `port "port"`,
		"zk://h1:0":                `port "0"`,
		"zk://h1:70000":            `port "70000"`,
		"zk://:2181":               `":2181"`,
		"zk://::1":                 `"::1"`,
		"[h1":                      `"[h1" is not`,
		"h1,[\f0]":                 `no usable name`,
		"etcd://me:pw@h1:2379":     `scheme "etcd"`,
		"zk://h1//a":               `"" is no name`,
		"zk://h1/a/../b":           `".." is no name`,
		"zk://h1?timeout=30":       `timeout "30"`,
		"zk://h1?timeout=-1s":      `timeout "-1s"`,
		"zk://h1?timeout=":         `timeout ""`,
		"zk://h1?retries=3":        `"retries"`,
		"zk://h1?acl=digest":       `needs user:password@`,
		"zk://h1?acl=closed":       `acl "closed"`,
		"zk://h1?timeout=1s&x=%zz": "query",
	} {
		_, err := zk.ParseURL(text)
		if !errors.Is(err, kite.Invalid) || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), zk.Form) {
			t.Errorf("%q: error %v, want code %v, %q and the form", text, err, kite.Invalid, part)
		}
	}
}

// TestSecretIsNotShown: whatever is wrong with an address, the password is in no message.
func TestSecretIsNotShown(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct{ part, shown string }{
		"zk://me:hush@":                  {"a host is empty", `"zk://me:***@"`},
		"zk://me:hush@h1:x":              {`port "x"`, `"zk://me:***@h1:x"`},
		"me:hush@h1?retries=3":           {`"retries"`, `"me:***@h1?retries=3"`},
		" zk://me:hush@h1//":             {`"" is no name`, `"zk://me:***@h1//"`},
		"zk://me:hush/x@h1":              {"%2F", `"zk://me:***@h1"`},
		"zk://me:x?hush@h1":              {"%3F", `"zk://me:***@h1"`},
		"zk://me:x@hush@h1":              {"%40", `"zk://me:***@h1"`},
		"me:x://hush@h1":                 {"%2F", `"me:***@h1"`},
		"zk://me:hush%zz@h1":             {"%25", `"zk://me:***@h1"`},
		"zk://m%3Ae:hush@h1":             {"contains a ':'", `"zk://m%3Ae:***@h1"`},
		"zk://hush@h1":                   {"no user:password", `"zk://***@h1"`},
		"zk://:hush@h1":                  {"no user:password", `"zk://:***@h1"`},
		"zk://me:hush@h1,me:hush@h2/x":   {"%40", `"zk://me:***@h2/x"`},
		"etcd://me:hush@h1":              {`scheme "etcd"`, `"etcd:***@h1"`},
		"zk://me:hush@h1?timeout=1s&x=@": {"%3F", `"zk://me:***@"`},
	} {
		_, err := zk.ParseURL(text)
		if !errors.Is(err, kite.Invalid) || !strings.Contains(err.Error(), want.part) || !strings.Contains(err.Error(), want.shown) {
			t.Errorf("%q: error %v, want code %v, %q and %s", text, err, kite.Invalid, want.part, want.shown)
		}
		if strings.Contains(fmt.Sprint(err), "hush") {
			t.Errorf("%q: the error shows the password: %v", text, err)
		}
	}
	o, err := zk.ParseURL("zk://me:hush@h1,h2/kite")
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "options", o)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "options", o)
	for _, text := range []string{fmt.Sprint(o), fmt.Sprintf("%+v", o), log.String()} {
		if strings.Contains(text, "hush") || !strings.Contains(text, "zk://me:***@h1:2181,h2:2181/kite") {
			t.Errorf("options are shown as %s", text)
		}
	}
	if got := zk.Redacted("zk://h1:2181/kite"); got != "zk://h1:2181/kite" {
		t.Errorf("an address without a password is shown as %s", got)
	}
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"zk://h1:2181,h2/root?timeout=30s", "zk://me:p%40%2f@h", "a:b@c@d/e", "a%3a:b@c", "h", "[::1]:1", "zk://?timeout=1s", "a/b/", "a?%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := zk.ParseURL(text)
		if err != nil {
			if !errors.Is(err, kite.Invalid) {
				t.Fatalf("%q: %v has not the code %v", text, err, kite.Invalid)
			}
			return
		}
		if o.Auth != "" {
			// Encoded anew it is the same; shown, it is not there.
			user, password, _ := strings.Cut(o.Auth, ":")
			again, err := zk.ParseURL("zk://" + url.UserPassword(user, password).String() + "@" + o.Hosts[0])
			if err != nil || again.Auth != o.Auth {
				t.Fatalf("%q: auth %q became %q, error %v", text, o.Auth, again.Auth, err)
			}
			if want := "zk://" + user + ":***@"; !strings.HasPrefix(o.String(), want) {
				t.Fatalf("%q is shown as %q, want %q first", text, o, want)
			}
		}
		timeout := o.SessionTimeout
		o.SessionTimeout = 0 // its range is checked by Validate, not by ParseURL
		if err := o.WithDefaults().Validate(); err != nil || timeout < 0 {
			t.Fatalf("%q gives options that do not validate: %v, timeout %v", text, err, timeout)
		}
		again, err := zk.ParseURL("zk://" + strings.Join(o.Hosts, ",") + o.Root)
		if err != nil || !cmp.Equal(again.Hosts, o.Hosts) || again.Root != o.Root && !strings.Contains(o.Root, "?") {
			t.Fatalf("%q: %v and chroot %q became %v and %q, error %v", text, o.Hosts, o.Root, again.Hosts, again.Root, err)
		}
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	bad := zk.Options{
		Hosts: []string{"h1"}, Root: "kite", Auth: "secret-without-user",
		SessionTimeout: time.Millisecond, ConnectTimeout: time.Hour, Spacing: time.Minute, GapOnLeftover: time.Hour,
	}
	err := bad.Validate()
	if err == nil {
		t.Fatal("everything is wrong and nothing was refused")
	}
	for _, part := range []string{`"h1"`, `"kite"`, "user:password", "session timeout 1ms", "connect timeout 1h", "spacing 1m", "gap on leftover 1h"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in the error:\n%v", part, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error shows the password: %v", err)
	}
	if err := (zk.Options{}).WithDefaults().Validate(); err == nil {
		t.Error("no host was accepted")
	}
	off := zk.Options{Hosts: []string{"h1:2181"}, Spacing: -1, GapOnLeftover: -1}
	if err := off.WithDefaults().Validate(); err != nil {
		t.Errorf("pauses switched off: %v", err)
	}
}
