package mmap

import (
	"errors"
	"runtime"
	"runtime/debug"
	"unsafe"

	"github.com/kiteq/kiteq/store"
)

// Reading a mapping can fault: the disk does not give the bytes, or somebody has cut the file. The runtime
// would end the process. Every goroutine that reads mapped bytes asks for a panic instead and makes an
// error of it, which names the file.

var errFault = errors.New("the bytes cannot be read: the disk is failing or the file was cut")

// guarded runs read and makes an error of a fault in data, the mapping of the file at path.
func guarded(path string, data []byte, read func() error) (err error) {
	defer func(before bool) {
		debug.SetPanicOnFault(before)
		fault := recover()
		if fault == nil {
			return
		}
		addr, _ := faultAddress(fault)
		off, ok := within(data, addr)
		if !ok {
			panic(fault)
		}
		err = &store.CorruptionError{File: path, Offset: off, Err: errFault}
	}(debug.SetPanicOnFault(true))
	return read()
}

// faulted returns the error for a fault in a mapping of the journal or of the other segments, nil for any
// other panic.
func (j *Journal) faulted(p any, others ...*segment) error {
	addr, ok := faultAddress(p)
	if !ok {
		return nil
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	for _, seg := range append(others, j.segments...) {
		if seg == nil {
			continue
		}
		if off, ok := within(seg.data, addr); ok {
			return seg.corrupt(off, errFault)
		}
		if off, ok := within(seg.index, addr); ok {
			return &store.CorruptionError{File: numbered(j.o.Dir, seg.number, indexExt), Offset: off, Err: errFault}
		}
		if seg.ids.file == nil {
			continue
		}
		if off, ok := within(seg.ids.file.data, addr); ok {
			return &store.CorruptionError{File: numbered(j.o.Dir, seg.number, idsExt), Offset: off, Err: errFault}
		}
	}
	return nil
}

func faultAddress(p any) (uintptr, bool) {
	fault, ok := p.(interface {
		runtime.Error
		Addr() uintptr
	})
	if !ok {
		return 0, false
	}
	return fault.Addr(), true
}

func within(mapping []byte, addr uintptr) (off int64, ok bool) {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(mapping)))
	return int64(addr - start), addr >= start && addr < start+uintptr(len(mapping))
}
