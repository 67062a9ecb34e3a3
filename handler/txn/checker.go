package txn

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Asker sends checks.
type Asker interface {
	// Ask sends a check to somebody of the publisher's group and returns whom, or "" when nobody can be
	// asked now, or when that is not known yet: then Checker.Asked says it. Each turn goes to another one as
	// long as there are others. The check may leave with the next Flush.
	Ask(group string, id kite.MessageID, position kite.Position, turn int) (asked string)
	// Flush sends what Ask gathered.
	Flush()
}

// Submitter takes what must be journaled.
type Submitter interface {
	Submit(b *kite.Batch) error
}

// unsent is how soon a check is tried again that could not be sent: nobody of the group is here, or
// all are busy. It counts for nothing.
const unsent = 2 * time.Second

// Checker asks about silence. It never decides: an answer comes in by the front door, as a verdict. Only
// what was parked and then forgotten by everybody for ParkedRetention it asks the lane to roll back.
type Checker struct {
	options atomic.Pointer[Options]
	asker   Asker
	lane    Submitter
	log     *slog.Logger
	now     func() time.Time
	sent    atomic.Int64

	wake chan struct{} // capacity 1

	mu      sync.Mutex
	book    book
	decided memory
}

// New returns a checker that asks nothing before Run.
func New(o Options, asker Asker, lane Submitter, log *slog.Logger) *Checker {
	c := &Checker{
		asker: asker, lane: lane, log: log.With("component", "txn"), now: time.Now,
		wake: make(chan struct{}, 1), book: newBook(),
	}
	c.options.Store(&o)
	return c
}

// Tune takes over other options. What is armed already keeps its time.
func (c *Checker) Tune(o Options) { c.options.Store(&o) }

// Undecided is a transaction that the journal knew at the start.
type Undecided struct {
	ID         kite.MessageID
	Topic      string
	Group      string
	Position   kite.Position
	PreparedMs int64
	ExpiresMs  int64
	ParkedMs   int64 // 0: not parked
}

// Restore takes over a transaction from before the start.
func (c *Checker) Restore(u Undecided) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &pending{id: u.ID, topic: u.Topic, position: u.Position, preparedMs: u.PreparedMs, expiresMs: u.ExpiresMs}
	if p.parked = u.ParkedMs > 0; p.parked {
		p.dueMs = u.ParkedMs + c.options.Load().ParkedRetention.Milliseconds()
	} else {
		p.dueMs = max(u.PreparedMs+c.options.Load().First.Milliseconds(), kite.UnixMs(c.now()))
	}
	c.book.add(p, []byte(u.Group))
	c.signal()
}

// Durable is the lane's news: prepared messages are armed, decided ones forgotten.
func (c *Checker) Durable(batches []*kite.Batch) {
	if !concerns(batches) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range batches {
		for i := range b.Items {
			if item := &b.Items[i]; item.Verdict == kite.OK && !item.Repeat {
				c.noteLocked(item)
			}
		}
	}
}

// concerns tells whether there is anything but plain messages: usually there is not, and nothing is locked.
func concerns(batches []*kite.Batch) bool {
	for _, b := range batches {
		for i := range b.Items {
			switch b.Items[i].Kind {
			case kite.KindPrepared, kite.KindCommit, kite.KindRollback, kite.KindPark, kite.KindDelayed, kite.KindOrder:
				return true
			}
		}
	}
	return false
}

func (c *Checker) noteLocked(item *kite.Item) {
	p := c.book.open[item.ID]
	switch item.Kind {
	case kite.KindPrepared:
		if p != nil {
			return
		}
		p = &pending{
			id: item.ID, topic: item.Topic, position: item.Position, preparedMs: item.TimeMs, expiresMs: item.ExpiresMs,
			dueMs: item.TimeMs + c.options.Load().First.Milliseconds(),
		}
		c.book.add(p, item.Group)
		if p.index == 0 {
			c.signal()
		}
	case kite.KindCommit, kite.KindRollback, kite.KindDelayed:
		if p != nil {
			c.book.remove(p)
			c.decided.add(p)
		}
	case kite.KindPark:
		if p != nil {
			c.book.park(p, true)
			c.book.move(p, item.TimeMs+c.options.Load().ParkedRetention.Milliseconds())
		}
	case kite.KindOrder:
		order, err := kite.DecodeOrder(item.Body)
		if p != nil && err == nil && order.Action == kite.ActionRecheck {
			c.book.park(p, false)
			p.checks, p.expiresMs = 0, 0
			c.book.move(p, item.TimeMs)
			c.signal()
		}
	}
}

