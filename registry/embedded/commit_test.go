package embedded

import (
	"net"
	"os"
	"testing"
	"time"
)

// TestOneCommitForAllThatWait: the changes that wait while one commit syncs go with the next, all of them with one
// sync, and nobody has an answer before it. A thousand clients that come at once cost a few syncs, not thousands.
func TestOneCommitForAllThatWait(t *testing.T) {
	t.Parallel()
	s, err := Listen(Options{Addr: "127.0.0.1:0", Dir: t.TempDir()}, nil)
	must(t, err)
	defer s.Close()
	o := s.owner
	o.sessions.restore(o.tree, time.Now())
	var conns []*conn
	for range 200 {
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		c := newConn(ours)
		conns = append(conns, c)
		o.inbox <- inbound{conn: c, at: time.Now(), connect: &connectRequest{timeoutMs: 10_000, password: make([]byte, passwordSize)}}
		o.inbox <- inbound{conn: c, at: time.Now(), request: &request{xid: 1, op: opCreate, path: "/n-", acl: openACL(), flags: flagEphemeralSequential}}
	}
	commits := 0
	for len(o.inbox) > 0 {
		o.drain()
		for _, c := range conns {
			if c.dirty && len(c.out) > 0 {
				t.Fatal("answered before the commit")
			}
		}
		must(t, o.commit())
		commits++
		for _, c := range conns {
			c.out = nil
		}
	}
	if want := 2; commits != want { // of maxBatch requests each
		t.Errorf("%d commits, want %d", commits, want)
	}
	b, err := os.ReadFile(s.journal.file.Name())
	must(t, err)
	records, off := 0, logHeaderSize
	for {
		_, next, ok := s.journal.record(b, off)
		if !ok {
			break
		}
		records, off = records+1, next
	}
	if records != commits || len(o.tree.nodes) < 200 {
		t.Errorf("%d records of %d commits, %d nodes", records, commits, len(o.tree.nodes))
	}
}
