package mmap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/kiteq/kiteq/store"
)

const lockName = "LOCK"

// lockDir claims the directory with flock. The kernel drops the claim when the process dies, so a
// file that is left over locks nobody out.
func lockDir(dir string) (io.Closer, error) {
	path := filepath.Join(dir, lockName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("lock the store directory %s: %w; it must be a directory that this user can write", dir, err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = writePid(file)
	}
	if err == nil {
		return file, nil
	}
	defer func() { _ = file.Close() }()
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	pid := make([]byte, 20)
	n, _ := file.ReadAt(pid, 0) // the text is a courtesy
	return nil, fmt.Errorf("open the journal in %s: process %s has it; stop that one or choose another directory: %w",
		dir, bytes.TrimSpace(pid[:n]), store.ErrLocked)
}

func writePid(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
	return err
}
