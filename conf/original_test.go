package conf

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestOriginalFile loads a file of the original KiteQ as it is and compares all that comes of it.
func TestOriginalFile(t *testing.T) {
	t.Parallel()
	common := func(c Config) Config {
		c.Network.Addr = c.Bind
		return c
	}
	dev := Default()
	dev.Topics = []string{"trade", "feed", "message"}
	dev.ZKHost, dev.Store = "zk://localhost:2181", "memory://initcap=100000&maxcap=200000"
	dev.AcceptPerSecond, dev.LogXML = 20000, "./conf/log.xml"
	dev.Notes = []string{
		"dlqExecHour=2 means nothing here: dead letters are written at once, not by the hour",
		"maxDeliverWorkers=8000 means nothing here: in_flight and delivery.window bound the deliveries",
		"recoverSeconds=10 means nothing here: a message is sent again when it is due, not in rounds",
	}
	online := Default()
	online.Topics = []string{"trade"}
	online.ZKHost = "zk://10.1.0.1:2181,10.1.0.2:2181,10.1.0.3:2181?timeout=50s"
	online.Store = "file:///data/kiteq?cap=1000000&checkSeconds=1&flushBatchSize=1000"
	online.ClusterName, online.DeliveryFirst, online.Delivery.AckTimeout = "trade_online", true, 10*time.Second
	online.AcceptPerSecond, online.LogXML = 8000, "./conf/log_online.xml"
	online.Notes = []string{
		"dlqExecHour=4 means nothing here: dead letters are written at once, not by the hour",
		"maxDeliverWorkers=4000 means nothing here: in_flight and delivery.window bound the deliveries",
		"recoverSeconds=60 means nothing here: a message is sent again when it is due, not in rounds",
	}
	flagged := online
	flagged.Bind, flagged.Topics, flagged.DeliveryFirst, flagged.LogPath = "10.1.0.9:13800", []string{"fee"}, false, "./logs"
	for _, test := range []struct {
		name string
		args []string
		want Config
	}{
		{"default cluster", nil, common(dev)},
		{"other cluster", []string{"-clusterName=trade_online"}, common(online)},
		{"flags win", []string{"-clusterName", "trade_online", "-bind=10.1.0.9:13800", "-topics=fee", "-deliveryFirst=false", "-logPath=./logs"}, common(flagged)},
	} {
		got, err := Load(append([]string{"-configPath=testdata/original.toml"}, test.args...), &bytes.Buffer{})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		test.want.Path = "testdata/original.toml"
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

// withOriginal loads an original file with lines of the default cluster and text around it.
func withOriginal(t *testing.T, before, cluster string, args ...string) (Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kiteq.toml")
	content := before + "\n[registry.dev]\nhosts = \"zk://h:2181\"\n[clusters.default_dev]\n" + cluster + "\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(append([]string{"-configPath=" + path}, args...), &bytes.Buffer{})
}

// TestOriginalProblems gives files of the original with mistakes in them: every one is named, and all at once.
func TestOriginalProblems(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, before, cluster string
		args                  []string
		want                  []string
	}{
		{name: "unknown cluster", cluster: `env = "dev"`, args: []string{"-clusterName=prod"}, want: []string{`no cluster "prod", but default_dev`}},
		{name: "unknown env", cluster: `env = "online"`, want: []string{`env "online": there is no such registry, but dev`}},
		{name: "no env", cluster: `topics = ["a"]`, want: []string{"clusters.default_dev.env is missing", "dev"}},
		{name: "env is a number", cluster: `env = 1`, want: []string{"clusters.default_dev.env: 1: write a text"}},
		{
			name: "everything at once",
			before: `
in_flight = 99
nonsense = 1
[registry.other]
hots = "zk://x"
[clusters.elsewhere]
recoverSecond = 1
`,
			cluster: `
env = "dev"
topics = ["a", 1]
dlqExecHour = 24
deliveryFirst = "no"
logxml = 3
db = "rocksdb:///data"
deliverySeconds = 0
maxDeliverWorkers = -1
recoverSeconds = "10s"
recievePermitsPerSecond = 1e9
receivePermitsPerSecond = 1
`,
			want: []string{
				"in_flight 99", `"nonsense"`, `"registry.other.hots"`, `"clusters.elsewhere.recoverSecond"`,
				`"clusters.default_dev.receivePermitsPerSecond"`, "default_dev.topics: [a 1]", "dlqExecHour: 24: write a whole number from 0 to 23",
				"deliveryFirst: no: write true or false", "logxml: 3", "use mmap://", "deliverySeconds: 0", "maxDeliverWorkers: -1",
				"recoverSeconds: 10s", "recievePermitsPerSecond: 1e+09",
			},
		},
		{
			name:    "said twice",
			before:  "topics = [\"a\"]\nzkhost = \"zk://g:2181\"\n[delivery]\nack_timeout = \"6s\"",
			cluster: "env = \"dev\"\ntopics = [\"b\"]\ndeliverySeconds = 7",
			want:    []string{"topics and clusters.default_dev.topics say the same", "delivery.ack_timeout and clusters.default_dev.deliverySeconds", "zkhost and registry.dev.hosts"},
		},
		{name: "hosts of the wrong type", before: "[registry.bad]\nhosts = [\"h:1\"]", cluster: `env = "bad"`, want: []string{"registry.bad.hosts: [h:1]: write a text"}},
		{name: "hosts missing", before: "[registry.bad]", cluster: `env = "bad"`, want: []string{"registry.bad.hosts: <nil>"}},
		{name: "not tables", before: "registry = 3", cluster: `env = "dev"`, want: []string{"line "}},
	} {
		_, err := withOriginal(t, test.before, test.cluster, test.args...)
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in: %v", test.name, want, err)
			}
		}
	}
}

