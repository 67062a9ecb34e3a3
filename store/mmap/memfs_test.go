package mmap

import (
	"bytes"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/kiteq/kiteq/store"
)

// memFS is a directory in memory, for tests that open thousands of journals. A mapping is the file's
// own bytes, so later writes show up in it as they do in a real one.
type memFS struct {
	mu     sync.Mutex
	files  files
	locked bool
}

// files is a directory's content.
type files map[string][]byte

func newFS(f files) *memFS { return &memFS{files: f.clone()} }

func (f files) clone() files {
	g := files{}
	for name, data := range f {
		g[name] = bytes.Clone(data)
	}
	return g
}

func (f files) names() []string    { return slices.Sorted(maps.Keys(f)) }
func (f files) equal(g files) bool { return maps.EqualFunc(f, g, bytes.Equal) }

func (m *memFS) snapshot() files {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.files.clone()
}

func (m *memFS) MkdirAll(string) error { return nil }

func (m *memFS) Lock(string) (io.Closer, error) {
	if m.locked {
		return nil, store.ErrLocked
	}
	m.locked = true
	return memLock{m}, nil
}

type memLock struct{ fs *memFS }

func (l memLock) Close() error {
	l.fs.locked = false
	return nil
}

func (m *memFS) List(string) ([]string, error) { return m.files.names(), nil }

func (m *memFS) Create(path string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := filepath.Base(path)
	if _, ok := m.files[name]; ok {
		return nil, fs.ErrExist
	}
	m.files[name] = nil
	return memFile{m, name}, nil
}

func (m *memFS) Open(path string) (File, error) {
	name := filepath.Base(path)
	if _, ok := m.files[name]; !ok {
		return nil, fs.ErrNotExist
	}
	return memFile{m, name}, nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[filepath.Base(to)] = m.files[filepath.Base(from)]
	delete(m.files, filepath.Base(from))
	return nil
}

func (m *memFS) Remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.files[filepath.Base(path)]; !ok {
		return fs.ErrNotExist
	}
	delete(m.files, filepath.Base(path))
	return nil
}

func (m *memFS) SyncDir(string) error { return nil }
func (m *memFS) Unmap([]byte) error   { return nil }

type memFile struct {
	fs   *memFS
	name string
}

func (f memFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	data := f.fs.files[f.name]
	if grow := off + int64(len(p)) - int64(len(data)); grow > 0 {
		data = append(data, make([]byte, grow)...)
		f.fs.files[f.name] = data
	}
	return copy(data[off:], p), nil
}

func (f memFile) Size() (int64, error) { return int64(len(f.fs.files[f.name])), nil }

func (f memFile) Allocate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if data := f.fs.files[f.name]; int64(len(data)) < size {
		f.fs.files[f.name] = append(data, make([]byte, size-int64(len(data)))...)
	}
	return nil
}

func (f memFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.files[f.name] = bytes.Clone(f.fs.files[f.name][:size])
	return nil
}

func (f memFile) Punch(off, size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	clear(f.fs.files[f.name][off:][:size])
	return nil
}

func (f memFile) Sync() error { return nil }

func (f memFile) Map(size int64) ([]byte, error) { return f.fs.files[f.name][:size:size], nil }

func (f memFile) Close() error { return nil }
