package conf

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSampleShowsDefaults reads conf/kiteq.toml: every key is known and at its default, and there is no
// key that it does not show.
func TestSampleShowsDefaults(t *testing.T) {
	t.Parallel()
	got, err := Load([]string{"-configPath=kiteq.toml"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Network.Addr, want.Path = want.Bind, "kiteq.toml"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	sample, err := os.ReadFile("kiteq.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Keys() {
		key := k.Name
		if !bytes.Contains(sample, []byte(key+" = ")) {
			t.Errorf("kiteq.toml does not show %s", key)
		}
	}
}

func TestFlagsWinOverFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kiteq.toml")
	if err := os.WriteFile(path, []byte("topics = [\"a\", \"b\"]\nbind = \"127.0.0.1:1\"\n[delivery]\nack_timeout = \"7s\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load([]string{"-configPath=" + path, "-topics=x, y", "-zkhost=h1:2181,h2:2181"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(c.Topics, " ") != "x y" || c.Bind != "127.0.0.1:1" || c.Delivery.AckTimeout != 7*time.Second || c.Delivery.Window != 4096 {
		t.Errorf("%+v", c)
	}
}

// TestProblems gives one bad value at a time, and several at once: every one is named.
func TestProblems(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "kiteq.toml")
	text := `
topics = ["ok", "no/good"]
in_flight = 100
accept_per_second = -1
drain_timeout = "-1s"
nonsense = 1
[network]
outbound_bytes = "1KiB"
[lane]
dedupe_window = "1ms"
[delivery]
window = -1
[transaction]
max_checks = 5000
speed = "high"
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tables := filepath.Join(t.TempDir(), "tables.toml")
	if err := os.WriteFile(tables, []byte("sync = \"always\"\n[delivery]\nretry = \"1s\"\n[webhook]\nurls = 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		want []string
	}{
		{"unknown keys", []string{"-configPath=" + file}, []string{`"nonsense"`, `"transaction.speed"`}},
		{"values", nil, nil},
		{"limits", []string{"-adminHost=localhost"}, []string{`-adminHost "localhost"`}},
		{"no value", []string{"-pport=x"}, []string{`"x"`, "kiteq -help"}},
		{"no flag", []string{"pub"}, []string{`"pub"`, "takes flags only"}},
		{"flags", []string{"-bind=x", "-topics=a,a,b c", "-db=mmap://", "-zkhost=zk://", "-pport=-2", "-advertise=host:1", "-sync=a=fast,b c=os"},
			[]string{`-bind "x"`, `"a" is named twice`, `"b c"`, `-db store "mmap://"`, "-zkhost", "-pport -2", `-advertise "host:1"`, `-sync: "fast" for topic a: use always or os`, `-sync: topic "b c"`}},
		{"no tables", []string{"-configPath=" + tables}, []string{"sync: write a table", "delivery.retry: write a table", "webhook.urls: write a table"}},
		{"sync", []string{"-sync=trade"}, []string{`"trade": write topic=always`}},
		{"sync twice", []string{"-sync=a=os,a=always"}, []string{`"a" is named twice`}},
	} {
		if test.args == nil {
			known := strings.NewReplacer("nonsense = 1\n", "", "speed = \"high\"\n", "").Replace(text)
			path := filepath.Join(t.TempDir(), "known.toml")
			if err := os.WriteFile(path, []byte(known), 0o600); err != nil {
				t.Fatal(err)
			}
			test.args = []string{"-configPath=" + path}
			test.want = []string{`"no/good"`, "in_flight 100", "accept_per_second -1", "drain_timeout -1s", "1KiB", "1ms", "window -1", "max checks 5000"}
		}
		_, err := Load(test.args, &bytes.Buffer{})
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in: %v", test.name, want, err)
			}
		}
	}
}

func TestSyntaxErrorNamesTheLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kiteq.toml")
	if err := os.WriteFile(path, []byte("bind = \":1\"\ntopics = [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load([]string{"-configPath=" + path}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "line ") {
		t.Errorf("%v", err)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if _, err := Load([]string{"-help"}, &out); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"-bind", "-zkhost", "-topics", "-db", "-configPath", "-clusterName", "-pport", "-adminHost",
		"-sync", "-logPath", "-logxml", "-deliveryFirst", "conf/kiteq.toml", "(default message)", "(default \":13800\")",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help does not name %s", want)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	_, err := Load([]string{"-version"}, &out)
	if !errors.Is(err, flag.ErrHelp) || !strings.HasPrefix(out.String(), "kiteq ") || !strings.Contains(out.String(), runtime.Version()) || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%v, %q", err, out.String())
	}
}

func TestParseStore(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ raw, kind, bad string }{
		{raw: "mmap://data/x", kind: "mmap"},
		{raw: "file:///data/x?cap=1000", kind: "mmap"},
		{raw: "memory://initcap=10&maxcap=20", kind: "memory"},
		{raw: "mock://", kind: "mock"},
		{raw: "mock://x", bad: "use mock:// alone"},
		{raw: "rocksdb:///data/rocks", bad: "use mmap://"},
		{raw: "mysql://u:p@h:3306,r?db=kite&shardnum=2&flushSeconds=1", kind: "mysql"},
		{raw: "mysql://u:p@h:3306?shard=2", bad: `store "mysql://u@h:3306?shard=2": parameter "shard" is unknown`},
		{raw: "mysql:/u:p@h:3306", bad: `"mysql://u@h:3306": use mmap://dir`},
		{raw: "etcd://h", bad: "use mmap://dir"},
		{raw: "", bad: "use mmap://dir"},
	} {
		u, err := ParseStore(test.raw)
		if test.bad != "" {
			if err == nil || !strings.Contains(err.Error(), test.bad) {
				t.Errorf("%q: %v, want %q", test.raw, err, test.bad)
			}
			continue
		}
		kind := map[bool]string{u.MMap != nil: "mmap", u.Memory != nil: "memory", u.MySQL != nil: "mysql", u.Mock: "mock"}[true]
		if err != nil || kind != test.kind {
			t.Errorf("%q: %s, %v; want %s", test.raw, kind, err, test.kind)
		}
	}
}

