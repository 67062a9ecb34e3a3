package e2e

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
)

// TestBadInput starts the binary with one thing wrong at a time: one line names the value and the fix,
// and the exit code is not 0.
func TestBadInput(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	zk := freeAddr(t)
	running := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "trade")
	running.Start()
	inUse := filepath.Join(running.dir, "journal")
	unreadable := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(unreadable, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	unknownKey := filepath.Join(t.TempDir(), "unknown.toml")
	if err := os.WriteFile(unknownKey, []byte("bind = \":13800\"\ntopicz = [\"a\"]\n[delivery]\nwindw = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		want []string // each in one line of the output
	}{
		{"unknown flag", []string{"-bnd=:1"}, []string{"-bnd", "kiteq -help"}},
		{"argument", []string{"start"}, []string{`"start"`, "flags"}},
		{"flag value", []string{"-pport=abc"}, []string{`"abc"`, "-pport"}},
		{"topic", []string{"-topics=a/b"}, []string{`"a/b"`, "letters"}},
		{"no topic", []string{"-topics="}, []string{"-topics", "at least one"}},
		{"topic twice", []string{"-topics=a,a"}, []string{`"a"`, "twice"}},
		{"bind", []string{"-bind=example:99999"}, []string{"-bind", "99999"}},
		{"store", []string{"-db=sqlite://x"}, []string{"sqlite://x", "mmap://"}},
		{"store parameter", []string{"-db=mmap://x?sync=maybe"}, []string{"maybe", "always"}},
		{"registry", []string{"-zkhost=etcd://x:1"}, []string{"etcd", "zk://"}},
		{"several at once", []string{"-topics=a/b", "-db=sqlite://x"}, []string{`"a/b"`}},
		{"several at once, the second", []string{"-topics=a/b", "-db=sqlite://x"}, []string{"sqlite://x"}},
		{"no file", []string{"-configPath=/nowhere/kiteq.toml"}, []string{"/nowhere/kiteq.toml"}},
		{"unknown key", []string{"-configPath=" + unknownKey}, []string{`"topicz"`, "kiteq.toml"}},
		{"unknown key, the second", []string{"-configPath=" + unknownKey}, []string{`"delivery.windw"`}},
		{"port in use", []string{"-bind=" + taken.Addr().String(), "-zkhost=" + zk, "-db=memory://"}, []string{taken.Addr().String(), "-bind"}},
		{"registry port in use", []string{"-zkhost=embedded://" + zk + "?data=" + t.TempDir(), "-db=memory://"}, []string{zk, "-zkhost=" + zk}},
		{"directory is a file", []string{"-db=mmap://" + unreadable + "/j"}, []string{unreadable}},
		{"directory in use", []string{"-zkhost=" + zk, "-db=mmap://" + inUse}, []string{inUse, "use"}},
		{"no ZooKeeper", []string{"-bind=127.0.0.1:0", "-pport=-1", "-zkhost=" + freeAddr(t), "-db=memory://"}, []string{"registry", "-zkhost"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, filepath.Join(binaries, "kiteq"), test.args...)
			cmd.Dir = t.TempDir()
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("exit code 0:\n%s", out)
			}
			for line := range strings.SplitSeq(string(out), "\n") {
				all := strings.HasPrefix(line, "kiteq: ")
				for _, want := range test.want {
					all = all && strings.Contains(line, want)
				}
				if all {
					return
				}
			}
			t.Errorf("no line of kiteq names %q:\n%s", test.want, out)
		})
	}
}

// TestSignals stops a broker by both signals: it leaves the registry and ends with code 0.
func TestSignals(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			zk := freeAddr(t)
			b := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "trade")
			b.Start()
			c := dial(t, client.Options{ZKHost: zk, Group: "p-signal", Topics: []string{"trade"}})
			if err := c.Publish(patient(t), &client.Message{Topic: "trade", Type: "x", Body: []byte("kept")}); err != nil {
				t.Fatal(err)
			}
			if code := b.Stop(signal); code != 0 {
				t.Errorf("exit code %d\n%s", code, b.log.tail(20))
			}
		})
	}
}

// TestMalformedFrames sends broken frames on their own connections: each costs that connection at most,
// while another goes on publishing.
func TestMalformedFrames(t *testing.T) {
	t.Parallel()
	zk := freeAddr(t)
	b := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "trade")
	b.Start()
	c := dial(t, client.Options{ZKHost: zk, Group: "p-good", Topics: []string{"trade"}})
	vectors := loadVectors(t)
	meta := unhex(t, vectors, "01_connmeta_go")
	noise := bytes.Repeat([]byte{0xff, 0x00, 0x7f, 0x13}, 4096)
	for _, test := range []struct {
		name   string
		bytes  []byte
		closed bool
	}{
		{"noise", noise, true},
		{"publish before ConnMeta", unhex(t, vectors, "11_bytes_min"), true},
		{"length over the limit", append(bytes.Clone(meta), unhex(t, vectors, "90_header_too_large")...), true},
		{"negative length", append(bytes.Clone(meta), 0, 0, 0, 3, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff), true},
		{"unknown command", append(bytes.Clone(meta), unhex(t, vectors, "91_unknown_cmd")...), false},
		{"empty frame", append(bytes.Clone(meta), unhex(t, vectors, "92_empty_frame")...), false},
		{"payload that lacks a field", append(bytes.Clone(meta), unhex(t, vectors, "93_connmeta_missing_required")...), false},
		{"half a frame", append(bytes.Clone(meta), unhex(t, vectors, "10_bytes_full")[:40]...), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, err := net.Dial("tcp4", b.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(test.bytes); err != nil {
				t.Fatal(err)
			}
			if test.closed {
				_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
				if _, err := io.Copy(io.Discard, conn); err != nil && os.IsTimeout(err) {
					t.Error("the connection is still open")
				}
			} else {
				// The connection still answers: a heartbeat comes back, or half a frame can be completed.
				rest := unhex(t, vectors, "06_heartbeat_ping")
				if test.name == "half a frame" {
					rest = append(unhex(t, vectors, "10_bytes_full")[40:], rest...)
				}
				if _, err := conn.Write(rest); err != nil {
					t.Fatal(err)
				}
				pong := unhex(t, vectors, "07_heartbeat_pong")
				var got []byte
				buf := make([]byte, 4096)
				_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
				for !bytes.Contains(got, pong) {
					n, err := conn.Read(buf)
					if err != nil {
						t.Fatalf("no pong, but %x and %v", got, err)
					}
					got = append(got, buf[:n]...)
				}
			}
			if err := c.Publish(patient(t), &client.Message{Topic: "trade", Type: "x", Body: []byte("others go on")}); err != nil {
				t.Error(err)
			}
		})
	}
}

func unhex(t *testing.T, v *vectorFile, name string) []byte {
	t.Helper()
	for _, f := range v.Frames {
		if f.Name == name {
			raw, err := hex.DecodeString(f.Hex)
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
	}
	t.Fatalf("no vector %s", name)
	return nil
}