// TestOriginalBesideOurs mixes both forms, which say different things.
func TestOriginalBesideOurs(t *testing.T) {
	t.Parallel()
	c, err := withOriginal(t, "in_flight = 7\n[lane]\nretention = \"3h\"", "env = \"dev\"\ntopics = [\"b\"]")
	if err != nil || c.InFlight != 7 || c.Lane.Retention != 3*time.Hour || c.Topics[0] != "b" || c.ZKHost != "zk://h:2181" {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = withOriginal(t, `cluster_name = "other"`+"\n[clusters.other]\nenv = \"dev\"", `env = "nowhere"`); err != nil || c.ClusterName != "other" {
		t.Errorf("cluster chosen by the file: %q, %v", c.ClusterName, err)
	}
}

// TestOriginalPermits: the original refused everything with 0 and 1, here they are no limit.
func TestOriginalPermits(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]struct{ limit, notes int }{
		"recievePermitsPerSecond = 0": {0, 1}, "recievePermitsPerSecond = 1": {0, 1},
		"recievePermitsPerSecond = 2": {2, 0}, "recievePermitsPerSecond = 2147483647": {1<<31 - 1, 0}, "": {0, 0},
	} {
		c, err := withOriginal(t, "", "env = \"dev\"\n"+value)
		if err != nil || c.AcceptPerSecond != want.limit || len(c.Notes) != want.notes {
			t.Errorf("%q: limit %d, notes %q, %v; want %+v", value, c.AcceptPerSecond, c.Notes, err, want)
		}
	}
}

// FuzzFile feeds anything as a configuration file: it is taken or refused, and never half understood.
func FuzzFile(f *testing.F) {
	for _, name := range []string{"kiteq.toml", "testdata/original.toml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("[clusters]\ndefault_dev = 1")
	f.Add("[[clusters.default_dev]]\nenv=\"x\"")
	f.Fuzz(func(t *testing.T, content string) {
		path := filepath.Join(t.TempDir(), "kiteq.toml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load([]string{"-configPath=" + path}, &bytes.Buffer{})
		if err == nil && c.Validate() != nil {
			t.Errorf("loaded, but not valid: %v", c.Validate())
		}
	})
}
