package mmap

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// FileReport is what Inspect found in one file.
type FileReport struct {
	// Path of the file; one that is missing has a report with Err, too.
	Path string
	// Kind is segment, index, ids, checkpoint, reserve, cut, temporary, foreign or missing.
	Kind string
	// Bytes is the size of the file.
	Bytes int64
	// Batches and Records are whole ones; the Records of an index and of ids are their entries.
	Batches, Records int
	// Gaps is how many gaps a segment has, GapBytes what they span: bytes that nobody needed any more.
	Gaps     int
	GapBytes int64
	// Note says what a crash has left and the next start puts right.
	Note string
	// Err is the first damage, nil when there is none: a *store.CorruptionError says where.
	Err error
}

// Inspect reads every file of the journal in dir and changes none. It goes on where Open refuses. visit,
// unless nil, gets every whole record of the segments in journal order, as it was appended: a view,
// valid during the call. When it returns false the reading ends, and the reports are of what was read
// so far; else they are of all files, by name, and have what Open would refuse.
//
// store.ErrLocked says that a broker has the journal open. force reads it all the same: what is being
// written then may look torn. Other errors are of reading the directory.
func Inspect(dir string, force bool, visit func(*kite.Record) bool) ([]FileReport, error) {
	if !force {
		lock, err := lockShared(dir)
		if err != nil {
			return nil, err
		}
		defer func() { _ = lock.Close() }()
	}
	if visit == nil {
		visit = func(*kite.Record) bool { return true }
	}
	in := &inspector{dir: dir, fs: readFS{}, visit: visit, segments: map[uint64]*segment{}}
	defer in.release()
	if err := in.files(); err != nil {
		return nil, fmt.Errorf("inspect the journal in %s: %w", dir, err)
	}
	if !in.enough {
		if err := in.judge(); err != nil {
			return nil, fmt.Errorf("inspect the journal in %s: %w", dir, err)
		}
	}
	return in.reports, nil
}

// readFS opens files for reading only: a copy on a read-only disk can be inspected.
type readFS struct{ osFS }

func (readFS) Open(path string) (File, error) { return openFile(path, os.O_RDONLY) }

