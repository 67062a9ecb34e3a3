package mmap

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// repair makes the directory what a running journal expects and everything in it durable. It runs
// when all of it was found sound, or torn in the way a crash tears.
func (r *recovery) repair() error {
	j := r.j
	if err := r.setAside(); err != nil {
		return fmt.Errorf("set segments aside: %w", err)
	}
	r.orphans(r.indexes, indexExt)
	r.orphans(r.ids, idsExt)
	for _, path := range r.temporary {
		if err := j.fs.Remove(path); err != nil {
			return fmt.Errorf("remove what is left of an unfinished file: %w", err)
		}
	}
	for _, seg := range r.unsaved {
		if err := r.restore(seg); err != nil {
			return fmt.Errorf("write the segment %s anew: %w", seg.path, err)
		}
	}
	// Before the last segment is cut, or what was behind it would follow a place that is gone; and before
	// an index says that its segment is durable.
	if err := j.fs.SyncDir(j.o.Dir); err != nil {
		return fmt.Errorf("sync the directory: %w", err)
	}
	for _, seg := range r.unsaved {
		j.saveIndex(seg)
	}
	for _, seg := range r.nameless {
		j.saveIDs(seg)
	}
	if n := len(j.segments); n > 0 {
		if err := r.resume(j.segments[n-1]); err != nil {
			return fmt.Errorf("prepare the last segment %s: %w", j.segments[n-1].path, err)
		}
	}
	// Headers of gaps come before anything else; what is left to punch is for the next Trim.
	for _, seg := range j.segments {
		patches, err := seg.patches()
		if err == nil && len(patches) > 0 {
			err = j.carve(seg)
		}
		if err != nil {
			return fmt.Errorf("finish the gaps of %s: %w", seg.path, err)
		}
	}
	if err := j.restock(); err != nil {
		return err
	}
	if err := j.fs.SyncDir(j.o.Dir); err != nil {
		return fmt.Errorf("sync the directory: %w", err)
	}
	j.durable.Store(uint64(j.tail()))
	return nil
}

// orphans has the derived files removed whose segment is gone or is written to again.
func (r *recovery) orphans(numbers []uint64, ext string) {
	segments := r.j.segments
	for _, number := range numbers {
		i := slices.IndexFunc(segments, func(s *segment) bool { return s.number == number })
		if i < 0 || i == len(segments)-1 {
			r.temporary = append(r.temporary, numbered(r.j.o.Dir, number, ext))
		}
	}
}

// setAside takes the segments behind the end of the journal out of the way: those with bytes in them are
// kept under another name.
func (r *recovery) setAside() error {
	var removed, saved []string
	defer r.release()
	for _, seg := range r.behind {
		if len(seg.data) <= segmentHeader || allZero(seg.data[segmentHeader:]) {
			removed = append(removed, seg.path)
			r.temporary = append(r.temporary, seg.path)
			continue
		}
		aside := r.cutPath(seg, 0)
		saved = append(saved, aside)
		if err := r.j.fs.Rename(seg.path, aside); err != nil {
			return err
		}
	}
	if len(r.behind) > 0 {
		r.j.log.Warn("segments that were never synced set aside: the journal ends before them",
			"position", r.j.tail(), "err", r.lost, "saved", saved, "removed", removed)
	}
	return nil
}

// cutPath returns a name that is free for what is cut at off.
func (r *recovery) cutPath(seg *segment, off int64) string {
	name := fmt.Sprintf("%08d-%d%s", seg.number, off, cutExt)
	for n := 2; slices.Contains(r.cuts, name); n++ {
		name = fmt.Sprintf("%08d-%d-%d%s", seg.number, off, n, cutExt)
	}
	r.cuts = append(r.cuts, name)
	return filepath.Join(r.j.o.Dir, name)
}

// restore makes durable what nothing proves to be, of a segment that is complete.
func (r *recovery) restore(seg *segment) (err error) {
	if seg.limit() <= r.durable {
		return nil
	}
	if seg.file, err = r.j.fs.Open(seg.path); err != nil {
		return err
	}
	err = errors.Join(r.rewrite(seg), seg.file.Close())
	seg.file = nil
	return err
}

// resume opens the last segment for Append, without what was torn.
func (r *recovery) resume(seg *segment) (err error) {
	j := r.j
	if seg.file, err = j.fs.Open(seg.path); err != nil {
		return err
	}
	j.open = seg
	size := int64(len(seg.data))
	if r.torn != nil {
		if err := r.cut(seg); err != nil {
			return err
		}
	}
	if r.torn != nil || size < int64(j.o.SegmentBytes) {
		// Without room the segment stays as it is, and the first Append that needs more says so.
		err := seg.file.Allocate(max(size, int64(j.o.SegmentBytes)))
		if err != nil && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
			return err
		}
	}
	if err := r.remap(seg); err != nil {
		return err
	}
	return r.rewrite(seg)
}

// cut removes the torn tail. Its bytes must be gone, not just passed over: a whole batch among them
// could otherwise come back to life behind batches that are yet to be written.
func (r *recovery) cut(seg *segment) error {
	saved := ""
	if r.whole || r.keep {
		saved = r.cutPath(seg, seg.end)
		if err := r.save(saved, seg.data[seg.end:]); err != nil {
			return err
		}
		// The name first: a power cut could keep the shorter segment and forget the new file.
		if err := r.j.fs.SyncDir(r.j.o.Dir); err != nil {
			return err
		}
	}
	r.j.log.Warn("torn tail cut", "file", seg.path, "offset", seg.end, "err", r.torn, "saved", saved)
	return seg.file.Truncate(seg.end)
}

// save keeps bytes that are about to be cut although some of them are whole batches. In class
// written a machine that dies may leave such; they were never promised, and they may be missed.
func (r *recovery) save(path string, bytes []byte) error {
	for len(bytes) >= batchAlign && allZero(bytes[len(bytes)-batchAlign:]) {
		bytes = bytes[:len(bytes)-batchAlign]
	}
	file, err := r.j.fs.Create(path + tempExt)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(append([]byte(nil), bytes...), 0)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return r.j.fs.Rename(path+tempExt, path)
}

// remap maps the file at its present size.
func (r *recovery) remap(seg *segment) error {
	size, err := seg.file.Size()
	if err != nil || size == int64(len(seg.data)) {
		return err
	}
	data, err := seg.file.Map(size)
	if err != nil {
		return err
	}
	old := seg.data
	seg.data = data
	return r.j.fs.Unmap(old)
}

// rewrite writes once more what nothing proves to be durable, and syncs. The bytes may be in memory
// only: after a kill because nobody synced them, after a failed sync because the kernel has then
// marked them as clean, and would not write them however often it is asked.
func (r *recovery) rewrite(seg *segment) error {
	from := int64(0)
	if r.durable > seg.base {
		from = int64(r.durable - seg.base)
	}
	buf := make([]byte, min(1<<20, max(0, seg.end-from)))
	for from < seg.end {
		n := copy(buf, seg.data[from:seg.end])
		if _, err := seg.file.WriteAt(buf[:n], from); err != nil {
			return err
		}
		from += int64(n)
	}
	return seg.file.Sync()
}
