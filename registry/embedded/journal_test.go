package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// machine is a tree with its journal and without clients.
type machine struct {
	*owner
	t   testing.TB
	dir string
}

func openMachine(t testing.TB, dir string) *machine {
	t.Helper()
	m, err := tryMachine(t, dir)
	must(t, err)
	return m
}

func tryMachine(t testing.TB, dir string) (*machine, error) {
	tr := newTree()
	j, err := openJournal(dir, tr, discardLog())
	if err != nil {
		return nil, err
	}
	return &machine{newOwner(Options{}.WithDefaults(), tr, j, &counters{}, discardLog()), t, dir}, nil
}

// transact commits the changes as one transaction in a record of its own.
func (m *machine) transact(changes ...change) {
	m.t.Helper()
	m.join(changes...)
	must(m.t, m.commit())
}

// join makes the changes a transaction of the record that the next commit writes.
func (m *machine) join(changes ...change) {
	x := m.begin()
	for _, ch := range changes {
		m.do(x, ch)
	}
	m.end(x)
}

func (m *machine) close() {
	m.t.Helper()
	must(m.t, m.journal.close())
}

func createChange(path string) change {
	return change{kind: changeCreate, path: path, data: []byte("data of " + path), acl: openACL()}
}

var compareTrees = cmp.AllowUnexported(tree{}, node{}, meta{}, lease{}, aclEntry{}, identity{})

// fill does n random changes that fit the tree.
func (m *machine) fill(r *rand.Rand, n int) {
	m.t.Helper()
	for range n {
		paths := slices.Sorted(func(yield func(string) bool) {
			for path := range m.tree.nodes {
				if !yield(path) {
					return
				}
			}
		})
		path := paths[r.IntN(len(paths))]
		var sessions []int64
		for id := range m.tree.sessions {
			sessions = append(sessions, id)
		}
		slices.Sort(sessions)
		switch k := r.IntN(12); {
		case k < 5 && m.tree.nodes[path].owner == 0:
			ch := createChange(strings.TrimSuffix(path, "/") + fmt.Sprintf("/%d", m.tree.zxid))
			if len(sessions) > 0 && r.IntN(2) == 0 {
				ch.session = sessions[r.IntN(len(sessions))]
			}
			ch.ttl = []int64{0, 0, container, 1000}[r.IntN(4)]
			m.transact(ch)
		case k < 7:
			m.transact(change{kind: changeData, path: path, data: [][]byte{nil, {}, []byte("new")}[r.IntN(3)]})
		case k < 8:
			m.transact(change{kind: changeACL, path: path, acl: []aclEntry{{r.Int32N(32), identity{"ip", "127.0.0.1"}}}})
		case k < 9 && len(m.tree.nodes[path].children) == 0 && !reservedPath(path):
			m.transact(change{kind: changeDelete, path: path})
		case k < 10:
			m.transact(change{kind: changeOpenSession, session: m.tree.zxid + 1000, timeoutMs: 500, data: []byte("password")})
		case k < 11 && len(sessions) > 0:
			m.sessions.byID = map[int64]*session{}
			m.endSession(sessions[0])
			must(m.t, m.commit())
		}
	}
}

func TestTreeComesBack(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		m := openMachine(t, t.TempDir())
		m.fill(rand.New(rand.NewPCG(seed, 0)), 300)
		want := m.tree
		fromSnapshot, err := decodeSnapshot(encodeSnapshot(want))
		must(t, err)
		if diff := cmp.Diff(want, fromSnapshot, compareTrees); diff != "" {
			t.Fatalf("seed %d, by snapshot: %s", seed, diff)
		}
		m.close()
		again := openMachine(t, m.dir)
		if diff := cmp.Diff(want, again.tree, compareTrees); diff != "" {
			t.Fatalf("seed %d, by log: %s", seed, diff)
		}
		again.close()
	}
}

// TestSnapshotsReplaceLogs goes through every moment at which the process can end around a snapshot.
func TestSnapshotsReplaceLogs(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	m := openMachine(t, t.TempDir())
	m.fill(r, 100)
	crash := func(moment string) {
		t.Helper()
		copied := openMachine(t, copyDir(t, m.dir))
		if diff := cmp.Diff(m.tree, copied.tree, compareTrees); diff != "" {
			t.Fatalf("%s: %s", moment, diff)
		}
		copied.transact(createChange("/after"))
		copied.close()
		openMachine(t, copied.dir).close()
	}
	crash("before")
	must(t, m.journal.startLog(m.tree.zxid))
	crash("new log, no snapshot")
	must(t, m.journal.file.Truncate(5))
	crash("header of the new log torn")
	must(t, m.journal.startLog(m.tree.zxid))
	m.fill(r, 20)
	must(t, os.WriteFile(filepath.Join(m.dir, temporaryPrefix+fileName(snapshotPrefix, m.tree.zxid)), []byte("half"), 0o600))
	crash("snapshot half written")
	must(t, m.journal.snapshot(m.tree))
	outcome := <-m.journal.snapshotDone()
	crash("snapshot written, old files there")
	m.fill(r, 20)
	crash("and more in the log")
	m.journal.retire(outcome, discardLog())
	crash("old files removed")
	m.fill(r, 20)
	must(t, m.journal.snapshot(m.tree))
	m.journal.retire(<-m.journal.snapshotDone(), discardLog())
	crash("a second snapshot")
	m.close()
	files, err := listFiles(m.dir)
	must(t, err)
	if len(files.logs) != 1 || len(files.snapshots) != 1 {
		t.Errorf("files left: %v", files)
	}
}

