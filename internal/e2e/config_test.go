package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestConfigCheck: a good configuration ends with 0, a bad one with 1 and a line for each problem, and neither starts
// a broker.
func TestConfigCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check := func(text string) (string, int) {
		t.Helper()
		path := filepath.Join(dir, "kiteq.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(patient(t), filepath.Join(binaries, "kiteq"), "-config-check", "-configPath="+path)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := check("topics = [\"a\"]\n[sync]\nb = \"os\"\n"); code != 0 || !strings.Contains(out, "note: sync of topic b") || !strings.HasSuffix(out, "the configuration is good\n") {
		t.Errorf("%d: %s", code, out)
	}
	out, code := check("in_flight = 100\nnonsense = 1\nlog_xml = \"gone.xml\"\ndb = \"mysql://ann:secret@\"\n[delivery]\nwindow = -1\n[tls]\nlisten = \":1\"\ncert = \"gone.pem\"\nkey = \"gone.key\"\n")
	if lines := strings.Count(out, "\n"); code != 1 || lines != 6 || strings.Count("\n"+out, "\nkiteq: ") != lines || strings.Contains(out, "secret") {
		t.Errorf("%d: %d lines:\n%s", code, lines, out)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestHangup: SIGHUP, and a file that changes, have the configuration read again; a bad one changes nothing.
func TestHangup(t *testing.T) {
	t.Parallel()
	b := newBroker(t, embeddedURL(freeAddr(t), ""), "trade")
	b.Start()
	file := filepath.Join(b.dir, "kiteq.toml")
	expect := func(lines ...string) {
		t.Helper()
		eventually(t, 30*time.Second, func() string {
			for _, line := range lines {
				if !strings.Contains(b.log.String(), line) {
					return line + " is not in the log"
				}
			}
			return ""
		})
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(config + "[lane]\nretention = \"3h\"\ndedupe_window = \"1m\"\n")
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	expect(`why=SIGHUP`, `msg="configuration changed" key=lane.retention was=1h now=3h`, `needs a restart" key=lane.dedupe_window is=10m wanted=1m`)
	write("in_flight = 1000\n")
	expect(`kiteq.toml has changed"`, `in_flight 1000: use 1 to 90`)
	write("in_flight = 5\n" + config)
	expect(`key=in_flight was=32 now=5`)
	if code := b.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, b.log.tail(20))
	}
}
