package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// CorruptionError says that a file of Dir is not as it was written. The server does not start on it:
// move the directory away to begin empty (brokers and clients register again; what only stands in
// the registry is lost), or put back a copy.
type CorruptionError struct {
	File   string
	Offset int64 // where the part that cannot be read begins
	Err    error
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("%s is damaged at offset %d: %v", e.File, e.Offset, e.Err)
}

// Unwrap returns what is wrong there.
func (e *CorruptionError) Unwrap() error { return e.Err }

// openJournal locks dir and rebuilds t, which is new, from what it finds: the newest snapshot, then
// every transaction after it.
func openJournal(dir string, t *tree, log *slog.Logger) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	j := &journal{dir: dir, lock: lock}
	if err := j.recover(t, log); err != nil {
		j.close()
		return nil, fmt.Errorf("recover %s: %w", dir, err)
	}
	return j, nil
}

func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("directory %s is used by another process, or by another server in this one: "+
			"stop that one or use another directory: %w", dir, err)
	}
	return f, nil
}

// unlockDir unlocks before it closes: a process that is being forked right now may hold the file open too,
// until it execs.
func unlockDir(lock *os.File) error {
	return errors.Join(syscall.Flock(int(lock.Fd()), syscall.LOCK_UN), lock.Close())
}

func (j *journal) recover(t *tree, log *slog.Logger) error {
	files, err := listFiles(j.dir)
	if err != nil {
		return err
	}
	if n := len(files.snapshots); n > 0 {
		if err := j.loadSnapshot(files.snapshots[n-1], t); err != nil {
			return err
		}
	}
	for i, path := range files.logs {
		if err := j.loadLog(path, i == len(files.logs)-1, t, log); err != nil {
			return err
		}
	}
	if j.file == nil {
		return j.startLog(t.zxid)
	}
	return nil
}

func (j *journal) loadSnapshot(path string, t *tree) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	loaded, err := decodeSnapshot(b)
	if err != nil {
		return &CorruptionError{File: path, Err: err}
	}
	*t = *loaded
	j.lastCopy = int64(len(b))
	return nil
}

// loadLog replays one log. The last one is kept open for more; only its tail may be torn.
func (j *journal) loadLog(path string, last bool, t *tree, log *slog.Logger) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	header, err := parseLogHeader(b)
	if err != nil {
		if last && errors.Is(err, errNotWhole) && len(b) <= logHeaderSize {
			log.Warn("log without a whole header removed: it was just begun", "file", path)
			return os.Remove(path)
		}
		return &CorruptionError{File: path, Err: err}
	}
	if header.base > t.zxid {
		return &CorruptionError{File: path, Offset: 20, Err: fmt.Errorf(
			"it begins after zxid 0x%x, but what comes before ends at 0x%x: a file is missing", header.base, t.zxid)}
	}
	end, err := header.scan(b, func(x *txn) error {
		if x.zxid <= t.zxid { // in the snapshot already
			return nil
		}
		return t.replay(x)
	})
	if errors.Is(err, errTorn) && last {
		log.Warn("torn tail of the log cut: its last commit was under way when the process ended and was never answered",
			"file", path, "offset", end, "bytes", len(b)-end)
		err = nil
	}
	if err != nil {
		return &CorruptionError{File: path, Offset: int64(end), Err: err}
	}
	if !last {
		return nil
	}
	return j.resume(path, header, int64(end))
}

// resume opens the last log for more, cut to size.
func (j *journal) resume(path string, header logHeader, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	j.file, j.logHeader, j.size = f, header, size
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	_, err = f.Seek(size, 0)
	return err
}

var errTorn = errors.New("the record is not whole")

// scan visits the log's transactions in order and returns where it stopped: at the end; at a record
// that is not whole with nothing whole after it, with errTorn; or at a damaged one. A damaged record
// at the very end cannot be told from a torn one.
func (h logHeader) scan(b []byte, visit func(*txn) error) (int, error) {
	off := logHeaderSize
	for off < len(b) {
		payload, next, ok := h.record(b, off)
		if !ok {
			for later := off + 1; later < len(b); later++ {
				if _, _, ok := h.record(b, later); ok {
					return off, fmt.Errorf("the record is not whole, but one at offset %d is", later)
				}
			}
			return off, errTorn
		}
		d := decoder{b: payload}
		for len(d.b) > 0 {
			x, err := decodeTxn(&d)
			if err == nil {
				err = visit(&x)
			}
			if err != nil {
				return off, err
			}
		}
		off = next
	}
	return off, nil
}

// files are the paths of what a directory holds, oldest first.
type files struct {
	logs, snapshots []string
}

func fileName(prefix string, zxid int64) string { return fmt.Sprintf("%s%016x", prefix, zxid) }

// listFiles removes what an interrupted writeFile left, and ignores files that are not ours.
func listFiles(dir string) (files, error) {
	var f files
	entries, err := os.ReadDir(dir) // sorted by name, and the names have a fixed length
	if err != nil {
		return f, err
	}
	for _, entry := range entries {
		name, path := entry.Name(), filepath.Join(dir, entry.Name())
		switch {
		case strings.HasPrefix(name, temporaryPrefix+snapshotPrefix):
			if err := os.Remove(path); err != nil {
				return f, err
			}
		case isZxidName(name, logPrefix):
			f.logs = append(f.logs, path)
		case isZxidName(name, snapshotPrefix):
			f.snapshots = append(f.snapshots, path)
		}
	}
	return f, nil
}

func isZxidName(name, prefix string) bool {
	hex, ok := strings.CutPrefix(name, prefix)
	_, err := strconv.ParseUint(hex, 16, 63)
	return ok && err == nil && len(hex) == 16
}

// removeBefore removes the logs and snapshots that are older than the ones of zxid.
func (f files) removeBefore(zxid int64) error {
	var errs []error
	for _, path := range append(f.logs, f.snapshots...) {
		name := filepath.Base(path)
		if name < fileName(name[:strings.IndexByte(name, '-')+1], zxid) {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}