func copyDir(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(filepath.Join(to, "copy"), os.DirFS(dir)))
	return filepath.Join(to, "copy")
}

// TestRunTakesSnapshots: the owner starts and retires them by itself.
func TestRunTakesSnapshots(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Options{Dir: dir, SnapshotBytes: 2048})
	r := openRaw(t, s.Addr(), generous)
	for range 300 {
		r.want(opCreate, encodeCreate("/s-", strings.Repeat("x", 100), flagPersistentSequential), codeOK)
	}
	s.stop()
	files, err := listFiles(dir)
	must(t, err)
	if len(files.snapshots) == 0 || len(files.logs) > 2 {
		t.Errorf("files %v", files)
	}
	m := openMachine(t, dir)
	defer m.close()
	if got := len(m.tree.nodes["/"].children); got != 301 {
		t.Errorf("%d nodes came back, want 301", got)
	}
}

// threeRecords is a log of three records, the second with two transactions, and where each begins.
func threeRecords(t *testing.T) (log string, b []byte, starts []int) {
	t.Helper()
	m := openMachine(t, t.TempDir())
	for i := range 3 {
		starts = append(starts, int(m.journal.size))
		if i == 1 {
			m.join(createChange("/joined"))
		}
		m.transact(createChange(fmt.Sprintf("/%d", i)))
	}
	starts = append(starts, int(m.journal.size))
	log = m.journal.file.Name()
	m.close()
	b, err := os.ReadFile(log)
	must(t, err)
	return log, b, starts
}

// TestTornTail cuts the log at every byte: what was whole is there, and the server goes on.
func TestTornTail(t *testing.T) {
	t.Parallel()
	log, b, starts := threeRecords(t)
	for cut := starts[0]; cut <= len(b); cut++ {
		must(t, os.WriteFile(log, b[:cut], 0o600))
		m := openMachine(t, filepath.Dir(log))
		whole := 0
		for _, end := range starts[1:] {
			if cut >= end {
				whole++
			}
		}
		if want := []int64{0, 1, 3, 4}[whole]; m.tree.zxid != want {
			t.Fatalf("cut at %d: zxid %d, want %d", cut, m.tree.zxid, want)
		}
		m.transact(createChange("/again"))
		m.close()
		m = openMachine(t, m.dir)
		if m.tree.nodes["/again"] == nil {
			t.Fatalf("cut at %d: what was written afterwards is gone", cut)
		}
		m.close()
	}
	zeros := append(slices.Clone(b), make([]byte, 5000)...)
	must(t, os.WriteFile(log, zeros, 0o600))
	m := openMachine(t, filepath.Dir(log))
	if m.tree.zxid != 4 {
		t.Errorf("with zeros behind: zxid %d", m.tree.zxid)
	}
	m.close()
}

// TestDamage flips every bit of what stands before the last record: none may pass.
func TestDamage(t *testing.T) {
	t.Parallel()
	log, b, starts := threeRecords(t)
	for at := range starts[2] {
		damaged := slices.Clone(b)
		damaged[at] ^= 1 << (at % 8)
		must(t, os.WriteFile(log, damaged, 0o600))
		_, err := tryMachine(t, filepath.Dir(log))
		var corruption *CorruptionError
		if !errors.As(err, &corruption) || corruption.File != log {
			t.Fatalf("byte %d: %v", at, err)
		}
		record := 0
		for _, begin := range starts {
			if at >= begin {
				record = begin
			}
		}
		if corruption.Offset != int64(record) {
			t.Fatalf("byte %d: said to be at %d, in the record at %d", at, corruption.Offset, record)
		}
	}
}

