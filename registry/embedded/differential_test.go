package embedded

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/go-cmp/cmp"
)

// zkVariable names a real ZooKeeper, host:port, to compare with.
const zkVariable = "KITEQ_TEST_ZK"

var rewrite = flag.Bool("rewrite", false, "record again what the ZooKeeper of "+zkVariable+" does")

const (
	recorded      = "testdata/zookeeper-3.8.0.txt"
	recordedSeed  = 20
	recordedRuns  = 3
	recordedSteps = 200
)

// TestAsRecorded does the same operations as were done on a real ZooKeeper 3.8.0, through the same
// client library, and compares results, errors, numbers and events.
func TestAsRecorded(t *testing.T) {
	t.Parallel()
	if *rewrite {
		record(t)
	}
	b, err := os.ReadFile(recorded)
	must(t, err)
	want := strings.Split(strings.TrimSpace(string(b)), "\n")
	got := play(t, start(t, Options{Dir: t.TempDir()}).Addr(), recordedSeed, recordedRuns, recordedSteps)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("ZooKeeper is -, this server is +\n%s", diff)
	}
}

func record(t *testing.T) {
	addr := os.Getenv(zkVariable)
	if addr == "" {
		t.Fatalf("set %s=host:port of a ZooKeeper to record", zkVariable)
	}
	lines := play(t, addr, recordedSeed, recordedRuns, recordedSteps)
	must(t, os.MkdirAll("testdata", 0o755))
	must(t, os.WriteFile(recorded, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}

// TestAgainstZooKeeper does random operations on this server and on a real one beside it. Times and
// zxids differ; of the zxids it compares which of a node's are equal.
func TestAgainstZooKeeper(t *testing.T) {
	t.Parallel()
	addr := os.Getenv(zkVariable)
	if addr == "" {
		t.Skipf("set %s=host:port of a ZooKeeper to compare with it", zkVariable)
	}
	seed := uint64(time.Now().UnixNano())
	for range 40 {
		seed++
		got := play(t, start(t, Options{Dir: t.TempDir()}).Addr(), seed, 1, 150)
		want := play(t, addr, seed, 1, 150)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: ZooKeeper is -, this server is +\n%s", seed, diff)
		}
	}
}

// play returns the notes of runs scripts on the server at addr.
func play(t *testing.T, addr string, seed uint64, runs, steps int) []string {
	var lines []string
	for i := range runs {
		s := newScript(t, addr)
		lines = append(lines, s.run(rand.New(rand.NewPCG(seed, uint64(i))), steps)...)
		s.close()
	}
	return lines
}

// script does random operations below its own root with two clients, and notes what comes of them.
type script struct {
	t       *testing.T
	root    string
	clients [2]*zk.Conn
	watches []watched
	log     []string
}

type watched struct {
	what   string
	events <-chan zk.Event
}

func newScript(t *testing.T, addr string) *script {
	s := &script{t: t, root: fmt.Sprintf("/diff%d", time.Now().UnixNano())}
	for i := range s.clients {
		s.clients[i] = dial(t, addr, generous)
	}
	mustCreate(t, s.clients[0], s.root, "", 0)
	must(t, s.clients[1].AddAuth("digest", []byte("ann:secret")))
	return s
}

func (s *script) close() {
	s.clients[1].Close()
	s.clients[0].Close()
}

func (s *script) note(format string, args ...any) {
	s.log = append(s.log, strings.ReplaceAll(fmt.Sprintf(format, args...), s.root, "ROOT"))
}

func (s *script) run(r *rand.Rand, steps int) []string {
	for i := range steps {
		s.step(r, i)
		s.collect()
	}
	// The second client's end deletes its nodes, which the first one's watches tell of.
	s.clients[1].Close()
	s.clients[1] = s.clients[0]
	s.read(s.clients[0], s.root)
	s.collect()
	return s.log
}

func (s *script) path(r *rand.Rand) string {
	path := s.root
	for range 1 + r.IntN(3) {
		path += "/" + string(rune('a'+r.IntN(2)))
	}
	if r.IntN(30) == 0 {
		path += "/missing/below"
	}
	return path
}

func (s *script) version(r *rand.Rand) int32 { return []int32{-1, -1, -1, 0, 1, 2}[r.IntN(6)] }

func (s *script) data(r *rand.Rand) []byte {
	if r.IntN(6) == 0 {
		return nil
	}
	return []byte(strings.Repeat("x", r.IntN(20)))
}

func (s *script) acl(r *rand.Rand) []zk.ACL {
	switch r.IntN(12) {
	case 0:
		return zk.DigestACL(zk.PermAll, "ann", "secret")
	case 1:
		return append(zk.DigestACL(zk.PermAll, "ann", "secret"), zk.WorldACL(zk.PermRead)...)
	case 2:
		return zk.AuthACL(zk.PermAll)
	case 3:
		return []zk.ACL{{Perms: zk.PermAll, Scheme: "ip", ID: "127.0.0.0/8"}}
	case 4:
		return []zk.ACL{{Perms: zk.PermAll, Scheme: []string{"digest", "ip", "none", "world"}[r.IntN(4)], ID: "bad"}}
	case 5:
		return nil
	case 6:
		return append(zk.WorldACL(zk.PermAll), zk.WorldACL(zk.PermAll)...)
	}
	return zk.WorldACL(zk.PermAll)
}

// step does one operation. The path in notes is enough to find the step again.
func (s *script) step(r *rand.Rand, i int) {
	c, path := s.clients[r.IntN(2)], s.path(r)
	switch r.IntN(14) {
	case 0, 1, 2, 3:
		flags := []int32{0, 0, 0, 1, 2, 3, 4}[r.IntN(7)]
		made, err := c.Create(path, s.data(r), flags, s.acl(r))
		s.note("%d create %s %d: %q %v", i, path, flags, made, err)
	case 4:
		made, err := c.CreateContainer(path, s.data(r), zk.FlagContainer, s.acl(r))
		s.note("%d container %s: %q %v", i, path, made, err)
	case 5:
		s.note("%d delete %s: %v", i, path, c.Delete(path, s.version(r)))
	case 6:
		stat, err := c.Set(path, s.data(r), s.version(r))
		s.note("%d set %s: %s %v", i, path, numbers(stat), err)
	case 7:
		stat, err := c.SetACL(path, s.acl(r), s.version(r))
		s.note("%d setACL %s: %s %v", i, path, numbers(stat), err)
	case 8, 9:
		s.read(c, path)
	case 10:
		s.multi(r, c, i)
	default:
		s.watch(r, path, i)
	}
}

func (s *script) read(c *zk.Conn, path string) {
	data, stat, err := c.Get(path)
	s.note("get %s: %q %t %s %v", path, data, data == nil, numbers(stat), err)
	names, stat, err := c.Children(path)
	slices.Sort(names)
	s.note("children %s: %v %s %v", path, names, numbers(stat), err)
	there, stat, err := c.Exists(path)
	s.note("exists %s: %t %s %v", path, there, numbers(stat), err)
	acl, stat, err := c.GetACL(path)
	s.note("acl %s: %v %s %v", path, acl, numbers(stat), err)
}

func (s *script) multi(r *rand.Rand, c *zk.Conn, i int) {
	var ops []any
	for range 1 + r.IntN(4) {
		path := s.path(r)
		switch r.IntN(5) {
		case 0, 1:
			ops = append(ops, &zk.CreateRequest{Path: path, Data: s.data(r), Acl: zk.WorldACL(zk.PermAll), Flags: []int32{0, 1, 2}[r.IntN(3)]})
		case 2:
			ops = append(ops, &zk.DeleteRequest{Path: path, Version: s.version(r)})
		case 3:
			ops = append(ops, &zk.SetDataRequest{Path: path, Data: s.data(r), Version: s.version(r)})
		case 4:
			ops = append(ops, &zk.CheckVersionRequest{Path: path, Version: s.version(r)})
		}
	}
	results, err := c.Multi(ops...)
	s.note("%d multi of %d: %v", i, len(ops), err)
	for j, res := range results {
		s.note("  %d: %q %s %v", j, res.String, numbers(res.Stat), res.Error)
	}
}

func (s *script) watch(r *rand.Rand, path string, i int) {
	var events <-chan zk.Event
	var err error
	kind := []string{"get", "exists", "children"}[r.IntN(3)]
	c := s.clients[0]
	switch kind {
	case "get":
		_, _, events, err = c.GetW(path)
	case "exists":
		_, _, events, err = c.ExistsW(path)
	case "children":
		_, _, events, err = c.ChildrenW(path)
	}
	s.note("%d watch %s %s: %v", i, kind, path, err)
	if err == nil {
		s.watches = append(s.watches, watched{fmt.Sprintf("%d %s", i, kind), events})
	}
}

// collect notes the watches that fired. A later reply comes behind the events, so that after it they
// have all arrived.
func (s *script) collect() {
	if _, err := s.clients[0].Sync(s.root); err != nil {
		s.t.Fatal(err)
	}
	s.watches = slices.DeleteFunc(s.watches, func(w watched) bool {
		select {
		case e := <-w.events:
			s.note("  event %s: %v %s", w.what, e.Type, e.Path)
			return true
		default:
			return false
		}
	})
}

// numbers tells what of a stat must agree.
func numbers(s *zk.Stat) string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf("v%d c%d a%d eph=%t len=%d kids=%d mzxid=czxid:%t pzxid=czxid:%t", s.Version, s.Cversion,
		s.Aversion, s.EphemeralOwner != 0, s.DataLength, s.NumChildren, s.Mzxid == s.Czxid, s.Pzxid == s.Czxid)
}
