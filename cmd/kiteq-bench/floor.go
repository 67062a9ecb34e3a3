package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/kiteq/kiteq/internal/protocol"
)

// The durability classes of the floor, in the broker's words.
const (
	classSynced  = "synced"
	classWritten = "written"
)

// floor is the least that a broker of this wire must do for a publish: take the frames of a read apart,
// append them to a file, make them durable in the class, answer. It knows no topic, keeps no index,
// finds no repeat, delivers nothing. The broker is measured as a share of it, in the same run: what both
// lose to the machine of the day cancels out, and what is left is what the broker adds.
//
// A connection's goroutine hands over everything that one read brought; the lane appends and syncs what
// has gathered while the next gathers, as the broker's does.
type floor struct {
	file   *os.File // the lane's
	end    int64    // of the file, the lane's
	synced bool
	class  string
	wake   chan struct{}

	mu      sync.Mutex
	records []byte       // frames to append
	waiting []*floorConn // those with answers
}

// floorConn is one connection to the floor.
type floorConn struct {
	*link
	answers []byte // guarded by floor.mu: for the records that were handed over
	writing []byte // the lane's: the answers of the last batch
}

// serveFloor listens on addr until ctx ends, and keeps its file in dir. listening is told the address.
func serveFloor(ctx context.Context, addr, dir, class string, listening func(net.Addr)) error {
	file, err := os.CreateTemp(dir, "floor-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	f := &floor{file: file, synced: class == classSynced, class: class, wake: make(chan struct{}, 1)}
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	g.Go(func() error { return f.lane(ctx) })
	g.Go(func() error {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return errors.Join(err, ctx.Err())
			}
			g.Go(func() error { f.serve(ctx, conn); return nil })
		}
	})
	listening(listener.Addr())
	if err = g.Wait(); errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// serve takes the publishes of one connection until it ends.
func (f *floor) serve(ctx context.Context, conn net.Conn) {
	c := &floorConn{link: &link{conn: conn, in: make([]byte, 256<<10)}}
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	defer c.close()
	var records, answers []byte
	for {
		frame, err := c.next()
		if err != nil {
			return
		}
		switch frame.Command {
		case protocol.CmdConnMeta:
			greeting := protocol.AppendConnAuthAck(nil, protocol.FramingG, frame.Opaque, protocol.ConnAuthAck{OK: true, Feedback: protocol.FeedbackAuthorized})
			if _, err := conn.Write(greeting); err != nil {
				return
			}
		case protocol.CmdBytesMessage:
			id, err := firstID(frame.Payload)
			if err != nil {
				return
			}
			records = binary.LittleEndian.AppendUint64(records, uint64(len(frame.Payload)))
			records = append(records, frame.Payload...)
			answers = protocol.AppendStoreAck(answers, protocol.FramingG, frame.Opaque, id, true, protocol.FeedbackStored+"0 "+f.class)
		}
		if len(records) > 0 && !c.more() {
			f.hand(c, records, answers)
			records, answers = records[:0], answers[:0]
		}
	}
}

// firstID returns the message id of a publish. Every client writes it first in the header, and the header
// first, so that nothing more need be decoded.
func firstID(payload []byte) ([]byte, error) {
	header, err := firstField(payload)
	if err != nil {
		return nil, err
	}
	return firstField(header)
}

// firstField returns the bytes of field 1, which comes first.
func firstField(b []byte) ([]byte, error) {
	const tag = 1<<3 | 2 // field 1, with a length
	if len(b) < 2 || b[0] != tag {
		return nil, fmt.Errorf("the floor needs the header first, and in it the message id")
	}
	size, n := binary.Uvarint(b[1:])
	if n <= 0 || size > uint64(len(b)-1-n) {
		return nil, fmt.Errorf("a field of %d bytes in %d", size, len(b))
	}
	return b[1+n:][:size], nil
}

// hand gives records and their answers to the lane. The caller keeps both slices.
func (f *floor) hand(c *floorConn, records, answers []byte) {
	f.mu.Lock()
	f.records = append(f.records, records...)
	if len(c.answers) == 0 {
		f.waiting = append(f.waiting, c)
	}
	c.answers = append(c.answers, answers...)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default: // it will wake, and find these too
	}
}

// lane appends one batch after the other until ctx ends or the file fails.
func (f *floor) lane(ctx context.Context) error {
	var records []byte
	var answered []*floorConn
	for {
		select {
		case <-f.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		f.mu.Lock()
		records, f.records = f.records, records[:0]
		answered, f.waiting = f.waiting, answered[:0]
		for _, c := range answered {
			c.writing, c.answers = c.answers, c.writing[:0]
		}
		f.mu.Unlock()
		if err := f.append(records); err != nil {
			return err
		}
		for _, c := range answered {
			if _, err := c.conn.Write(c.writing); err != nil {
				c.close() // its reader sees it, and ends
			}
		}
	}
}

// append writes the records at the end of the file and makes them durable in the class.
func (f *floor) append(records []byte) error {
	if _, err := f.file.WriteAt(records, f.end); err != nil {
		return err
	}
	f.end += int64(len(records))
	if f.synced {
		return syncData(f.file)
	}
	return nil
}
