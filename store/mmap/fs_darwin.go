package mmap

import "errors"

// Allocate writes zeros: what F_PREALLOCATE reserves is not kept for a mapping.
func (f osFile) Allocate(size int64) error { return f.fill(size) }

// Punch is left to Linux.
func (f osFile) Punch(int64, int64) error { return errors.ErrUnsupported }

// Sync is os.File.Sync, which asks for F_FULLFSYNC.
func (f osFile) Sync() error { return f.File.Sync() }
