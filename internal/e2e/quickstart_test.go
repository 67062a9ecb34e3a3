package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ctl runs kiteqctl to its end and returns what it printed.
func ctl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(binaries, "kiteqctl"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("kiteqctl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestQuickStart does what the README tells a new user: subscribe in one terminal, publish in another,
// and try a transaction of each kind.
func TestQuickStart(t *testing.T) {
	t.Parallel()
	zk := freeAddr(t)
	b := newBroker(t, embeddedURL(zk, filepath.Join(t.TempDir(), "registry")), "message")
	b.Start()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sub := exec.CommandContext(ctx, filepath.Join(binaries, "kiteqctl"), "sub", "message", "--bind", "fanout", "--group", "s-quick", "--zkhost", zk)
	printed := &syncBuffer{}
	sub.Stdout, sub.Stderr = printed, printed
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = sub.Wait() // it was killed
	})
	// No waiting for the subscription: a group gets what is published right after it was bound.
	eventually(t, 20*time.Second, func() string {
		if strings.Contains(ctl(t, "bindings", "--zkhost", zk), "s-quick") {
			return ""
		}
		return "group s-quick is not bound"
	})
	ctl(t, "pub", "message", "hello", "good morning", "--zkhost", zk)
	ctl(t, "tx", "run", "message", "order", "committed at once", "--verdict", "commit", "--zkhost", zk)
	ctl(t, "tx", "run", "message", "order", "rolled back at once", "--verdict", "rollback", "--zkhost", zk)
	ctl(t, "tx", "run", "message", "order", "committed by the check", "--verdict", "leave", "--answer", "commit", "--wait", "5s", "--zkhost", zk)
	ctl(t, "tx", "run", "message", "order", "rolled back by the check", "--verdict", "leave", "--answer", "rollback", "--wait", "5s", "--zkhost", zk)
	ctl(t, "pub", "message", "hello", "good night", "--zkhost", zk)
	for _, body := range []string{"good morning", "committed at once", "committed by the check", "good night"} {
		eventually(t, 20*time.Second, func() string {
			if strings.Contains(printed.String(), body) {
				return ""
			}
			return "sub has not printed " + body + ", but:\n" + printed.String()
		})
	}
	if strings.Contains(printed.String(), "rolled back") {
		t.Errorf("what was rolled back was delivered:\n%s", printed.String())
	}
	if out := ctl(t, "topics", "--zkhost", zk); !strings.Contains(out, "message") || !strings.Contains(out, b.addr) {
		t.Errorf("topics prints:\n%s", out)
	}
}
