package client

import (
	"context"
	"io"
	"sync"

	"github.com/kiteq/kiteq/internal/kite"
)

// Bounds of an outbox, bytes.
const (
	// outboxRoom is what put waits to get below.
	outboxRoom = 1 << 20
	// outboxLimit is where push gives the connection up: its peer sends but does not read.
	outboxLimit = 16 << 20
)

// outbox collects the frames of one connection for its writer. Everybody appends to one buffer while
// the writer is in a write call with the other one, so the busier the connection, the larger the
// writes; there is no timer and no allocation per frame.
type outbox struct {
	mu      sync.Mutex
	buf     []byte
	spare   []byte        // the writer's, while it writes
	queued  uint64        // bytes ever appended
	written uint64        // bytes of them that the connection took
	err     error         // why nothing goes in any more
	wake    chan struct{} // capacity 1: there is something to write, or err is set
	moved   broadcast     // written or err changed
}

// frame is what can be appended to an outbox. It is an interface, not a function, because a
// pointer in an interface costs no allocation and a closure does.
type frame interface {
	appendTo(dst []byte, opaque uint32) []byte
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// put appends the frame when there is room, and waits for room until ctx ends.
func (o *outbox) put(ctx context.Context, f frame, opaque uint32) error {
	for {
		o.mu.Lock()
		if o.err != nil || len(o.buf) < outboxRoom {
			defer o.mu.Unlock()
			return o.appendLocked(f, opaque)
		}
		moved := o.moved.wait()
		o.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// push appends the frame without waiting. It is for answers, whose number the broker bounds.
func (o *outbox) push(f frame, opaque uint32) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil && len(o.buf) > outboxLimit {
		return kite.Errorf(kite.Unavailable, "%d bytes wait to be written and the broker does not read", len(o.buf))
	}
	return o.appendLocked(f, opaque)
}

func (o *outbox) appendLocked(f frame, opaque uint32) error {
	if o.err != nil {
		return o.err
	}
	before := len(o.buf)
	o.buf = f.appendTo(o.buf, opaque)
	o.queued += uint64(len(o.buf) - before)
	o.signal()
	return nil
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default: // the writer has not taken the last one yet and will see this, too
	}
}

// close makes every later append and flush fail with err and ends run. The first err stays.
func (o *outbox) close(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
		o.moved.notify()
		o.signal()
	}
}

// flush waits until everything appended before it has been written, until ctx ends.
func (o *outbox) flush(ctx context.Context) error {
	o.mu.Lock()
	mark := o.queued
	for o.written < mark {
		if o.err != nil {
			defer o.mu.Unlock()
			return o.err
		}
		moved := o.moved.wait()
		o.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
		o.mu.Lock()
	}
	o.mu.Unlock()
	return nil
}

// run writes until close or a failed write, and returns why.
func (o *outbox) run(w io.Writer) error {
	for range o.wake {
		o.mu.Lock()
		if o.err != nil {
			defer o.mu.Unlock()
			return o.err
		}
		full := o.buf
		o.buf, o.spare = o.spare[:0], nil
		o.mu.Unlock()
		if len(full) == 0 {
			continue
		}
		if _, err := w.Write(full); err != nil {
			return err
		}
		o.mu.Lock()
		if cap(full) <= outboxRoom { // one large message does not keep its memory
			o.spare = full
		}
		o.written += uint64(len(full))
		o.moved.notify()
		o.mu.Unlock()
	}
	return nil
}
