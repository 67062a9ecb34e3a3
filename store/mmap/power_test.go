package mmap

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// powerVariable names the number of seeds that TestPowerCut takes for each of its disks.
const powerVariable = "KITEQ_POWER_SEEDS"

// TestPowerCut runs a journal on a disk and cuts the power after every operation that its files see.
// Each time it boots from what is left, more than one choice of it, cuts once more while that one
// recovers or works, and boots again. Every batch that was synced must be there, no batch in part,
// nothing that was never appended, and the journal must go on working.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	seeds := 2
	if n, err := strconv.Atoi(os.Getenv(powerVariable)); err == nil {
		seeds = n
	}
	for _, d := range disks {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			boots := 0
			for seed := range uint64(seeds) {
				l := newLife(d, seed, nil)
				problem := l.run(d.steps)
				if boots += l.boots; problem != "" {
					t.Fatalf("seed %d: %s", seed, problem)
				}
			}
			t.Logf("seeds 0 to %d, %d boots", seeds-1, boots)
		})
	}
}

// TestPowerCutSeesLies has disks that confirm a sync and do nothing. The test above must notice, or
// it proves nothing.
func TestPowerCutSeesLies(t *testing.T) {
	t.Parallel()
	for about, lies := range map[string]func(name string) bool{
		"segment":    func(name string) bool { return strings.HasSuffix(name, segmentExt) },
		"checkpoint": func(name string) bool { return strings.HasSuffix(name, checkpointExt+tempExt) },
		"directory":  func(name string) bool { return name == "." },
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(40) {
				if problem := newLife(disks[0], seed, lies).run(disks[0].steps); problem != "" {
					t.Logf("seed %d: %s", seed, problem)
					return
				}
			}
			t.Errorf("a disk that does not sync the %s was not noticed", about)
		})
	}
}

// disk is where and how the journal of a test lives.
type disk struct {
	name    string
	sector  int64 // bytes that are written whole
	segment kite.ByteSize
	class   Sync
	steps   int // of the first life
	body    int // bytes at most, but for some
}

var disks = []disk{
	{"synced/512", 512, minSegment, SyncAlways, 45, 500},
	{"synced/4096", 4096, 24 << 10, SyncAlways, 45, 3000},
	{"written/512", 512, 3 * minSegment, SyncOS, 45, 900},
	{"written/4096", 4096, minSegment, SyncOS, 30, 1200},
}

// model is what was told to the journal.
type model struct {
	batches [][]*kite.Record // in order; the last may be under way
	bytes   [][]byte         // of each batch in the file, nil when it was not yet written
	synced  int              // as many of them must survive
	covered int              // as many does the newest checkpoint stand for
	floors  map[string]kite.Seq
	ids     int
}

func (m *model) clone() *model {
	c := *m
	c.batches, c.bytes, c.floors = slices.Clone(m.batches), slices.Clone(m.bytes), maps.Clone(m.floors)
	return &c
}

var powerStreams = []string{"a", "b", "a/group"}

// life is a journal between two boots.
type life struct {
	disk
	rng       *rand.Rand
	fs        *powerFS
	m         *model
	depth     int // boots before this one
	cutAt     int // the operation after which a later life is cut
	ops       int
	appending bool
	kept      [][]byte // unsynced batches that were whole at the boot and are not to be lost by recovering
	boots     int
	problem   string
}

func newLife(d disk, seed uint64, lies func(string) bool) *life {
	l := &life{disk: d, rng: rand.New(rand.NewPCG(seed, uint64(d.sector))), fs: newPowerFS(nil), m: &model{floors: map[string]kite.Seq{}}}
	for _, s := range powerStreams {
		l.m.floors[s] = 1
	}
	if lies != nil {
		l.fs.lies = lies
	}
	l.wire()
	return l
}

func (l *life) wire() {
	l.fs.after = l.operated
	l.fs.wrote = func(name string, p []byte, off int64) {
		if l.appending && off >= segmentHeader && strings.HasSuffix(name, segmentExt) {
			l.m.bytes[len(l.m.bytes)-1] = bytes.Clone(p)
		}
	}
}

