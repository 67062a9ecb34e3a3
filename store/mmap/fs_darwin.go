package mmap

// Allocate writes zeros: what F_PREALLOCATE reserves is not kept for a mapping.
func (f osFile) Allocate(size int64) error { return f.fill(size) }

// Sync is os.File.Sync, which asks for F_FULLFSYNC.
func (f osFile) Sync() error { return f.File.Sync() }
