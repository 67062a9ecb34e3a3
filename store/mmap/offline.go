package mmap

import (
	"fmt"
	"log/slog"
	"path/filepath"
)

// Repair makes of the stopped journal in dir what a broker starts with, and tells log what it did. It cuts a torn end,
// sets aside what lies behind the end of the journal, completes gaps, and makes indexes again: also one whose
// checksum is right and whose entries mislead, which no start notices. A damaged checkpoint that an older one stands
// in for is set aside.
//
// It deletes no bytes that anybody may miss: what is cut or set aside goes into .cut files, what is made again is
// derived, and files that were never finished hold nothing. Damage to a segment, or to what no file stands in for,
// is refused, as Inspect reports it, and then nothing was changed.
//
// store.ErrLocked says that a broker has the journal open. Other errors are of reading and writing the directory.
func Repair(dir string, log *slog.Logger) error {
	before, err := Inspect(dir, false, nil)
	if err != nil {
		return err
	}
	if len(before) == 0 {
		return fmt.Errorf("repair the journal in %s: there is none", dir)
	}
	if err := hopeless(before); err != nil {
		return err
	}
	if err := restart(dir, log); err != nil { // first, since an index may name gaps that its segment does not have yet
		return err
	}
	after, err := Inspect(dir, false, nil)
	if err != nil {
		return err
	}
	if err := hopeless(after); err != nil {
		return err
	}
	misleading := false
	for _, f := range after {
		if f.Err == nil {
			continue
		}
		if err := putAside(dir, f.Path, log); err != nil {
			return err
		}
		misleading = true
	}
	if !misleading {
		return nil
	}
	return restart(dir, log)
}

// hopeless returns the first damage that nothing stands in for.
func hopeless(reports []FileReport) error {
	for _, f := range reports {
		switch {
		case f.Err == nil || f.Kind == "index" || f.Kind == "ids":
		case f.Kind == "checkpoint": // the start judges whether an older one will do, and changes nothing before
		default:
			return f.Err
		}
	}
	return nil
}

// restart opens the journal and closes it. It allocates next to nothing: the next broker does.
func restart(dir string, log *slog.Logger) error {
	j, err := recovered(Options{Dir: dir, SegmentBytes: minSegment}, log, true)
	if err != nil {
		return err
	}
	return j.Close()
}

// putAside renames a damaged file to one that no start reads.
func putAside(dir, path string, log *slog.Logger) error {
	fs := osFS{}
	lock, err := fs.Lock(dir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	taken := map[string]bool{}
	for _, name := range names {
		taken[name] = true
	}
	aside := filepath.Base(path) + cutExt
	for n := 2; taken[aside]; n++ {
		aside = fmt.Sprintf("%s-%d%s", filepath.Base(path), n, cutExt)
	}
	if err := fs.Rename(path, filepath.Join(dir, aside)); err != nil {
		return fmt.Errorf("set %s aside: %w", path, err)
	}
	log.Warn("damaged file set aside", "file", path, "saved", aside)
	return fs.SyncDir(dir)
}