func TestParseRegistry(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ raw, addr, dir, hosts string }{
		{raw: "embedded", dir: "data/registry"},
		{raw: "embedded://127.0.0.1:2999?data=/x", addr: "127.0.0.1:2999", dir: "/x"},
		{raw: "embedded://?data=", dir: ""},
		{raw: "zk://h1:2181,h2:2182", hosts: "h1:2181 h2:2182"},
		{raw: "h1:2181", hosts: "h1:2181"},
	} {
		u, err := ParseRegistry(test.raw)
		switch {
		case err != nil:
			t.Errorf("%s: %v", test.raw, err)
		case test.hosts != "":
			if got := strings.Join(u.ZK.Hosts, " "); got != test.hosts {
				t.Errorf("%s: hosts %s", test.raw, got)
			}
		case u.Embedded.Addr != test.addr || u.Embedded.Dir != test.dir:
			t.Errorf("%s: %+v", test.raw, u.Embedded)
		}
	}
	for _, raw := range []string{"embedded://host:1", "embedded://127.0.0.1:1?dir=x", "file://", "etcd://x", ""} {
		if _, err := ParseRegistry(raw); err == nil {
			t.Errorf("%q was accepted", raw)
		}
	}
}

// TestRetryPolicies reads the pauses of single groups, and names those that cannot be.
func TestRetryPolicies(t *testing.T) {
	t.Parallel()
	load := func(text string) (Config, error) {
		path := filepath.Join(t.TempDir(), "kiteq.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Load([]string{"-configPath=" + path}, &bytes.Buffer{})
	}
	c, err := load("[delivery]\nbreaker_after = -1\n[delivery.retry]\ns-members = [\"0s\", \"1s\", \"1m\"]\n\"s other\" = [\"24h\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]time.Duration{"s-members": {0, time.Second, time.Minute}, "s other": {24 * time.Hour}}
	if diff := cmp.Diff(want, c.Delivery.Retry); diff != "" || c.Delivery.BreakerAfter != -1 {
		t.Error(diff, c.Delivery.BreakerAfter)
	}
	_, err = load("[delivery]\nbreaker_after = -2\ndead_retention = \"1s\"\n[delivery.retry]\na = []\nb = [\"25h\"]\n\"c/d\" = [\"1s\"]\n")
	for _, want := range []string{"breaker after -2", "dead retention 1s", `retry of group "a": 0 pauses`, `"b": pause 25h`, `"c/d"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if _, err = load("[delivery.retry]\na = [\"soon\"]\n"); err == nil || !strings.Contains(err.Error(), "soon") {
		t.Errorf("no duration: %v", err)
	}
}
