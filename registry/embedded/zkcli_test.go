package embedded

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// zkCli is Debian's command line client, Java, of ZooKeeper 3.8.
const zkCli = "/usr/share/zookeeper/bin/zkCli.sh"

// TestZkCli drives the server with ZooKeeper's own client. When a real ZooKeeper is named, it must meet
// the same expectations.
func TestZkCli(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("java"); err != nil {
		t.Skip("no java here")
	}
	if _, err := os.Stat(zkCli); err != nil {
		t.Skipf("no ZooKeeper client here: %v", err)
	}
	tests := []struct {
		command string
		want    string // a regular expression that the output of the command matches
	}{
		{"create /cli", "Created /cli"},
		{"create /cli", "Node already exists: /cli"},
		{"create /cli/a hello", "Created /cli/a"},
		{"create -e /cli/e data", "Created /cli/e"},
		{"create /cli/e/x", "Ephemerals cannot have children: /cli/e/x"},
		{"create -s /cli/s- data", `Created /cli/s-0000000002`},
		{"create -s -e /cli/s- data", `Created /cli/s-0000000003`},
		{"create -c /cli/container", "Created /cli/container"},
		{"create -t 60000 /cli/ttl", "Created /cli/ttl"},
		{"create /no/parent", "Node does not exist: /no/parent"},
		{"get /cli/a", "hello"},
		{"get -s /cli/a", `hello\n.*cZxid = 0x[0-9a-f]+\nctime = .*\nmZxid = .*\nmtime = .*\npZxid = .*\ncversion = 0\ndataVersion = 0\naclVersion = 0\nephemeralOwner = 0x0\ndataLength = 5\nnumChildren = 0`},
		{"set -s /cli/a longer", `dataVersion = 1\n(.*\n)*dataLength = 6`},
		{"set -v 0 /cli/a x", "version No is not valid : /cli/a"},
		{"stat /cli", `cversion = 6\n(.*\n)*numChildren = 6`},
		{"stat /none", "Node does not exist: /none"},
		{"ls /cli", `\[a, container, e, s-0000000002, s-0000000003, ttl\]`},
		{"ls -s /cli", `\[a, .*\]\n?cZxid`},
		{"ls -R /cli", `/cli\n/cli/a\n/cli/container\n`},
		{"get -w /cli/a", "longer"},
		{"set /cli/a watched", `type:NodeDataChanged path:/cli/a`},
		{"ls -w /cli/a", `\[\]`},
		{"create /cli/a/b", `type:NodeChildrenChanged path:/cli/a`},
		{"addWatch -m PERSISTENT_RECURSIVE /cli/a", ``},
		{"delete /cli/a/b", `type:NodeDeleted path:/cli/a/b`},
		{"create /cli/a/b", `type:NodeCreated path:/cli/a/b`},
		{"removewatches /cli/a", `type:PersistentWatchRemoved path:/cli/a`},
		{"delete /cli/a", "Node not empty: /cli/a"},
		{"delete -v 7 /cli/a/b", "version No is not valid"},
		{"getAllChildrenNumber /cli", `^7$`},
		{"getEphemerals /cli", `\[(/cli/e, /cli/s-0000000003|/cli/s-0000000003, /cli/e)\]`},
		{"getAcl /cli/a", `'world,'anyone\n: cdrwa`},
		{"addauth digest ann:secret", ``},
		{"whoami", `digest: ann`},
		{"setAcl /cli/a auth:ann:secret:crwda", ``},
		{"getAcl /cli/a", `'digest,'ann:[A-Za-z0-9+/]{27}=\n: cdrwa`},
		{"setAcl /cli/container digest:bob:xyz:r", ``},
		{"get /cli/container", "Insufficient permission : /cli/container"},
		{"delete /cli/container", ``},
		{"sync /cli", "Sync is OK"},
		{"delete /zookeeper", `Arguments are not valid|not valid`},
		{"reconfig -add server.1=localhost:1:2;3", `(?i)reconfig`},
		{"deleteall /cli", ``},
		{"stat /cli", "Node does not exist: /cli"},
	}
	addrs := map[string]string{"embedded": start(t, Options{Dir: t.TempDir()}).Addr()}
	if addr := os.Getenv(zkVariable); addr != "" {
		addrs["real"] = addr
	}
	const marker = "stat /marker"
	var script strings.Builder
	for _, tt := range tests {
		script.WriteString(tt.command + "\n" + marker + "\n")
	}
	script.WriteString("quit\n")
	for name, addr := range addrs {
		outputs := strings.Split(runZkCli(t, addr, script.String()), "Node does not exist: /marker\n")
		if len(outputs) != len(tests)+1 {
			t.Fatalf("%s: %d outputs for %d commands:\n%s", name, len(outputs), len(tests), outputs)
		}
		for i, tt := range tests {
			got := outputs[i]
			if strings.HasPrefix(tt.want, "type:") { // events are printed beside, perhaps later
				got = strings.Join(outputs[i:], "")
			}
			if !regexp.MustCompile(tt.want).MatchString(strings.TrimSpace(got)) {
				t.Errorf("%s: %s: output %q, want %q", name, tt.command, got, tt.want)
			}
		}
	}
}

func runZkCli(t *testing.T, addr, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, zkCli, "-server", addr)
	cmd.Dir = t.TempDir()
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if !strings.Contains(string(out), "state:Closed") { // its exit code only tells of the last command
		t.Fatalf("zkCli: %v\n%s", err, out)
	}
	return string(out)
}
