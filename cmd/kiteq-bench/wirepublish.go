package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/protocol"
)

var (
	errPatience = errors.New("the broker did not answer in time")
	errBroken   = errors.New("the connection to the broker broke")
)

// wirePublisher publishes on one raw connection: its own goroutine writes, another reads the answers.
//
// The window channel holds a token for each message under way; with -until delivered the second of its
// confirmation and its delivery gives it back (stream.meet). In mode tx the reader hands the verdict
// over before it gives the token back, and the writer takes verdicts before tokens, so the verdicts that
// wait are never more than twice the window.
type wirePublisher struct {
	link     *link
	o        options
	ledger   *ledger
	streams  []*stream
	pace     *pace
	out      *bufio.Writer
	window   chan struct{}
	verdicts chan []byte // encoded headers of what is to be committed
	broken   chan struct{}
	latency  *latency // the reader's until broken is closed

	mu      sync.Mutex
	pending map[uint32]awaited // by opaque

	header protocol.Header
	body   []byte
	frame  []byte
	turn   int // which stream is next
}

// awaited is a message without its answer.
type awaited struct {
	stream *stream
	place  uint64
	due    time.Time
	raw    []byte // mode tx: the encoded header, for the verdict
}

func newWirePublisher(b *bench, l *link, conn int, start time.Time) *wirePublisher {
	p := &wirePublisher{
		link: l, o: b.o, ledger: b.ledger, streams: b.ledger.of(conn, len(b.subjects)), pace: newPace(b.o, conn, b.o.conns, start),
		out: bufio.NewWriterSize(l.conn, 64<<10), window: make(chan struct{}, b.o.window), verdicts: make(chan []byte, 2*b.o.window),
		broken: make(chan struct{}), latency: newLatency(), pending: make(map[uint32]awaited, b.o.window), body: make([]byte, b.o.size),
	}
	if b.o.until == untilDelivered {
		for _, s := range p.streams {
			s.window = p.window
		}
	}
	p.header = protocol.Header{
		GroupID: b.producer, ExpiredTime: -1, DeliverLimit: 100, Commit: b.o.mode != modeTx, Fly: b.o.fly,
	}
	return p
}

// run publishes what is due until nothing is left and everything is answered, or patience ends.
func (p *wirePublisher) run(ctx context.Context) (*latency, error) {
	stop := context.AfterFunc(ctx, p.link.close)
	defer stop()
	go p.read()
	err := p.write(ctx)
	if err == nil {
		err = p.finish(ctx)
	}
	p.link.close()
	<-p.broken
	if n := int64(len(p.pending)); n > 0 {
		p.ledger.leave(n, "no answer")
	}
	return p.latency, err
}

func (p *wirePublisher) write(ctx context.Context) error {
	timer := time.NewTimer(p.o.patience)
	defer timer.Stop()
	for {
		if err := p.decide(); err != nil {
			return err
		}
		now := time.Now()
		due, ok := p.pace.next(now)
		if !ok {
			return nil
		}
		if wait := due.Sub(now); wait > 0 {
			timer.Reset(wait)
			if _, err := p.wait(ctx, timer.C, nil); err != nil {
				return err
			}
			continue
		}
		if err := p.reserve(ctx, timer); err != nil {
			return err
		}
		if p.pace.every == 0 {
			due = time.Now()
		}
		if err := p.publish(due); err != nil {
			return err
		}
	}
}

// reserve takes a token of the window, and flushes only when there is none.
func (p *wirePublisher) reserve(ctx context.Context, timer *time.Timer) error {
	select {
	case p.window <- struct{}{}:
		return nil
	default:
	}
	timer.Reset(p.o.patience)
	for {
		got, err := p.wait(ctx, timer.C, p.window)
		if got || err != nil {
			return err
		}
	}
}

