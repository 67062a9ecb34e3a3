package mmap

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// Open recovers and opens the journal in o.Dir. A nil log discards.
//
// It first only looks: at the headers, at the newest checkpoint that is whole, at the indexes, and
// at every batch of the segments that have none. Damage ends it here with a *store.CorruptionError, and
// nothing was changed. Then it repairs what a dying process or machine leaves: a torn tail, files that
// nobody had synced, a missing index. store.ErrLocked says that another process has the directory.
func Open(o Options, log *slog.Logger) (*Journal, error) { return recovered(o, log, false) }

// recovered is Open. keep has all that is cut kept in a .cut file, whole batches or not.
func recovered(o Options, log *slog.Logger, keep bool) (_ *Journal, err error) {
	o = o.WithDefaults()
	if err := o.Validate(); err != nil {
		return nil, &kite.Error{Code: kite.Invalid, Op: "open the journal", Err: err}
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return nil, fmt.Errorf("create the store directory %s: %w; name one that this user can make and write", o.Dir, err)
	}
	lock, err := o.FS.Lock(o.Dir)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		o: o, fs: o.FS, log: log.With("component", "store"), lock: lock,
		streams: map[string]*stream{}, late: map[lateCommit]kite.Seq{}, sequence: 1, worker: newWorker(), recent: newRecent(),
	}
	r := &recovery{j: j, keep: keep}
	if err := r.run(); err != nil {
		r.release()
		return nil, errors.Join(err, j.release())
	}
	return j, nil
}

// recovery is what Open learns.
type recovery struct {
	j         *Journal
	numbers   []uint64 // of the segment files
	indexes   []uint64
	ids       []uint64
	snapshots []uint64
	cuts      []string // names of what earlier recoveries set aside
	temporary []string
	damaged   error         // of the newest checkpoint, when an older one is used
	unsaved   []*segment    // sealed, their index was rebuilt
	nameless  []*segment    // sealed, their ids were rebuilt
	durable   kite.Position // up to here the disk had everything
	torn      error         // why the bytes behind the last batch are none; nil when they are zero
	whole     bool          // there are whole batches among them
	keep      bool          // what is cut is kept in any case
	behind    []*segment    // not yet read; in the end those behind the end of the journal
	lost      error         // why it ends before them
}

// release gives back the mappings of the segments that are not the journal's.
func (r *recovery) release() {
	for _, seg := range r.behind {
		seg.release()
	}
	r.behind = nil
}

func (r *recovery) run() (err error) {
	if err := r.look(); err != nil {
		var bad *store.CorruptionError
		if errors.As(err, &bad) {
			err = fmt.Errorf("%w; see what is left: kiteqctl store verify %s", err, r.j.o.Dir)
		}
		return err
	}
	defer r.caught(debug.SetPanicOnFault(true), &err)
	if err := r.repair(); err != nil {
		return err
	}
	for _, st := range r.j.streams {
		r.j.raise(st)
	}
	return nil
}