// lockShared claims the directory without leaving a trace in it.
func lockShared(dir string) (io.Closer, error) {
	path := filepath.Join(dir, lockName)
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return io.NopCloser(nil), nil
	}
	if err != nil {
		return nil, fmt.Errorf("lock the store directory %s: %w", dir, err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	switch {
	case err == nil:
		return file, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		err = fmt.Errorf("inspect the journal in %s: a broker has it open: %w", dir, store.ErrLocked)
	default:
		err = fmt.Errorf("lock %s: %w", path, err)
	}
	return nil, errors.Join(err, file.Close())
}

// inspector is one Inspect.
type inspector struct {
	dir      string
	fs       FS
	visit    func(*kite.Record) bool
	segments map[uint64]*segment // those with a good header
	order    []uint64            // of all segment files
	reports  []FileReport
	enough   bool // visit has said so
}

func (in *inspector) release() {
	for _, seg := range in.segments {
		seg.release()
	}
}

// files reads them one by one, segments first: an index is compared with its own.
func (in *inspector) files() error {
	names, err := in.fs.List(in.dir)
	if err != nil {
		return err
	}
	numbers := map[string][]uint64{}
	for _, name := range names {
		number, ext, ok := parseName(name)
		switch {
		case name == lockName || name == "lost+found" || name[0] == '.':
		case ok && (ext == segmentExt || ext == indexExt || ext == idsExt || ext == checkpointExt):
			numbers[ext] = append(numbers[ext], number)
		case name == reserveName:
			in.other(name, "reserve", "", nil)
		case filepath.Ext(name) == tempExt:
			in.other(name, "temporary", "unfinished: the next start removes it", nil)
		case filepath.Ext(name) == cutExt:
			in.other(name, "cut", "set aside by a recovery, never read again", nil)
		default:
			in.other(name, "foreign", "", errors.New("it is not a file of the journal; move it away"))
		}
	}
	for _, all := range numbers {
		slices.Sort(all)
	}
	in.order = numbers[segmentExt]
	in.heads()
	for _, number := range in.order {
		in.file(number, segmentExt, "segment", in.segment)
	}
	for _, number := range numbers[indexExt] {
		in.file(number, indexExt, "index", in.index)
	}
	for _, number := range numbers[idsExt] {
		in.file(number, idsExt, "ids", in.ids)
	}
	for _, number := range numbers[checkpointExt] {
		in.file(number, checkpointExt, "checkpoint", in.checkpoint)
	}
	return nil
}

func (in *inspector) other(name, kind, note string, err error) {
	f := FileReport{Path: filepath.Join(in.dir, name), Kind: kind, Note: note, Err: err}
	if info, err := os.Stat(f.Path); err == nil {
		f.Bytes = info.Size()
	}
	in.reports = append(in.reports, f)
}

// heads reads the headers of all segments: where one ends is known from the next.
func (in *inspector) heads() {
	for _, number := range in.order {
		seg := &segment{number: number, path: numbered(in.dir, number, segmentExt), fs: in.fs}
		seg.refs.Store(1)
		var err error
		if seg.data, err = mapFile(in.fs, seg.path); err == nil && seg.readHeader() == nil {
			in.segments[number] = seg
		} else {
			seg.release()
		}
	}
}

// file maps one file and has it read.
func (in *inspector) file(number uint64, ext, kind string, read func(uint64, []byte, *FileReport) error) {
	if in.enough {
		return
	}
	f := FileReport{Path: numbered(in.dir, number, ext), Kind: kind}
	data, err := mapFile(in.fs, f.Path)
	if err == nil {
		f.Bytes = int64(len(data))
		err = guarded(f.Path, data, func() error { return read(number, data, &f) })
		_ = in.fs.Unmap(data)
	}
	f.Err = err
	in.reports = append(in.reports, f)
}

var errEnough = errors.New("enough")

// segment reads every record. What ends the last one is left to judge.
func (in *inspector) segment(number uint64, data []byte, f *FileReport) error {
	seg := &segment{number: number, path: f.Path, data: data}
	if err := seg.readHeader(); err != nil {
		return err
	}
	in.gaps(seg, f)
	var rec kite.Record
	topics := map[string]string{}
	end, _, stop, err := seg.scan(segmentHeader, seg.sequence, func(off int64, h batch) error {
		f.Batches++
		return h.records(data[off:], &rec, func(at int64, topic []byte) error {
			f.Records++
			name, ok := topics[string(topic)]
			if !ok {
				name = string(topic)
				topics[name] = name
			}
			rec.Topic, rec.Position = name, seg.position(off+at)
			if !in.visit(&rec) {
				return errEnough
			}
			return nil
		})
	})
	f.Gaps = len(seg.gaps)
	in.segments[number].gaps = seg.gaps
	for _, g := range seg.gaps {
		f.GapBytes += g.to - g.from
	}
	if errors.Is(err, errEnough) {
		in.enough = true
		return nil
	}
	if err != nil || number == in.order[len(in.order)-1] {
		return err
	}
	next := in.segments[number+1]
	switch {
	case next != nil && seg.position(end) != next.base:
		return seg.corrupt(end, fmt.Errorf("%w; the next segment follows offset %d", stop, next.base-seg.base))
	case next == nil && !(errors.Is(stop, errEnd) && allZero(data[end:])):
		return seg.corrupt(end, stop)
	}
	return nil
}

// gaps takes those from the segment's index that a crash may have kept out of the segment.
func (in *inspector) gaps(seg *segment, f *FileReport) {
	data, err := mapFile(in.fs, numbered(in.dir, seg.number, indexExt))
	if err != nil {
		return
	}
	defer func() { _ = in.fs.Unmap(data) }()
	err = guarded(f.Path, data, func() error {
		t, err := readIndex(data, seg)
		seg.end, seg.gaps = t.end, t.gaps
		return err
	})
	if err != nil {
		seg.gaps = nil
	}
	if patches, err := seg.patches(); err == nil && len(patches) > 0 {
		f.Note = "its gaps are not complete: the next start completes them"
	}
}

// index compares the entries with the records that they lead to. One that cannot be used is made again.
func (in *inspector) index(number uint64, data []byte, f *FileReport) error {
	seg := in.segments[number]
	if seg == nil {
		f.Note = "its segment cannot be used"
		return nil
	}
	t, err := readIndex(data, seg)
	if err != nil {
		f.Note = "the next start makes it again: " + err.Error()
		return nil
	}
	var rec kite.Record
	var topic []byte
	entries := data[indexHeader:]
	for _, e := range t.streams {
		for k := range e.count {
			at := 4 * int64(e.at+k)
			off := int64(binary.LittleEndian.Uint32(entries[at:]))
			if off == 0 {
				continue // its record lies in a gap
			}
			err := guarded(seg.path, seg.data, func() (err error) {
				topic, err = seg.record(off, &rec)
				return err
			})
			rec.Topic = string(topic)
			if err == nil && (store.Stream(&rec) != string(e.name) || rec.Seq != e.first+kite.Seq(k)) {
				err = fmt.Errorf("it leads to %s %d of %q at offset %d, not to %d of %q", rec.Kind, rec.Seq, store.Stream(&rec), off, e.first+kite.Seq(k), e.name)
			}
			if err != nil {
				return &store.CorruptionError{File: f.Path, Offset: indexHeader + at, Err: err}
			}
			f.Records++
		}
	}
	return nil
}

// ids compares the entries with the records that they lead to. A file that cannot be used is made again.
func (in *inspector) ids(number uint64, data []byte, f *FileReport) error {
	seg := in.segments[number]
	if seg == nil {
		f.Note = "its segment cannot be used"
		return nil
	}
	ids, err := openIDs(data, seg)
	if err == nil {
		err = ids.check()
	}
	if err != nil {
		f.Note = "the next start or look makes it again: " + err.Error()
		return nil
	}
	var rec kite.Record
	for i := range ids.count {
		entry := ids.entry(i)
		off := int64(uint32(entry))
		if _, in := gapAt(seg.gaps, off); in {
			continue
		}
		err := guarded(seg.path, seg.data, func() error {
			_, err := seg.record(off, &rec)
			return err
		})
		if err == nil && ids.key.hash(rec.ID) != uint32(entry>>32) {
			err = fmt.Errorf("it leads to message %s at offset %d, whose hash is another", rec.ID, off)
		}
		if err != nil {
			return &store.CorruptionError{File: f.Path, Offset: int64(len(data) - 8*(ids.count-i)), Err: err}
		}
		f.Records++
	}
	return nil
}

func (in *inspector) checkpoint(number uint64, data []byte, f *FileReport) error {
	c := &checkpoint{number: number, path: f.Path, data: data}
	if err := c.check(); err != nil {
		return err
	}
	var rec kite.Record
	return c.each(&rec, func([]byte) error {
		f.Records++
		return nil
	})
}

// judge looks at the journal as Open does, and stops where that would begin to change it.
func (in *inspector) judge() (err error) {
	j := &Journal{
		o: Options{Dir: in.dir, FS: in.fs}.WithDefaults(), fs: in.fs, log: slog.New(slog.DiscardHandler), lock: io.NopCloser(nil),
		streams: map[string]*stream{}, late: map[lateCommit]kite.Seq{}, sequence: 1,
	}
	r := &recovery{j: j}
	defer func() {
		r.release()
		err = errors.Join(err, j.release())
	}()
	verdict := r.look()
	var bad *store.CorruptionError
	switch {
	case errors.As(verdict, &bad):
		in.blame(bad.File, verdict)
	case verdict != nil && !slices.ContainsFunc(in.reports, func(f FileReport) bool { return f.Err != nil }):
		return verdict
	case verdict == nil:
		in.excuse(r)
	}
	slices.SortFunc(in.reports, func(a, b FileReport) int { return cmp.Compare(a.Path, b.Path) })
	return nil
}

// blame gives the file the error unless it has one, and a report if it has none.
func (in *inspector) blame(path string, err error) {
	i := slices.IndexFunc(in.reports, func(f FileReport) bool { return f.Path == path })
	if i < 0 {
		in.reports = append(in.reports, FileReport{Path: path, Kind: "missing"})
		i = len(in.reports) - 1
	}
	if in.reports[i].Err == nil {
		in.reports[i].Err = err
	}
}

// excuse notes what looks like damage and is what a crash has left.
func (in *inspector) excuse(r *recovery) {
	note := func(path, note string) {
		for i := range in.reports {
			if in.reports[i].Path == path {
				in.reports[i].Note, in.reports[i].Err = note, nil
			}
		}
	}
	if r.torn != nil {
		last := r.j.segments[len(r.j.segments)-1]
		note(last.path, fmt.Sprintf("torn at offset %d (%v): the next start cuts it there", last.end, r.torn))
	}
	for _, seg := range r.behind {
		note(seg.path, "the journal ends before it and it was never synced: the next start removes it or sets it aside")
	}
}