// wait flushes and waits for the tick, a token of the window, which it takes, or a verdict, which it
// writes. With a window the tick is the end of patience.
func (p *wirePublisher) wait(ctx context.Context, tick <-chan time.Time, window chan<- struct{}) (got bool, err error) {
	if err := p.out.Flush(); err != nil {
		return false, fmt.Errorf("%w: %w", errBroken, err)
	}
	select {
	case window <- struct{}{}:
		return true, nil
	case raw := <-p.verdicts:
		return false, p.commit(raw)
	case <-tick:
		if window != nil {
			err = errPatience
		}
		return false, err
	case <-p.broken:
		return false, errBroken
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// decide writes the verdicts that wait.
func (p *wirePublisher) decide() error {
	for {
		select {
		case raw := <-p.verdicts:
			if err := p.commit(raw); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func (p *wirePublisher) commit(raw []byte) error {
	p.frame = protocol.AppendTxAck(p.frame[:0], protocol.FramingG, p.link.number(), raw, protocol.StatusCommit, "")
	p.ledger.framed.Add(int64(len(p.frame)))
	_, err := p.out.Write(p.frame)
	return err
}

// publish writes the next message of the next stream; the caller holds its token.
func (p *wirePublisher) publish(due time.Time) error {
	s := p.streams[p.turn]
	p.turn = (p.turn + 1) % len(p.streams)
	place := p.ledger.enter(s, due, p.body)
	p.pace.took()
	p.header.MessageID, p.header.Topic, p.header.MessageType = client.NewID(), s.topic, s.kind
	opaque := p.link.number()
	p.frame = protocol.AppendMessage(p.frame[:0], protocol.FramingG, opaque, protocol.CmdBytesMessage, &p.header, p.body)
	one := awaited{stream: s, place: place, due: due}
	if !p.header.Commit {
		raw, err := headerOf(p.frame)
		if err != nil {
			return err
		}
		one.raw = raw
	}
	p.mu.Lock()
	p.pending[opaque] = one
	p.mu.Unlock()
	p.ledger.framed.Add(int64(len(p.frame)))
	if _, err := p.out.Write(p.frame); err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	return nil
}

// headerOf copies the encoded header out of a frame of ours.
func headerOf(frame []byte) ([]byte, error) {
	f, _, err := protocol.FramingG.Next(frame)
	if err != nil {
		return nil, err
	}
	var m protocol.MessageView
	if err := m.Decode(f.Payload); err != nil {
		return nil, err
	}
	return bytes.Clone(m.Header.Raw), nil
}

// finish waits until every token is back, that is, every message answered and its verdict handed over.
func (p *wirePublisher) finish(ctx context.Context) error {
	timer := time.NewTimer(p.o.patience)
	defer timer.Stop()
	for range cap(p.window) {
		if err := p.reserve(ctx, timer); err != nil {
			return err
		}
	}
	if err := p.decide(); err != nil {
		return err
	}
	return p.out.Flush()
}

// read takes the answers until the connection ends.
func (p *wirePublisher) read() {
	defer close(p.broken)
	for {
		f, err := p.link.next()
		if err != nil {
			return
		}
		if f.Command != protocol.CmdStoreAck {
			continue // a check: its verdict is on the way, or it will be asked again
		}
		p.mu.Lock()
		one, known := p.pending[f.Opaque]
		delete(p.pending, f.Opaque)
		p.mu.Unlock()
		if !known {
			continue
		}
		if accepted := p.answered(one, f.Payload); accepted && one.stream.window != nil {
			one.stream.meet(one.place)
		} else {
			<-p.window
		}
	}
}

// answered enters the answer, and tells whether it was yes.
func (p *wirePublisher) answered(one awaited, payload []byte) bool {
	var ack protocol.StoreAckView
	if err := ack.Decode(payload); err != nil {
		p.ledger.leave(1, err.Error())
		return false
	}
	if !ack.Status {
		p.ledger.refuse(string(ack.Feedback))
		return false
	}
	p.ledger.accept(one.stream, one.place)
	p.latency.record(time.Since(one.due))
	if one.raw != nil {
		p.verdicts <- one.raw
	}
	return true
}