// operated cuts the power.
func (l *life) operated() {
	l.ops++
	if l.problem != "" || l.depth > 0 && l.ops != l.cutAt {
		return
	}
	for range max(1, 2-l.depth) {
		if problem := l.boot(); problem != "" {
			l.problem = fmt.Sprintf("cut after operation %d: %s", l.ops, problem)
			return
		}
	}
}

// boot begins a life on what a cut leaves of this one.
func (l *life) boot() string {
	image := l.fs.cut(l.rng, l.sector)
	for _, b := range l.kept {
		if !image.contain(b) {
			return fmt.Sprintf("a whole batch of %d bytes was deleted while recovering", len(b))
		}
	}
	next := &life{disk: l.disk, rng: l.rng, fs: newPowerFS(image), m: l.m.clone(), depth: l.depth + 1}
	next.fs.lies = l.fs.lies
	if next.depth < 3 {
		next.cutAt = 1 + l.rng.IntN(40)
	}
	for _, b := range l.m.bytes[l.m.synced:] {
		if b != nil && image.contain(b) {
			next.kept = append(next.kept, bytes.TrimRight(b, "\x00")) // a .cut file lacks zeros at its end
		}
	}
	next.wire()
	problem := next.run(3 + l.rng.IntN(6))
	l.boots += 1 + next.boots
	return problem
}

func (f files) contain(b []byte) bool {
	for _, data := range f {
		if bytes.Contains(data, b) {
			return true
		}
	}
	return false
}

// run opens the journal, works with it, closes it or is killed, and looks once more. It returns what is wrong.
func (l *life) run(steps int) string {
	for closed := range 2 {
		j, err := Open(Options{Dir: "/journal", SegmentBytes: l.segment, Sync: l.class, FS: l.fs}, nil)
		if err != nil {
			return l.first("open: " + err.Error())
		}
		appended := len(l.m.batches)
		if problem := l.check(j); problem != "" {
			return l.first(problem)
		}
		if closed > 0 && len(l.m.batches) < appended {
			return l.first(fmt.Sprintf("%d of %d batches are there after a kill", len(l.m.batches), appended))
		}
		j.worker.running.Store(true) // jobs wait for work
		for range steps * (1 - closed) {
			if err := l.step(j); err != nil {
				return l.first(err.Error())
			}
			if l.problem != "" {
				return l.problem
			}
		}
		if closed == 0 && l.rng.IntN(2) == 0 { // killed: what was written stays, what was not synced may still go
			if err := j.release(); err != nil {
				return l.first("kill: " + err.Error())
			}
			continue
		}
		if err := j.Close(); err != nil {
			return l.first("close: " + err.Error())
		}
		l.m.synced = len(l.m.batches)
	}
	return l.problem
}

// first returns the problem of the life that ended first.
func (l *life) first(problem string) string {
	if l.problem != "" {
		return l.problem
	}
	return problem
}

// step does one thing that a lane does.
func (l *life) step(j *Journal) error {
	switch n := l.rng.IntN(20); {
	case n < 11:
		return l.append(j)
	case n < 14:
		return l.sync(j)
	case n < 16:
		return l.work(j)
	case n < 18:
		return l.checkpoint(j)
	}
	return l.trim(j)
}

func (l *life) append(j *Journal) error {
	batch := l.batch()
	l.m.batches, l.m.bytes = append(l.m.batches, batch), append(l.m.bytes, nil)
	l.appending = true
	defer func() { l.appending = false }()
	return j.Append(batch)
}

func (l *life) sync(j *Journal) error {
	class := j.Class()
	if l.rng.IntN(8) == 0 { // of a topic with a class of its own
		class = []kite.Class{kite.ClassSynced, kite.ClassWritten}[l.rng.IntN(2)]
	}
	err := j.Sync(class)
	if err == nil && class == kite.ClassSynced {
		l.m.synced = len(l.m.batches)
	}
	return err
}

