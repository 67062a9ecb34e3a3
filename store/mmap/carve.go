package mmap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"golang.org/x/sys/unix"
)

// carve makes the file what the segment's gaps say: their headers first, then the holes. It does again
// what a crash may have left undone.
func (j *Journal) carve(seg *segment) (err error) {
	if len(seg.gaps) == 0 || seg.carved.Load() {
		return nil
	}
	patches, err := seg.patches()
	if err != nil {
		return err
	}
	file, err := j.fs.Open(seg.path)
	if err != nil {
		return fmt.Errorf("open a segment: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := j.patch(seg, file, patches); err != nil {
		return err
	}
	return j.punch(seg, file)
}

// patch is bytes that belong at an offset of a file.
type patch struct {
	off int64
	b   []byte
}

// patches returns the headers that the segment lacks for its gaps.
func (s *segment) patches() (all []patch, err error) {
	if len(s.gaps) == 0 {
		return nil, nil
	}
	err = guarded(s.path, s.data, func() error {
		header := slices.Clone(s.data[:segmentHeader])
		binary.LittleEndian.PutUint32(header[8:], gappedVersion)
		binary.LittleEndian.PutUint32(header[60:], crc32.Checksum(header[:60], castagnoli))
		all = append(all, patch{0, header})
		for _, g := range s.gaps {
			all = append(all, patch{g.from, g.header(s)})
		}
		all = slices.DeleteFunc(all, func(p patch) bool { return bytes.Equal(p.b, s.data[p.off:][:len(p.b)]) })
		return nil
	})
	return all, err
}

func (j *Journal) patch(seg *segment, file File, patches []patch) error {
	for _, p := range patches {
		_, err := file.WriteAt(p.b, p.off)
		switch {
		case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
			return err // of a file system that never writes in place: the next Trim tries again
		case err != nil:
			return j.fail("write a gap of "+seg.path, err)
		}
	}
	if len(patches) == 0 {
		return nil
	}
	if err := file.Sync(); err != nil {
		return j.fail("sync "+seg.path, err)
	}
	return nil
}

// punch gives the blocks of the gaps back.
func (j *Journal) punch(seg *segment, file File) error {
	freed := int64(0)
	for _, g := range seg.gaps {
		off, size := g.blocks()
		if size == 0 || j.noHoles.Load() {
			continue
		}
		switch err := file.Punch(off, size); {
		case errors.Is(err, errors.ErrUnsupported):
			j.noHoles.Store(true)
			j.log.Warn("the file system takes no part of a file back: segments are not compacted", "file", seg.path, "err", err)
		case err != nil:
			return err
		default:
			freed += size
		}
	}
	seg.freed.Store(freed)
	seg.carved.Store(true)
	return nil
}
