package mmap

import (
	"errors"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/kiteq/kiteq/store/storetest"
)

var errFaulty = errors.New("input/output error of the test")

// faultyFS asks a fault before each operation that changes the disk.
type faultyFS struct {
	FS
	fault *storetest.Fault
}

// do runs the operation, or not, as the fault says. torn is what a torn one does.
func do(fault *storetest.Fault, torn, op func() error) error {
	if !fault.Next() {
		return op()
	}
	switch fault.Mode {
	case storetest.Torn:
		_ = torn()
	case storetest.After:
		_ = op()
	}
	return errFaulty
}

func nothing() error { return nil }

func (f faultyFS) file(name string, open func(string) (File, error)) (file File, err error) {
	err = do(f.fault, nothing, func() error {
		file, err = open(name)
		return err
	})
	if err != nil {
		if file != nil {
			_ = file.Close()
		}
		return nil, err
	}
	return faultyFile{file, f.fault}, nil
}

func (f faultyFS) Create(path string) (File, error) { return f.file(path, f.FS.Create) }
func (f faultyFS) Open(path string) (File, error)   { return f.file(path, f.FS.Open) }

func (f faultyFS) Rename(from, to string) error {
	return do(f.fault, nothing, func() error { return f.FS.Rename(from, to) })
}

func (f faultyFS) Remove(path string) error {
	return do(f.fault, nothing, func() error { return f.FS.Remove(path) })
}

func (f faultyFS) SyncDir(dir string) error {
	return do(f.fault, nothing, func() error { return f.FS.SyncDir(dir) })
}

type faultyFile struct {
	File
	fault *storetest.Fault
}

func (f faultyFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = do(f.fault, func() error {
		n, err = f.File.WriteAt(p[:len(p)/2], off)
		return err
	}, func() error {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}

func (f faultyFile) Allocate(size int64) error {
	return do(f.fault, func() error { return f.File.Allocate(size / 2) }, func() error { return f.File.Allocate(size) })
}

func (f faultyFile) Truncate(size int64) error {
	return do(f.fault, nothing, func() error { return f.File.Truncate(size) })
}

func (f faultyFile) Punch(off, size int64) error {
	return do(f.fault, func() error { return f.File.Punch(off, size/2/punchBlock*punchBlock) }, func() error { return f.File.Punch(off, size) })
}

func (f faultyFile) Sync() error {
	return do(f.fault, nothing, f.File.Sync)
}

func (f faultyFile) Map(size int64) (data []byte, err error) {
	err = do(f.fault, nothing, func() error {
		data, err = f.File.Map(size)
		return err
	})
	if err != nil && data != nil {
		_ = unix.Munmap(data)
		data = nil
	}
	return data, err
}

// smallDisk has room for a number of segments.
type smallDisk struct {
	FS
	free int64
	used atomic.Int64
}

func (d *smallDisk) Create(path string) (File, error) {
	file, err := d.FS.Create(path)
	if err != nil || filepath.Ext(path) != segmentExt {
		return file, err
	}
	return smallFile{file, d}, nil
}

func (d *smallDisk) Remove(path string) error {
	if filepath.Ext(path) == segmentExt {
		d.used.Add(-1)
	}
	return d.FS.Remove(path)
}

type smallFile struct {
	File
	disk *smallDisk
}

func (f smallFile) Allocate(size int64) error {
	if f.disk.used.Add(1) > f.disk.free {
		return unix.ENOSPC
	}
	return f.File.Allocate(size)
}
