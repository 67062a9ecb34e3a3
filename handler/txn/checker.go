package txn

import (
	"container/heap"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Asker sends a check to a live member of the publisher's group.
type Asker interface {
	// Ask returns true when the check was really sent.
	Ask(group string, id kite.MessageID, position kite.Position) bool
}

// Submitter takes what must be journaled.
type Submitter interface {
	Submit(b *kite.Batch) error
}

// Options of the checks.
type Options struct {
	// First is how long a transaction stays undecided before the first check. It should be longer than
	// the longest local transaction. Default 10s, 100ms to 1h.
	First time.Duration `toml:"first_check"`
	// Longest bounds the pause between two checks; it doubles from First on. Default 5m, First to 24h.
	Longest time.Duration `toml:"longest_pause"`
	// MaxChecks is how many checks are sent before the transaction is parked. Default 15, 1 to 1000.
	MaxChecks int `toml:"max_checks"`
}

// WithDefaults returns the options with the default in place of every zero.
func (o Options) WithDefaults() Options {
	if o.First == 0 {
		o.First = 10 * time.Second
	}
	if o.Longest == 0 {
		o.Longest = max(5*time.Minute, o.First)
	}
	if o.MaxChecks == 0 {
		o.MaxChecks = 15
	}
	return o
}

// Validate returns every problem, joined.
func (o Options) Validate() error {
	var problems kite.Problems
	problems.Check(o.First >= 100*time.Millisecond && o.First <= time.Hour, "first check %v: use 100ms to 1h", o.First)
	problems.Check(o.Longest >= o.First && o.Longest <= 24*time.Hour, "longest pause between checks %v: use %v to 24h", o.Longest, o.First)
	problems.Check(o.MaxChecks >= 1 && o.MaxChecks <= 1000, "max checks %d: use 1 to 1000", o.MaxChecks)
	return problems.Err()
}

// unsent is how soon a check is tried again that could not be sent: nobody of the group is here, or
// all are busy. It counts for nothing.
const unsent = 2 * time.Second

// Checker asks about silence. It never decides: an answer comes in by the front door, as a verdict.
type Checker struct {
	options Options
	asker   Asker
	lane    Submitter
	log     *slog.Logger
	now     func() time.Time
	sent    atomic.Int64

	wake chan struct{} // capacity 1

	mu     sync.Mutex
	queue  queue
	open   map[kite.MessageID]*pending
	groups map[string]map[kite.MessageID]*pending
}

// pending is one undecided transaction that is asked about.
type pending struct {
	id        kite.MessageID
	group     string
	topic     string
	position  kite.Position
	firstMs   int64 // no check before: the producer's own transaction may still run
	dueMs     int64
	expiresMs int64
	checks    int
	index     int // in the queue
}

// New returns a checker that asks nothing before Run.
func New(o Options, asker Asker, lane Submitter, log *slog.Logger) *Checker {
	return &Checker{
		options: o, asker: asker, lane: lane, log: log.With("component", "txn"), now: time.Now,
		wake: make(chan struct{}, 1), open: map[kite.MessageID]*pending{}, groups: map[string]map[kite.MessageID]*pending{},
	}
}

// Undecided is a transaction that the journal knew at the start.
type Undecided struct {
	ID         kite.MessageID
	Topic      string
	Group      string
	Position   kite.Position
	PreparedMs int64
	ExpiresMs  int64
}

// Restore arms a transaction from before the start.
func (c *Checker) Restore(u Undecided) {
	c.mu.Lock()
	defer c.mu.Unlock()
	firstMs := u.PreparedMs + c.options.First.Milliseconds()
	c.armLocked(&pending{
		id: u.ID, topic: u.Topic, group: u.Group, position: u.Position, expiresMs: u.ExpiresMs,
		firstMs: firstMs, dueMs: max(firstMs, kite.UnixMs(c.now())),
	})
}

// Durable is the lane's news: prepared messages are armed, decided ones forgotten.
func (c *Checker) Durable(batches []*kite.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range batches {
		for i := range b.Items {
			item := &b.Items[i]
			if item.Verdict != kite.OK || item.Repeat {
				continue
			}
			switch item.Kind {
			case kite.KindPrepared:
				firstMs := item.TimeMs + c.options.First.Milliseconds()
				c.armLocked(&pending{
					id: item.ID, topic: item.Topic, group: string(item.Group), position: item.Position,
					expiresMs: item.ExpiresMs, firstMs: firstMs, dueMs: firstMs,
				})
			case kite.KindCommit, kite.KindRollback, kite.KindPark:
				c.disarmLocked(item.ID)
			}
		}
	}
}

// Joined makes the group's overdue checks due at once: a member is here to answer.
func (c *Checker) Joined(group string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	nowMs := kite.UnixMs(c.now())
	for _, p := range c.groups[group] {
		if p.checks == 0 && p.firstMs <= nowMs {
			c.moveLocked(p, nowMs)
		}
	}
	c.signal()
}

// Open returns how many transactions are undecided and not parked.
func (c *Checker) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// Sent returns how many checks were sent since the start.
func (c *Checker) Sent() int64 { return c.sent.Load() }

func (c *Checker) armLocked(p *pending) {
	if c.open[p.id] != nil {
		return
	}
	c.open[p.id] = p
	if c.groups[p.group] == nil {
		c.groups[p.group] = map[kite.MessageID]*pending{}
	}
	c.groups[p.group][p.id] = p
	heap.Push(&c.queue, p)
	if p.index == 0 {
		c.signal()
	}
}

func (c *Checker) disarmLocked(id kite.MessageID) {
	p := c.open[id]
	if p == nil {
		return
	}
	delete(c.open, id)
	delete(c.groups[p.group], id)
	if len(c.groups[p.group]) == 0 {
		delete(c.groups, p.group)
	}
	heap.Remove(&c.queue, p.index)
}

func (c *Checker) moveLocked(p *pending, dueMs int64) {
	p.dueMs = dueMs
	heap.Fix(&c.queue, p.index)
}

func (c *Checker) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run asks until ctx ends.
func (c *Checker) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-timer.C:
		}
		timer.Reset(c.pass())
	}
}

