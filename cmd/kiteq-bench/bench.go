package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/protocol"
)

// bench is one run.
type bench struct {
	o        options
	topics   []string
	subjects []subject
	producer string // the publishers' group
	ledger   *ledger
	receipts []*receipt // one for each group
	binder   binder
	phase    atomic.Pointer[string]
}

func newBench(o options) *bench {
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails
	run := binary.BigEndian.Uint64(seed[:])
	name := fmt.Sprintf("bench-%x", run)
	if o.kind == "" { // a new group gets what was published shortly before it was bound: not of other runs
		o.kind = name
	}
	b := &bench{o: o, topics: o.topicNames(), producer: "p-" + name}
	b.subjects = b.o.subjects()
	b.ledger = newLedger(run, o.size, o.conns, b.subjects)
	for i, group := range o.groupNames("s-" + name) {
		r := newReceipt(group, subject{kind: b.subjects[0].kind}, b.ledger)
		if o.mode == modeOwn || o.mode == modeApart {
			r.about = b.subjects[i]
		}
		r.all = o.mode == modeCollect
		b.receipts = append(b.receipts, r)
	}
	b.binder = registryBinder{b}
	b.enter("starting")
	return b
}

func (b *bench) enter(phase string) { b.phase.Store(&phase) }

// run binds, warms up by probes, publishes, waits for what is to come, and reports.
func (b *bench) run(ctx context.Context) (_ *result, err error) {
	if err := b.eachGroup(ctx, "bind", b.binder.bind); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.unbind(ctx)) }()
	result := newResult(b)
	members, err := b.consume(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if members != nil {
			err = errors.Join(err, members.end())
		}
	}()
	if b.o.mode == modeCollect {
		return result, b.collect(ctx, result, members)
	}
	if result.Class, err = b.probe(ctx); err != nil {
		return nil, err
	}
	if b.o.mode == modeDrain {
		if err := members.end(); err != nil {
			return nil, err
		}
	}
	meter, err := b.load(ctx, result)
	defer meter.stop()
	if err != nil {
		return nil, err
	}
	from := result.Started
	if b.o.mode == modeDrain {
		b.enter("draining")
		from = time.Now()
		if members, err = b.consume(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.settle(ctx, members); err != nil {
		return nil, err
	}
	result.conclude(b, from)
	result.Broker, err = meter.cost(result.Publish.Messages, b.ledger.framed.Load())
	return result, err
}

// collect takes what waits for the group, of whichever run, until -n came or nothing more does.
func (b *bench) collect(ctx context.Context, result *result, m *members) error {
	b.enter("collecting")
	meter, err := b.meter(ctx)
	if err != nil {
		return err
	}
	defer meter.stop()
	r := b.receipts[0]
	if err := b.settleGroup(ctx, m, r, func() bool { return b.o.n > 0 && r.count() >= b.o.n }); err != nil {
		return err
	}
	result.conclude(b, result.Started)
	result.Check.Lost = max(b.o.n-result.Deliver.Messages, 0)
	result.Broker, err = meter.cost(result.Deliver.Messages, 0)
	return err
}

// meter watches the broker's process, when it is known.
func (b *bench) meter(ctx context.Context) (*meter, error) {
	if b.o.pid == 0 {
		return nil, nil
	}
	return startMeter(ctx, b.o.pid)
}

// unbind forgets groups that were made for this run, even when ctx ended.
func (b *bench) unbind(ctx context.Context) error {
	if b.o.group != "" {
		return nil
	}
	return b.eachGroup(context.WithoutCancel(ctx), "unbind", b.binder.unbind)
}

// together is how many groups are bound at a time. Each takes a session of its own with the registry, whose
// opening and closing is waiting for the most part.
const together = 32

// eachGroup does it for every group, each in its own time: there may be a thousand.
func (b *bench) eachGroup(ctx context.Context, op string, do func(context.Context, *receipt) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(together)
	for _, r := range b.receipts {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, b.o.patience)
			defer cancel()
			if err := do(ctx, r); err != nil {
				return fmt.Errorf("%s group %s in %s: %w", op, r.group, b.o.zkhost, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// members are the consumers while they run.
type members struct {
	group  *errgroup.Group
	cancel context.CancelFunc
	failed <-chan struct{} // closed when one ended by itself, or all by end
}

// end ends them and returns why one ended before. A second end returns the same.
func (m *members) end() error {
	m.cancel()
	return m.group.Wait()
}

// consume connects the members of every group and returns when all are.
func (b *bench) consume(ctx context.Context) (*members, error) {
	ctx, cancel := context.WithCancel(ctx)
	g, within := errgroup.WithContext(ctx)
	m := &members{g, cancel, within.Done()}
	var ready sync.WaitGroup
	for _, r := range b.receipts {
		for range b.o.consumers {
			if b.o.via == viaClient {
				ready.Add(1)
				once := sync.OnceFunc(ready.Done)
				g.Go(func() error {
					defer once()
					return b.consumeClient(within, r, once)
				})
				continue
			}
			l, err := dial(ctx, b.o.broker, b.member(r.group), 64<<10, b.o.patience)
			if err != nil {
				return nil, errors.Join(err, m.end())
			}
			g.Go(func() error { return consumeWire(within, l, r) })
		}
	}
	ready.Wait()
	if within.Err() != nil {
		return nil, cmp.Or(m.end(), context.Cause(ctx))
	}
	return m, nil
}

// load publishes, beside the idle connections of mode idle. The meter that it returns runs from the first
// message on: connecting is not counted. It is there after an error, too.
func (b *bench) load(ctx context.Context, result *result) (*meter, error) {
	if b.o.mode == modeIdle {
		b.enter("connecting")
		h, err := openHerd(ctx, b.o, b.producer)
		if err != nil {
			return nil, err
		}
		idle, stop := context.WithCancel(ctx)
		var running sync.WaitGroup
		running.Go(func() { h.run(idle, b.o.heartbeat) })
		defer func() {
			stop()
			running.Wait()
			result.Idle = h.figures()
		}()
	}
	b.enter("publishing")
	publishers, err := b.publishers(ctx)
	if err != nil {
		return nil, err
	}
	meter, err := b.meter(ctx)
	if err != nil {
		return nil, err
	}
	var g errgroup.Group // one that fails leaves the others at work: what they see is the measurement
	all := make([]*latency, len(publishers))
	result.Started = time.Now()
	for i, p := range publishers {
		g.Go(func() (err error) {
			all[i], err = p(ctx, result.Started)
			return err
		})
	}
	err = g.Wait()
	result.publish(b, time.Since(result.Started), all)
	if err != nil {
		return meter, fmt.Errorf("publish: %w (%s)", err, result.reasons())
	}
	return meter, nil
}

// publisher publishes its share from start on, and closes what it has.
type publisher func(ctx context.Context, start time.Time) (*latency, error)

// publishers connects all of them.
func (b *bench) publishers(ctx context.Context) ([]publisher, error) {
	all := make([]publisher, b.o.conns)
	for conn := range all {
		if b.o.via == viaWire {
			l, err := dial(ctx, b.o.broker, protocol.ConnMeta{GroupID: b.producer}, 64<<10, b.o.patience)
			if err != nil {
				return nil, err
			}
			all[conn] = func(ctx context.Context, start time.Time) (*latency, error) {
				return newWirePublisher(b, l, conn, start).run(ctx)
			}
			continue
		}
		o := b.clientOptions(b.producer)
		o.Topics = b.topics
		o.CheckListener = func(context.Context, client.Check) client.Verdict { return client.Unknown }
		c, err := client.Dial(ctx, o)
		if err != nil {
			return nil, err
		}
		all[conn] = func(ctx context.Context, start time.Time) (*latency, error) {
			l, err := newClientPublisher(b, c, conn, start).run(ctx)
			return l, closeClient(ctx, c, b.o.patience, err)
		}
	}
	return all, nil
}

// settle waits until everything that was confirmed has come, or nothing came for as long as patience
// lasts. What is missing then is lost.
func (b *bench) settle(ctx context.Context, m *members) error {
	for _, r := range b.receipts {
		if err := b.settleGroup(ctx, m, r, func() bool { return r.missing() == 0 }); err != nil {
			return err
		}
	}
	return nil
}

// settleGroup waits until done says so, or nothing came for as long as patience lasts.
func (b *bench) settleGroup(ctx context.Context, m *members, r *receipt, done func() bool) error {
	last, since := r.count(), time.Now()
	tick := time.NewTicker(20 * time.Millisecond) // missing reads every place: not for each delivery
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-m.failed:
			if err := m.end(); err != nil {
				return err
			}
			return ctx.Err()
		}
		if n := r.count(); n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) > b.o.patience {
			return nil
		}
	}
	return nil
}
