package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/kiteq/kiteq/internal/kite"
)

// reading is the content of the file at one time.
type reading struct {
	data []byte
	// open tells that everybody may write the file.
	open bool
}

// read returns the file's content. What is no plain file is refused, since opening a pipe may block.
func read(path string) (reading, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return reading{}, kite.Errorf(kite.Invalid, "%s is no plain file (%s): name the YAML file", path, info.Mode().Type())
	}
	if err != nil {
		return reading{}, explain(path, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return reading{}, explain(path, err)
	}
	defer func() { _ = f.Close() }()
	// One byte more than allowed tells of a file that is larger, also when it grows meanwhile.
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return reading{}, explain(path, err)
	}
	if len(data) > MaxSize {
		return reading{}, kite.Errorf(kite.TooLarge, "%s is larger than %d MiB: use fewer entries, or ZooKeeper", path, MaxSize>>20)
	}
	return reading{data: data, open: info.Mode().Perm()&0o002 != 0}, nil
}

func explain(path string, err error) error {
	code, hint := kite.Unavailable, "look at the disk"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		code, hint = kite.Invalid, "create it, or name another one; a relative path begins at "+workingDir()
	case errors.Is(err, fs.ErrPermission):
		code, hint = kite.Invalid, fmt.Sprintf("let user %d read the file and pass its directories", os.Getuid())
	}
	return kite.Errorf(code, "registry file %q: %w: %s", path, err, hint)
}

// workingDir names the working directory for a message.
func workingDir() string {
	dir, err := os.Getwd()
	if err != nil {
		return "the working directory"
	}
	return dir
}