// Joined makes the group's checks due at once that were last sent a while ago: a member is here to answer,
// perhaps the one that died undecided. The producer's own transaction may still run in the first seconds.
func (c *Checker) Joined(group string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.book.groups[group]
	if g == nil {
		return
	}
	nowMs, first := kite.UnixMs(c.now()), c.options.Load().First.Milliseconds()
	for p := g.first; p != nil; p = p.next {
		if !p.parked && max(p.preparedMs, p.askedMs)+first <= nowMs {
			c.book.move(p, nowMs)
		}
	}
	c.signal()
}

// Answered notes an answer that decides nothing: by could not tell yet.
func (c *Checker) Answered(id kite.MessageID, by string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.book.open[id]; p != nil {
		p.answered, p.answeredMs = by, kite.UnixMs(c.now())
	}
}

func (c *Checker) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run asks until ctx ends.
func (c *Checker) Run(ctx context.Context) error {
	timer := time.NewTimer(c.pass())
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
		case p.parked:
			c.submit(p, kite.KindRollback, "parked for longer than parked_retention")
		case p.expired:
			c.submit(p, kite.KindPark, "undecided when the message expired")
		case p.checks >= c.options.Load().MaxChecks:
			c.submit(p, kite.KindPark, "undecided after the last check")
		case c.undecided(p.id):
			if asked := c.asker.Ask(p.group, p.id, p.position, p.checks); asked != "" {
				c.Asked(p.id, asked)
			}
		}
	}
	c.asker.Flush()
	return c.pause()
}

// undecided tells whether the transaction still is, since it may have been taken from the queue a while ago:
// nobody expects to be asked about what was decided.
func (c *Checker) undecided(id kite.MessageID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.book.open[id] != nil
}

// pause returns how long nothing is due. It is asked for after the pass, which has moved what it took.
func (c *Checker) pause() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.book.queue) == 0 {
		return time.Hour
	}
	return time.Duration(max(0, c.book.queue[0].dueMs-kite.UnixMs(c.now()))) * time.Millisecond
}

// check is what is done about one pending transaction, outside the lock.
type check struct {
	id       kite.MessageID
	topic    string
	group    string
	position kite.Position
	checks   int
	expired  bool
	parked   bool
}

// takeDue returns what is due. All of it is tried again soon, unless Asked says that it was sent.
func (c *Checker) takeDue() (due []check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	nowMs := kite.UnixMs(c.now())
	for q := &c.book.queue; len(due) < passChecks && len(*q) > 0 && (*q)[0].dueMs <= nowMs; {
		p := (*q)[0]
		due = append(due, check{
			id: p.id, topic: p.topic, group: p.group.name, position: p.position, checks: int(p.checks),
			expired: p.expiresMs > 0 && nowMs >= p.expiresMs, parked: p.parked,
		})
		c.book.move(p, nowMs+jitter(unsent.Milliseconds()))
	}
	return due
}

// Asked counts a check that was sent and sets the pause until the next. It may be called from anywhere.
func (c *Checker) Asked(id kite.MessageID, who string) {
	c.sent.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.book.open[id]; p != nil && !p.parked {
		p.checks++
		p.asked, p.askedMs = who, kite.UnixMs(c.now())
		c.book.move(p, p.askedMs+c.pauseMs(int(p.checks)))
	}
}

// pauseMs doubles with each check, up to Longest, give or take a fifth.
func (c *Checker) pauseMs(checks int) int64 {
	pause := c.options.Load().First
	for range checks {
		if pause *= 2; pause >= c.options.Load().Longest {
			pause = c.options.Load().Longest
			break
		}
	}
	return jitter(pause.Milliseconds())
}

func jitter(ms int64) int64 { return ms - ms/5 + rand.Int64N(2*ms/5+1) }

// submit asks the lane to park the transaction or to end it. It stays due until the lane has: a verdict
// that came in meanwhile wins.
func (c *Checker) submit(p check, kind kite.Kind, reason string) {
	body := kite.AppendNote(nil, "broker", reason)
	b := &kite.Batch{Owner: c, Arena: body, Items: []kite.Item{{Record: kite.Record{
		Kind: kind, ID: p.id, Topic: p.topic, Body: body,
	}}}}
	if err := c.lane.Submit(b); err != nil {
		c.log.Warn("transaction could not be set aside, trying again", "msg_id", p.id.String(), "kind", kind.String(), "err", err)
		return
	}
	c.log.Warn("transaction undecided", "topic", p.topic, "group", p.group, "msg_id", p.id.String(), "kind", kind.String(), "reason", reason)
}