// work does what Run does in the background. What the journal then takes for durable must survive.
func (l *life) work(j *Journal) error {
	j.finishJobs()
	for n := l.m.synced; n < len(l.m.batches) && l.m.batches[n][0].Position < kite.Position(j.durable.Load()); n++ {
		l.m.synced = n + 1
	}
	return j.Err()
}

func (l *life) checkpoint(j *Journal) error {
	all := len(l.m.batches)
	head := &kite.Record{Kind: kite.KindHead, Topic: "covered", Seq: kite.Seq(all)}
	err := j.Checkpoint(slices.Values([]*kite.Record{head}))
	if err == nil {
		l.m.synced, l.m.covered = all, all
	}
	return err
}

// trim needs what a lane does: nothing that is not durable decides it.
func (l *life) trim(j *Journal) error {
	if err := l.checkpoint(j); err != nil {
		return err
	}
	needs := store.Needs{Floors: l.m.floors, BeforeMs: 1 << 60}
	for _, p := range open(l.m.batches) {
		needs.Open = append(needs.Open, p.Position)
	}
	for _, name := range powerStreams {
		floor := l.m.floors[name]
		next := kite.Seq(len(l.m.stream(name, len(l.m.batches))) + 1)
		l.m.floors[name] = floor + kite.Seq(l.rng.IntN(int(next-floor)+1))
	}
	_, err := j.Trim(needs)
	return err
}

// batch makes one of all kinds of records. Some bodies are the bytes of an older batch.
func (l *life) batch() []*kite.Record {
	m, undecided := l.m, open(l.m.batches)
	next := map[string]kite.Seq{}
	for _, name := range powerStreams {
		next[name] = kite.Seq(len(m.stream(name, len(m.batches))) + 1)
	}
	var batch []*kite.Record
	for range 1 + l.rng.IntN(4) {
		m.ids++
		r := &kite.Record{
			Kind: kite.KindMessage, Command: 0x12, Limit: 9, ID: kite.MessageID(fmt.Appendf(nil, "%16d", m.ids)),
			TimeMs: int64(m.ids), Topic: powerStreams[l.rng.IntN(2)], Type: []byte("type"), Group: []byte("group"),
			Body: bytes.Repeat([]byte{byte(m.ids), byte(m.ids >> 8)}, l.rng.IntN(l.body/2)),
		}
		switch n := l.rng.IntN(20); {
		case n < 3:
			r.Kind = kite.KindPrepared
		case n < 5 && len(undecided) > 0:
			p := undecided[0]
			undecided = undecided[1:]
			r.Kind, r.ID, r.Topic, r.Ref, r.Body = kite.KindCommit, p.ID, p.Topic, p.Position, nil
		case n < 7:
			r.Kind, r.Topic = kite.KindDead, "a"
		case n < 8 && m.synced > 0: // synced: elsewhere a whole batch is the batch itself
			r.Body = m.bytes[l.rng.IntN(m.synced)]
		case n < 9:
			r.Body = make([]byte, int(l.segment)/2+l.rng.IntN(int(l.segment)))
		}
		if name := store.Stream(r); name != "" {
			r.Seq = next[name]
			next[name]++
		}
		batch = append(batch, r)
	}
	return batch
}

// stream returns the records of the stream in the first so many batches.
func (m *model) stream(name string, batches int) (records []*kite.Record) {
	for _, batch := range m.batches[:batches] {
		for _, r := range batch {
			if store.Stream(r) == name {
				records = append(records, r)
			}
		}
	}
	return records
}

// open returns the undecided prepared records.
func open(batches [][]*kite.Record) (undecided []*kite.Record) {
	for _, batch := range batches {
		for _, r := range batch {
			switch r.Kind {
			case kite.KindPrepared:
				undecided = append(undecided, r)
			case kite.KindCommit:
				undecided = slices.DeleteFunc(undecided, func(p *kite.Record) bool { return p.ID == r.ID })
			}
		}
	}
	return undecided
}

