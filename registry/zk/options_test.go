package zk_test

import (
	"errors"
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
	} {
		got, err := zk.ParseURL(text)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b zk.Options) bool {
			return cmp.Equal(a.Hosts, b.Hosts) && a.Root == b.Root && a.SessionTimeout == b.SessionTimeout
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
		"zk://me:secret@h1":        "user or password",
		"zk://h1//a":               `"" is no name`,
		"zk://h1/a/../b":           `".." is no name`,
		"zk://h1?timeout=30":       `timeout "30"`,
		"zk://h1?timeout=-1s":      `timeout "-1s"`,
		"zk://h1?timeout=":         `timeout ""`,
		"zk://h1?retries=3":        `"retries"`,
		"zk://h1?timeout=1s&x=%zz": "query",
	} {
		_, err := zk.ParseURL(text)
		if !errors.Is(err, kite.Invalid) || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), zk.Form) {
			t.Errorf("%q: error %v, want code %v, %q and the form", text, err, kite.Invalid, part)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"zk://h1:2181,h2/root?timeout=30s", "h", "[::1]:1", "zk://?timeout=1s", "a/b/", "a?%"} {
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