func TestOtherDamage(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, m *machine) (damaged string){
		"a log is missing": func(t *testing.T, m *machine) string {
			first := m.journal.file.Name()
			must(t, m.journal.startLog(m.tree.zxid))
			m.transact(createChange("/more"))
			must(t, os.Remove(first))
			return m.journal.file.Name()
		},
		"the log before the last is torn": func(t *testing.T, m *machine) string {
			first, size := m.journal.file.Name(), m.journal.size
			must(t, m.journal.startLog(m.tree.zxid))
			must(t, os.Truncate(first, size-1))
			return first
		},
		"a snapshot's checksum": func(t *testing.T, m *machine) string {
			must(t, m.journal.snapshot(m.tree))
			must(t, <-m.journal.snapshotDone())
			path := filepath.Join(m.dir, fileName(snapshotPrefix, m.tree.zxid))
			b, err := os.ReadFile(path)
			must(t, err)
			b[len(b)/2] ^= 1
			must(t, os.WriteFile(path, b, 0o600))
			return path
		},
		"a newer version": func(t *testing.T, m *machine) string {
			header, _ := newLogHeader(m.tree.zxid)
			header[11] = 9
			copy(header[28:], crcOf(header[:28]))
			path := filepath.Join(m.dir, fileName(logPrefix, m.tree.zxid))
			must(t, os.WriteFile(path, header, 0o600))
			return path
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := openMachine(t, t.TempDir())
			m.transact(createChange("/a"))
			file := damage(t, m)
			m.close()
			_, err := Listen(Options{Addr: "127.0.0.1:0", Dir: m.dir}, nil)
			var corruption *CorruptionError
			if !errors.As(err, &corruption) || corruption.File != file || !strings.Contains(err.Error(), file) {
				t.Errorf("error %v, want one about %s", err, file)
			}
		})
	}
}

func crcOf(b []byte) []byte {
	h := logHeader{}
	return h.appendRecord(nil, b)[4:8]
}

// TestStoredBytesAreNoRecord: data that looks like a record of the log it is in does not hide that the
// log is torn.
func TestStoredBytesAreNoRecord(t *testing.T) {
	t.Parallel()
	m := openMachine(t, t.TempDir())
	m.transact(createChange("/a"))
	other := logHeader{seed: 12345} // a client knows the format, not the salt
	ch := createChange("/b")
	ch.data = other.appendRecord(nil, []byte("whole"))
	m.transact(ch)
	must(t, m.journal.file.Truncate(m.journal.size-3))
	m.close()
	m = openMachine(t, m.dir)
	defer m.close()
	if m.tree.zxid != 1 {
		t.Errorf("zxid %d, want 1", m.tree.zxid)
	}
}

// TestDiskFailureEndsTheServer: nothing is answered that the disk has not taken.
func TestDiskFailureEndsTheServer(t *testing.T) {
	t.Parallel()
	s, err := Listen(Options{Addr: "127.0.0.1:0", Dir: t.TempDir()}, nil)
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	r := openRaw(t, s.Addr(), generous)
	r.want(opCreate, encodeCreate("/a", "", 0), codeOK)
	must(t, s.journal.file.Close())
	r.packet(ask(1, opCreate, encodeCreate("/b", "", 0)))
	if packet := r.receive(); packet != nil {
		t.Errorf("answered %x", packet)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) || !strings.Contains(err.Error(), "zxid 0x3") {
		t.Errorf("Run returned %v", err)
	}
}

func FuzzLog(f *testing.F) {
	header, h := newLogHeader(0)
	var e encoder
	t := txn{zxid: 1, timeMs: 2, changes: []change{createChange("/a"), {kind: changeDelete, path: "/a"}}}
	t.encode(&e)
	f.Add(h.appendRecord(nil, e.b), true)
	f.Add(h.appendRecord(h.appendRecord(nil, e.b), e.b)[:100], true)
	f.Add(e.b, false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, b []byte, raw bool) {
		if !raw && len(b) > 0 { // as the payload of a whole record
			b = h.appendRecord(nil, b)
		}
		log := append(slices.Clone(header), b...)
		var encoded encoder
		read := func(b []byte) (int, error) {
			encoded.b = nil
			return h.scan(b, func(x *txn) error { x.encode(&encoded); return nil })
		}
		end, err := read(log)
		first := slices.Clone(encoded.b)
		if end < logHeaderSize || end > len(log) || err == nil && end != len(log) {
			t.Fatalf("end %d of %d, %v", end, len(log), err)
		}
		if !errors.Is(err, errTorn) {
			return
		}
		if again, err := read(log[:end]); again != end || err != nil || !bytes.Equal(first, encoded.b) {
			t.Fatalf("cut at %d, it reads to %d, %v", end, again, err)
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	tr := newTree()
	tr.sessions[7] = &lease{timeoutMs: 1, password: []byte("p")}
	tr.link("/e", &node{acl: openACL(), meta: meta{owner: 7}})
	f.Add(encodeSnapshot(tr)[snapshotHeaderSize:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		b := encodeSnapshot(&tree{})[:snapshotHeaderSize]
		b = append(b, payload...)
		copy(b[20:], binaryUint32(snapshotSum(b)))
		loaded, err := decodeSnapshot(b)
		if err != nil {
			return
		}
		again, err := decodeSnapshot(encodeSnapshot(loaded))
		must(t, err)
		if diff := cmp.Diff(loaded, again, compareTrees); diff != "" {
			t.Fatal(diff)
		}
	})
}

func binaryUint32(v uint32) []byte {
	var e encoder
	e.int32(int32(v))
	return e.b
}