// passChecks bounds what one pass takes out of the queue.
const passChecks = 256

// pass asks about what is due and returns how long nothing will be. Asking happens outside the lock:
// the lane's news must not wait for it. One entry that cannot be asked about does not stop the others.
func (c *Checker) pass() time.Duration {
	for _, p := range c.takeDue() {
		switch {
		case p.expired:
			c.park(p, "undecided when the message expired")
		case p.checks >= c.options.MaxChecks:
			c.park(p, "undecided after the last check")
		case c.asker.Ask(p.group, p.id, p.position):
			c.sent.Add(1)
			c.asked(p.id)
		}
	}
	return c.pause()
}

// pause returns how long nothing is due. It is asked for after the pass, which has moved what it took.
func (c *Checker) pause() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return time.Hour
	}
	return time.Duration(max(0, c.queue[0].dueMs-kite.UnixMs(c.now()))) * time.Millisecond
}

// check is what is done about one pending transaction, outside the lock.
type check struct {
	id       kite.MessageID
	topic    string
	group    string
	position kite.Position
	checks   int
	expired  bool
}

// takeDue returns what is due. All of it is tried again soon, unless asked says that it was sent.
func (c *Checker) takeDue() (due []check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	nowMs := kite.UnixMs(c.now())
	for len(due) < passChecks && len(c.queue) > 0 && c.queue[0].dueMs <= nowMs {
		p := c.queue[0]
		due = append(due, check{
			id: p.id, topic: p.topic, group: p.group, position: p.position, checks: p.checks,
			expired: p.expiresMs > 0 && nowMs >= p.expiresMs,
		})
		c.moveLocked(p, nowMs+jitter(unsent.Milliseconds()))
	}
	return due
}

// asked counts a check that was sent and sets the pause until the next.
func (c *Checker) asked(id kite.MessageID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.open[id]; p != nil {
		p.checks++
		c.moveLocked(p, kite.UnixMs(c.now())+c.pauseMs(p.checks))
	}
}

// pauseMs doubles with each check, up to Longest, give or take a fifth.
func (c *Checker) pauseMs(checks int) int64 {
	pause := c.options.First
	for range checks {
		if pause *= 2; pause >= c.options.Longest {
			pause = c.options.Longest
			break
		}
	}
	return jitter(pause.Milliseconds())
}

func jitter(ms int64) int64 { return ms - ms/5 + rand.Int64N(2*ms/5+1) }

// park asks the lane to set the transaction aside. It stays due until the lane has: a verdict that came
// in meanwhile wins.
func (c *Checker) park(p check, reason string) {
	body := []byte(reason)
	b := &kite.Batch{Owner: c, Arena: body, Items: []kite.Item{{Record: kite.Record{
		Kind: kite.KindPark, ID: p.id, Topic: p.topic, Body: body,
	}}}}
	if err := c.lane.Submit(b); err != nil {
		c.log.Warn("park postponed", "msg_id", p.id.String(), "err", err)
		return
	}
	c.log.Warn("transaction parked", "topic", p.topic, "group", p.group, "msg_id", p.id.String(), "reason", reason)
}

// queue has the earliest check first.
type queue []*pending

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].dueMs < q[j].dueMs }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	p := x.(*pending)
	p.index = len(*q)
	*q = append(*q, p)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return p
}
