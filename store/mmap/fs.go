package mmap

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FS is what the journal asks of a file system. Tests put failing, tearing or forgetting ones in
// its place.
type FS interface {
	// MkdirAll creates the directory and its parents, mode 0750.
	MkdirAll(dir string) error
	// Lock claims the directory for this process until the result is closed. store.ErrLocked says
	// that another one has it.
	Lock(dir string) (io.Closer, error)
	// List returns the names in the directory.
	List(dir string) ([]string, error)
	// Create creates a file that must not exist, mode 0640.
	Create(path string) (File, error)
	// Open opens an existing file to read and write.
	Open(path string) (File, error)
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes creations, renames and removals in the directory durable.
	SyncDir(dir string) error
	// Unmap ends a mapping of File.Map.
	Unmap(mapping []byte) error
}

// File is an open file of an FS.
type File interface {
	io.WriterAt
	io.Closer
	Size() (int64, error)
	// Allocate gives the file disk blocks up to size, so that no later write or read below it can
	// find the disk full. New bytes are zero.
	Allocate(size int64) error
	// Truncate drops the bytes from size on.
	Truncate(size int64) error
	// Punch gives the disk blocks of size bytes at off back; they read as zeros then. Both are
	// multiples of punchBlock. errors.ErrUnsupported says that the file system cannot.
	Punch(off, size int64) error
	// Sync is fdatasync: the bytes, and the size when it changed.
	Sync() error
	// Map maps the first size bytes for reading; later writes show up in it. It outlives Close.
	Map(size int64) ([]byte, error)
}

// osFS is the operating system's.
type osFS struct{}

func (osFS) MkdirAll(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	return osFS{}.SyncDir(filepath.Dir(dir))
}

func (osFS) Lock(dir string) (io.Closer, error) { return lockDir(dir) }

func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (osFS) Create(path string) (File, error) {
	return openFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (osFS) Open(path string) (File, error) { return openFile(path, os.O_RDWR) }
func (osFS) Rename(from, to string) error   { return os.Rename(from, to) }
func (osFS) Remove(path string) error       { return os.Remove(path) }
func (osFS) Unmap(mapping []byte) error     { return unix.Munmap(mapping) }

// Space returns how much of the directory's file system is free for this process, and how large it is, bytes.
func (osFS) Space(dir string) (free, size int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize), nil
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func openFile(path string, flag int) (File, error) {
	f, err := os.OpenFile(path, flag, 0o640)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Map(size int64) ([]byte, error) {
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: f.Name(), Err: err}
	}
	return data, nil
}

// fill gives the file blocks by writing zeros, for file systems that cannot be asked for them.
func (f osFile) fill(size int64) error {
	at, err := f.Size()
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for at < size {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}