// look learns all that repair needs and changes nothing.
func (r *recovery) look() (err error) {
	defer r.caught(debug.SetPanicOnFault(true), &err)
	for _, step := range []func() error{r.list, r.checkpoint, r.segments, r.walk, r.chain, r.heads} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// caught makes an error of a fault in a segment.
func (r *recovery) caught(before bool, err *error) {
	debug.SetPanicOnFault(before)
	if fault := recover(); fault != nil {
		*err = r.j.faulted(fault, r.behind...)
		if *err == nil {
			panic(fault)
		}
	}
}

// list sorts the names in the directory. A name that is none of ours stops it: the directory is
// probably not meant for a journal.
func (r *recovery) list() error {
	names, err := r.j.fs.List(r.j.o.Dir)
	if err != nil {
		return fmt.Errorf("list the store directory: %w", err)
	}
	for _, name := range names {
		number, ext, ok := parseName(name)
		switch {
		case name == lockName || name == reserveName || name == "lost+found" || strings.HasPrefix(name, "."):
		case ok && ext == segmentExt:
			r.numbers = append(r.numbers, number)
		case ok && ext == indexExt:
			r.indexes = append(r.indexes, number)
		case ok && ext == idsExt:
			r.ids = append(r.ids, number)
		case ok && ext == checkpointExt:
			r.snapshots = append(r.snapshots, number)
		case filepath.Ext(name) == tempExt:
			r.temporary = append(r.temporary, filepath.Join(r.j.o.Dir, name))
		case filepath.Ext(name) == cutExt:
			r.cuts = append(r.cuts, name)
		default:
			return fmt.Errorf("open the journal in %s: %s is not a file of the journal; move it away or choose an empty directory",
				r.j.o.Dir, filepath.Join(r.j.o.Dir, name))
		}
	}
	slices.Sort(r.numbers)
	slices.Sort(r.snapshots)
	return nil
}

// checkpoint opens the newest one that is whole.
func (r *recovery) checkpoint() error {
	var broken []uint64
	for _, number := range slices.Backward(r.snapshots) {
		c, err := openCheckpoint(r.j.fs, r.j.o.Dir, number)
		var bad *store.CorruptionError
		switch {
		case errors.As(err, &bad):
			broken = append(broken, number)
			if r.damaged == nil {
				r.damaged = err
			}
			continue
		case err != nil:
			return err
		}
		r.j.restore, r.j.covered = c, c.position
		r.durable = c.position
		break
	}
	if n := len(r.snapshots); n > 0 {
		r.j.snapshot = r.snapshots[n-1]
	}
	// Broken ones come first, so they go before the good ones when new ones are written.
	r.j.snapshots = append(broken, slices.DeleteFunc(r.snapshots, func(n uint64) bool { return slices.Contains(broken, n) })...)
	return nil
}

// segments maps all files and reads their headers. One without is left for walk to judge.
func (r *recovery) segments() error {
	j := r.j
	for _, number := range r.numbers {
		seg := &segment{number: number, path: numbered(j.o.Dir, number, segmentExt), fs: j.fs}
		data, err := mapFile(j.fs, seg.path)
		if err != nil {
			return fmt.Errorf("open a segment: %w; it must be a file that this user can read and write", err)
		}
		seg.data = data
		seg.refs.Store(1)
		r.behind = append(r.behind, seg)
		if err := seg.readHeader(); err != nil && !seg.headless(err) {
			return err
		}
	}
	return nil
}

// load reads the segment's index file. It changes nothing unless all of it fits. end is where the segment
// must end, -1 when the next one was trimmed.
func (r *recovery) load(seg *segment, end int64) error {
	path := numbered(r.j.o.Dir, seg.number, indexExt)
	b, err := mapFile(r.j.fs, path)
	if err != nil {
		return err
	}
	err = guarded(path, b, func() error {
		t, err := readIndex(b, seg)
		if err == nil && end >= 0 && t.end != end {
			err = errIndex // of an earlier sealing; the segment was opened again
		}
		if err != nil {
			return err
		}
		return r.take(seg, b, t)
	})
	if err != nil {
		_ = r.j.fs.Unmap(b)
		return err
	}
	r.durable = max(r.durable, seg.limit())
	return nil
}

// loadIDs takes the segment's id index, or makes one.
func (r *recovery) loadIDs(seg *segment) (err error) {
	if slices.Contains(r.ids, seg.number) {
		path := numbered(r.j.o.Dir, seg.number, idsExt)
		b, err := mapFile(r.j.fs, path)
		if err == nil {
			err = guarded(path, b, func() (err error) {
				seg.ids.file, err = openIDs(b, seg)
				return err
			})
			if err == nil {
				r.j.idCount = seg.ids.file.count
				return nil
			}
			err = errors.Join(err, r.j.fs.Unmap(b))
		}
		r.j.log.Warn("id index not usable, it is rebuilt", "file", seg.path, "err", err)
	}
	seg.ids.table, err = seg.scanIDs()
	r.nameless = append(r.nameless, seg)
	return err
}

// take makes b, with its table t, the index of the segment.
func (r *recovery) take(seg *segment, b []byte, t indexTable) error {
	j := r.j
	streams := make([]*stream, len(t.streams))
	for i, e := range t.streams {
		if streams[i] = j.streams[string(e.name)]; streams[i] == nil {
			streams[i] = newStream(string(e.name))
		}
		if e.first < streams[i].next || e.first == 0 {
			return errIndex
		}
	}
	seg.index, seg.mapped, seg.end, seg.newestMs, seg.gaps = b, true, t.end, t.newestMs, t.gaps
	for i, e := range t.streams {
		st, p := streams[i], part{seg: seg, first: e.first, count: e.count, at: e.at}
		j.streams[st.name] = st
		st.parts = append(st.parts, p)
		st.next = p.next()
		seg.holds = append(seg.holds, hold{st, p.next() - 1})
	}
	for _, l := range t.late {
		if i := slices.IndexFunc(j.segments, func(s *segment) bool { return s.number == l.segment }); i >= 0 {
			j.segments[i].keep(streams[l.stream], l.seq)
		}
	}
	return nil
}

// chain checks that the checkpoint and the segments know the same journal.
func (r *recovery) chain() error {
	j := r.j
	for _, seg := range j.segments {
		if n := len(seg.gaps); n > 0 && seg.position(seg.gaps[n-1].to) > j.covered {
			return r.missing(seg.path, errUncovered)
		}
	}
	switch end := j.tail(); {
	case len(j.segments) == 0 && (j.covered > 0 || r.damaged != nil):
		return r.missing(numbered(j.o.Dir, j.snapshot, checkpointExt), errors.New("the segments that it refers to are missing"))
	case j.covered > end:
		last := j.segments[len(j.segments)-1]
		return last.corrupt(last.end, fmt.Errorf("the checkpoint knows the journal up to position %d, it ends at %d", j.covered, end))
	case r.damaged != nil:
		j.log.Warn("checkpoint damaged, replaying from an older one", "err", r.damaged)
	}
	return nil
}

// missing is the error for a gap. With a damaged checkpoint it is that one's: the gap might not matter
// if it were whole.
func (r *recovery) missing(path string, err error) error {
	if r.damaged != nil {
		return r.damaged
	}
	return &store.CorruptionError{File: path, Err: err}
}

// heads gives streams the next Seq that the checkpoint remembers.
func (r *recovery) heads() error {
	c := r.j.restore
	if c == nil {
		return nil
	}
	if len(r.j.segments) == 0 {
		r.j.sequence = c.sequence
	}
	return guarded(c.path, c.data, func() error {
		_, err := c.eachHead(func(name []byte, next kite.Seq) {
			st := r.j.streams[string(name)]
			if st == nil {
				st = newStream(string(name))
				r.j.streams[st.name] = st
			}
			st.next = max(st.next, min(next, maxSeq))
		})
		return err
	})
}