// check compares what an opened journal shows with the model, and makes the model what it shows.
func (l *life) check(j *Journal) string {
	for _, b := range l.kept {
		whole := false
		for _, n := range l.fs.now {
			whole = whole || bytes.Contains(n.data, b)
		}
		if !whole {
			return fmt.Sprintf("a whole batch of %d bytes was deleted by recovering", len(b))
		}
	}
	whole, problem := l.replay(j)
	if problem != "" {
		return problem
	}
	for _, name := range powerStreams {
		if problem := l.m.read(j, name, whole); problem != "" {
			return problem
		}
	}
	for _, p := range open(l.m.batches[:whole]) {
		got := ""
		err := j.Load(p.Position, func(r *kite.Record) { got = text(r) })
		if err != nil || got != text(p) {
			return fmt.Sprintf("undecided record at %d: %v", p.Position, err)
		}
	}
	// Open has made durable what it shows.
	l.m.batches, l.m.bytes, l.m.synced, l.kept = l.m.batches[:whole:whole], l.m.bytes[:whole:whole], whole, nil
	return ""
}

// replay returns how many batches there are.
func (l *life) replay(j *Journal) (whole int, problem string) {
	var lines []string
	err := j.Replay(func(r *kite.Record) error {
		if r.Kind == kite.KindHead {
			whole = int(r.Seq)
			return nil
		}
		lines = append(lines, text(r))
		return nil
	})
	switch {
	case err != nil:
		return 0, "replay: " + err.Error()
	case whole < l.m.covered:
		return 0, fmt.Sprintf("the checkpoint stands for %d batches, a newer one stood for %d", whole, l.m.covered)
	}
	for len(lines) > 0 {
		if whole == len(l.m.batches) {
			return 0, fmt.Sprintf("%d records behind the last batch that was appended", len(lines))
		}
		for i, r := range l.m.batches[whole] {
			if len(lines) == 0 || lines[0] != text(r) {
				return 0, fmt.Sprintf("record %d of batch %d is not what was appended", i, whole)
			}
			lines = lines[1:]
		}
		whole++
	}
	if whole < l.m.synced {
		return 0, fmt.Sprintf("%d batches are there, %d were synced", whole, l.m.synced)
	}
	return whole, ""
}

// read checks that the stream has its records of the first so many batches, from its floor on.
func (m *model) read(j *Journal, name string, batches int) string {
	want := m.stream(name, batches)
	prepared := map[kite.MessageID][]byte{}
	for _, batch := range m.batches[:batches] {
		for _, r := range batch {
			if r.Kind == kite.KindPrepared {
				prepared[r.ID] = r.Body
			}
		}
	}
	first, next := j.Bounds(name)
	if next != kite.Seq(len(want)+1) || first > max(m.floors[name], 1) {
		return fmt.Sprintf("%s has %d to %d, want %d (or less) to %d", name, first, next, m.floors[name], len(want)+1)
	}
	problem, seq := "", first
	err := j.Read(name, first, func(r *kite.Record) bool {
		if r.Seq < seq || r.Seq >= next || r.Seq > max(seq, m.floors[name]) {
			problem = fmt.Sprintf("%s: read %d where %d belongs", name, r.Seq, seq)
			return false
		}
		w := want[r.Seq-1]
		body := w.Body
		if w.Kind == kite.KindCommit {
			body = prepared[w.ID]
		}
		if r.ID != w.ID || !bytes.Equal(r.Body, body) || r.TimeMs != w.TimeMs || r.Position != w.Position {
			problem = fmt.Sprintf("%s: record %d is not what was appended", name, r.Seq)
		}
		seq = r.Seq + 1
		return problem == ""
	})
	if problem == "" && (err != nil || max(seq, m.floors[name]) < next) {
		problem = fmt.Sprintf("%s: read up to %d of %d: %v", name, seq, next, err)
	}
	return problem
}
