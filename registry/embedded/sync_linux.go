package embedded

import (
	"os"
	"syscall"
)

// syncData makes the file's bytes and length durable; times may lag.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return err
		}
	}
}
