package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData forces the file's bytes, and its size, to the disk.
func syncData(f *os.File) error {
	return os.NewSyscallError("fdatasync", unix.Fdatasync(int(f.Fd())))
}
