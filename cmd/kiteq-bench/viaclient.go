package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kiteq/kiteq/client"
)

// clientOptions are those of every client of a run.
func (b *bench) clientOptions(group string) client.Options {
	o := client.Options{ZKHost: b.o.zkhost, Group: group, AckTimeout: b.ackTimeout(), MaxPending: b.o.window}
	if b.o.broker != "" {
		o.Brokers = []string{b.o.broker}
	}
	return o
}

// ackTimeout is when the client repeats a publish: within patience, so that Publish can.
func (b *bench) ackTimeout() time.Duration {
	return min(max(b.o.patience/3, 10*time.Millisecond), time.Minute)
}

// clientPublisher publishes by one client: a goroutine for each message under way waits for its answer.
type clientPublisher struct {
	b       *bench
	c       *client.Client
	streams []*stream
	pace    *pace
	window  chan struct{}

	mu      sync.Mutex
	latency *latency
}

func newClientPublisher(b *bench, c *client.Client, conn int, start time.Time) *clientPublisher {
	return &clientPublisher{
		b: b, c: c, streams: b.ledger.of(conn, len(b.subjects)), pace: newPace(b.o, conn, b.o.conns, start),
		window: make(chan struct{}, b.o.window), latency: newLatency(),
	}
}

// run publishes what is due until nothing is left and everything is answered. It leaves the client open.
func (p *clientPublisher) run(ctx context.Context) (*latency, error) {
	var waiting sync.WaitGroup
	err := p.publishAll(ctx, &waiting)
	waiting.Wait()
	return p.latency, err
}

func (p *clientPublisher) publishAll(ctx context.Context, waiting *sync.WaitGroup) error {
	timer := time.NewTimer(p.b.o.patience)
	defer timer.Stop()
	for turn := 0; ; turn++ {
		now := time.Now()
		due, ok := p.pace.next(now)
		if !ok {
			return nil
		}
		if wait := due.Sub(now); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		select {
		case p.window <- struct{}{}: // the waiters give it back: each has a deadline
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if p.pace.every == 0 {
			due = time.Now()
		}
		s := p.streams[turn%len(p.streams)]
		m := &client.Message{Topic: s.topic, Type: s.kind, Body: make([]byte, p.b.o.size), Fly: p.b.o.fly}
		place := p.b.ledger.enter(s, due, m.Body)
		p.pace.took()
		settle := p.begin(ctx, m)
		waiting.Go(func() {
			p.settled(s, place, due, settle())
			<-p.window
		})
	}
}

// begin starts to publish the message and returns what waits for the outcome. Plain messages are on
// their way when begin returns, so a stream goes out in order; prepared ones are not, as PublishTx waits.
func (p *clientPublisher) begin(ctx context.Context, m *client.Message) func() error {
	ctx, cancel := context.WithTimeout(ctx, p.b.o.patience)
	if p.b.o.mode == modeTx {
		return func() error {
			defer cancel()
			return p.c.PublishTx(ctx, m, func(context.Context) error { return nil })
		}
	}
	pending := p.c.PublishAsync(ctx, m)
	return func() error {
		defer cancel()
		return pending.Wait(ctx)
	}
}

func (p *clientPublisher) settled(s *stream, place uint64, due time.Time, err error) {
	took := time.Since(due)
	switch client.CodeOf(err) {
	case 0:
		p.b.ledger.accept(s, place)
		p.mu.Lock()
		p.latency.record(took)
		p.mu.Unlock()
	case client.Indeterminate:
		p.b.ledger.leave(1, err.Error())
	default:
		p.b.ledger.refuse(err.Error())
	}
}

// consumeClient takes deliveries by a client until ctx ends. ready is called once it is connected.
func (b *bench) consumeClient(ctx context.Context, r *receipt, ready func()) error {
	o := b.clientOptions(r.group)
	o.BoundElsewhere, o.CheckListener = true, nil
	c, err := client.Dial(ctx, o)
	if err != nil {
		return fmt.Errorf("consume as %s: %w", r.group, err)
	}
	_, err = c.Subscribe(ctx, b.bindings(r), func(_ context.Context, d *client.Delivery) error {
		r.take(d.Topic, d.Body, time.Now())
		return nil
	})
	if err == nil {
		wait, cancel := context.WithTimeout(ctx, b.o.patience)
		err = c.Ready(wait, b.topicsOf(r)...)
		cancel()
	}
	if err == nil {
		ready()
		<-ctx.Done()
	}
	return closeClient(ctx, c, b.o.patience, err)
}

// closeClient closes in order even after ctx ended; err goes before its error.
func closeClient(ctx context.Context, c *client.Client, patience time.Duration, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if closing := c.Close(ctx); err == nil {
		err = closing
	}
	return err
}
