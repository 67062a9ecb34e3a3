package mmap

import (
	"bytes"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
)

// powerFS is a directory on a disk whose power can be cut. It keeps apart what was done and what was
// synced, and what was done since in its order:
//
//	file       bytes and size as of the last Sync, then every write, Allocate and Truncate
//	directory  names as of the last SyncDir, then every creation, rename and removal
//
// Syncing a file says nothing about its name, syncing the directory nothing about the bytes.
type powerFS struct {
	now     map[string]*inode
	synced  map[string]*inode
	changes []dirChange

	// after is called after everything that may change what a power cut leaves.
	after func()
	// wrote is called with what is written to a file, before after.
	wrote func(name string, p []byte, off int64)
	// lies makes a Sync of the named file, or of the directory ("."), do nothing but succeed.
	lies func(name string) bool
}

// dirChange takes one name away, or gives one, or both at once.
type dirChange struct {
	remove, add string
	node        *inode
}

type inode struct {
	data    []byte // now; a mapping is a part of it
	mapped  bool
	synced  []byte // never written to
	changes []change
}

// change is a write of p at off, or a Truncate (cut), or an Allocate.
type change struct {
	p    []byte
	off  int64
	cut  bool
	size int64 // of the file afterwards
}

// newPowerFS is a disk that has booted with these files.
func newPowerFS(f files) *powerFS {
	p := &powerFS{
		now: map[string]*inode{}, after: func() {}, wrote: func(string, []byte, int64) {}, lies: func(string) bool { return false },
	}
	for name, data := range f {
		n := &inode{synced: data}
		n.grow(int64(len(data)))
		copy(n.data, data)
		p.now[name] = n
	}
	p.synced = maps.Clone(p.now)
	return p
}

// cut returns what is found after a power cut now: of everything not synced nothing, all, or a part
// that rng chooses sector by sector and name by name. sector is in bytes.
func (p *powerFS) cut(rng *rand.Rand, sector int64) files {
	dir := maps.Clone(p.synced)
	// A journaling file system keeps the order of changes to a directory; POSIX does not ask for it.
	ordered, kept := rng.IntN(2) == 0, rng.IntN(len(p.changes)+1)
	for i, c := range p.changes {
		if ordered && i >= kept || !ordered && rng.IntN(2) == 0 {
			continue
		}
		delete(dir, c.remove)
		if c.add != "" {
			dir[c.add] = c.node
		}
	}
	left := files{}
	for _, name := range slices.Sorted(maps.Keys(dir)) {
		left[name] = dir[name].cut(rng, sector)
	}
	return left
}

// cut returns what is left of the file. Its size and block list have one history, of which a first
// part is kept; each sector has one of its own, since the cache writes pages in any order.
func (n *inode) cut(rng *rand.Rand, sector int64) []byte {
	all := len(n.changes)
	if all == 0 {
		return n.synced
	}
	choose := func() int { return []int{0, all, all, rng.IntN(all + 1)}[rng.IntN(4)] }
	meta, same, shape := choose(), choose(), rng.IntN(2)
	size, limit := int64(len(n.synced)), int64(len(n.synced))
	for i, c := range n.changes {
		limit = max(limit, c.size)
		if i < meta {
			size = c.size
		}
	}
	b := make([]byte, limit)
	copy(b, n.synced)
	for at := int64(0); at < limit; at += sector {
		end, kept := min(at+sector, limit), same
		if shape == 0 {
			kept = choose()
		}
		for i, c := range n.changes {
			switch {
			case c.cut && i < meta && c.size < end:
				clear(b[max(at, c.size):end])
			case c.p != nil && i < kept:
				if from, to := max(at, c.off), min(end, c.off+int64(len(c.p))); from < to {
					copy(b[from:to], c.p[from-c.off:])
				}
			}
		}
	}
	return b[:size]
}

func (n *inode) change(c change) {
	c.size = int64(len(n.data))
	n.changes = append(n.changes, c)
}

// grow makes the file at least size long. Its bytes stay where they are when they are mapped.
func (n *inode) grow(size int64) {
	old := int64(len(n.data))
	if size <= old {
		return
	}
	if size > int64(cap(n.data)) {
		if n.mapped {
			panic("powerFS: a mapped file has outgrown its room")
		}
		n.data = append(make([]byte, 0, size+64<<10), n.data...)
	}
	n.data = n.data[:size]
	clear(n.data[old:])
}

func (p *powerFS) named(c dirChange) {
	delete(p.now, c.remove)
	if c.add != "" {
		p.now[c.add] = c.node
	}
	p.changes = append(p.changes, c)
	p.after()
}

func (p *powerFS) MkdirAll(string) error          { return nil }
func (p *powerFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }
func (p *powerFS) List(string) ([]string, error)  { return slices.Sorted(maps.Keys(p.now)), nil }
func (p *powerFS) Unmap([]byte) error             { return nil }

func (p *powerFS) Create(path string) (File, error) {
	name := filepath.Base(path)
	if p.now[name] != nil {
		return nil, fs.ErrExist
	}
	n := &inode{}
	p.named(dirChange{add: name, node: n})
	return powerFile{p, n, name}, nil
}

func (p *powerFS) Open(path string) (File, error) {
	name := filepath.Base(path)
	if p.now[name] == nil {
		return nil, fs.ErrNotExist
	}
	return powerFile{p, p.now[name], name}, nil
}

func (p *powerFS) Rename(from, to string) error {
	from, to = filepath.Base(from), filepath.Base(to)
	if p.now[from] == nil {
		return fs.ErrNotExist
	}
	p.named(dirChange{remove: from, add: to, node: p.now[from]})
	return nil
}

func (p *powerFS) Remove(path string) error {
	name := filepath.Base(path)
	if p.now[name] == nil {
		return fs.ErrNotExist
	}
	p.named(dirChange{remove: name})
	return nil
}

func (p *powerFS) SyncDir(string) error {
	if !p.lies(".") {
		p.synced, p.changes = maps.Clone(p.now), nil
	}
	p.after()
	return nil
}

type powerFile struct {
	fs   *powerFS
	node *inode
	name string
}

func (f powerFile) WriteAt(b []byte, off int64) (int, error) {
	f.node.grow(off + int64(len(b)))
	copy(f.node.data[off:], b)
	f.node.change(change{p: bytes.Clone(b), off: off})
	f.fs.wrote(f.name, b, off)
	f.fs.after()
	return len(b), nil
}

func (f powerFile) Size() (int64, error) { return int64(len(f.node.data)), nil }

func (f powerFile) Allocate(size int64) error {
	f.node.grow(size)
	f.node.change(change{})
	f.fs.after()
	return nil
}

func (f powerFile) Truncate(size int64) error {
	clear(f.node.data[size:])
	f.node.data = f.node.data[:size]
	f.node.change(change{cut: true})
	f.fs.after()
	return nil
}

func (f powerFile) Punch(off, size int64) error {
	clear(f.node.data[off:][:size])
	f.node.change(change{p: make([]byte, size), off: off})
	f.fs.after()
	return nil
}

func (f powerFile) Sync() error {
	if !f.fs.lies(f.name) {
		f.node.synced, f.node.changes = bytes.Clone(f.node.data), nil
	}
	f.fs.after()
	return nil
}

func (f powerFile) Map(size int64) ([]byte, error) {
	f.node.grow(size)
	f.node.mapped = true
	return f.node.data[:size:size], nil
}

func (f powerFile) Close() error { return nil }
