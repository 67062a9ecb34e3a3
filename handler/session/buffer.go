package session

import "sync"

// Buffer holds frames on their way to one connection.
type Buffer struct{ B []byte }

// keep bounds what the pool holds on to: one large message must not pin memory. It is above what a
// courier's buffer grows to, or large deliveries would each need a new one.
const keep = 384 << 10

var buffers = sync.Pool{New: func() any { return &Buffer{B: make([]byte, 0, 4<<10)} }}

// NewBuffer returns an empty buffer.
func NewBuffer() *Buffer { return buffers.Get().(*Buffer) }

// Recycle takes the buffer back; nobody may use it afterwards.
func (b *Buffer) Recycle() {
	if cap(b.B) > keep {
		return
	}
	b.B = b.B[:0]
	buffers.Put(b)
}
