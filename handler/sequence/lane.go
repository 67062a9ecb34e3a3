package sequence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// Sink learns what the lane has done with batches, in the order of the journal: the items carry their
// verdicts, and what is OK is durable. It keeps no reference to them after it returns, and it does not block.
type Sink interface {
	Durable(batches []*kite.Batch)
}

// Follower is told which streams have grown before that is durable, when delivery comes first. It keeps
// no reference to heads.
type Follower interface {
	Grown(heads map[string]kite.Seq)
}

// Router tells the lane who may still need messages.
type Router interface {
	Loaded() bool
	Routes() []kite.Route
	// Knows tells whether Routes has all groups of the topic.
	Knows(topic string) bool
}

// Lane is the one writer of the journal. Everything that changes the broker's durable state is
// submitted to it in batches and handled in turns:
//
//	take what was submitted -> propose: drop repeats, give Seqs, decide transactions
//	-> append as one entry -> sync -> apply to the state -> hand to the sinks, in their order
//
// While one turn appends and syncs, the next one's batches gather in the inbox: group commit without a
// timer. A turn is synced for the strongest class among the topics of its messages and decisions. What is
// proposed but not yet durable lives in the turn (an overlay over the state) and is thrown away when the
// append fails, so the state never knows more than the journal.
//
// The order of the sinks is the broker's order of promises: first the answers leave, then deliveries
// begin, then silence is watched. A decision that names a message prepared in the same turn ends the
// append early, since a commit record points at the place of the prepared one.
type Lane struct {
	options atomic.Pointer[Options]
	journal store.Journal
	classes kite.Classes
	routes  Router
	sinks   []Sink
	grown   Follower
	log     *slog.Logger
	now     func() time.Time

	inbox inbox
	state *State // owned by Run
	seen  *seen

	turn      turn
	refusals  map[kite.MessageID]bool // noted ones
	conflicts atomic.Int64
	delayed   atomic.Int64 // messages that wait
	appended  int64        // bytes since the last checkpoint
	reclaimed time.Time
	counts    counters
}

// Open replays the journal. The lane answers nothing before Run. A class of Options.Classes that the
// journal cannot give is an error of code kite.Invalid.
func Open(o Options, journal store.Journal, routes Router, log *slog.Logger) (*Lane, error) {
	l := &Lane{
		journal: journal, routes: routes, now: time.Now,
		classes: kite.Classes{Store: journal.Class(), Topics: o.Classes},
		log:     log.With("component", "sequence"), state: newState(), seen: newSeen(journal, o.DedupeWindow.Milliseconds()),
	}
	l.options.Store(&o)
	l.inbox.init(o)
	l.turn.init()
	l.refusals = map[kite.MessageID]bool{}
	if err := journal.Replay(l.state.apply); err != nil {
		return nil, fmt.Errorf("replay the journal: %w", err)
	}
	l.delayed.Store(int64(l.state.waiting))
	for _, topic := range slices.Sorted(maps.Keys(o.Classes)) {
		if err := journal.Sync(o.Classes[topic]); err != nil {
			return nil, fmt.Errorf("sync of topic %s: %w", topic, err)
		}
	}
	return l, nil
}

// Classes returns what the lane makes of each topic's messages before they are answered.
func (l *Lane) Classes() kite.Classes { return l.classes }

// Recovered returns what the journal said. It is read before Run.
func (l *Lane) Recovered() Recovered {
	r := Recovered{Heads: map[string]kite.Seq{}, Delayed: l.state.recoverDelayed()}
	for stream, head := range l.state.heads {
		r.Heads[stream] = head
	}
	for _, open := range l.state.open {
		r.Open = append(r.Open, *open)
	}
	standings := map[flowKey]*kite.Standing{}
	for key, standing := range l.state.standings {
		standings[key] = copyStanding(standing)
	}
	r.Standing = func(topic, group string) *kite.Standing { return standings[flowKey{topic, group}] }
	return r
}

// Submit hands the batch to the lane, which owns it until the last sink has seen it. It never blocks:
// a full inbox is kite.Busy, a stopped lane or a poisoned journal kite.Unavailable, and then the
// batch is still the caller's.
func (l *Lane) Submit(b *kite.Batch) error {
	if err := l.journal.Err(); err != nil {
		return &kite.Error{Code: kite.Unavailable, Err: err}
	}
	return l.inbox.put(b)
}

// Tune takes over what may change while the lane runs: MaxOpen, InboxItems, InboxBytes, CheckpointBytes,
// Retention and RetentionBytes.
func (l *Lane) Tune(o Options) {
	tuned := *l.options.Load()
	tuned.MaxOpen, tuned.InboxItems, tuned.InboxBytes = o.MaxOpen, o.InboxItems, o.InboxBytes
	tuned.CheckpointBytes, tuned.Retention, tuned.RetentionBytes = o.CheckpointBytes, o.Retention, o.RetentionBytes
	l.options.Store(&tuned)
	l.inbox.bound(tuned)
}

// Depth returns how many items wait.
func (l *Lane) Depth() int {
	items, _ := l.inbox.depth()
	return items
}

// Conflicts returns how many decisions were refused since the start because the opposite stands.
func (l *Lane) Conflicts() int64 { return l.conflicts.Load() }

// Delayed returns how many messages wait for their time.
func (l *Lane) Delayed() int64 { return l.delayed.Load() }

// Follow sets who is told of growth when Options.DeliverFirst is set. It is called before Run.
func (l *Lane) Follow(f Follower) { l.grown = f }

// Run works until ctx ends, then finishes what was submitted, refuses more, and writes a checkpoint.
func (l *Lane) Run(ctx context.Context, sinks ...Sink) error {
	l.sinks = sinks
	stopped := context.AfterFunc(ctx, l.inbox.close)
	defer stopped()
	for {
		batches, open := l.inbox.take()
		for len(batches) > 0 {
			n := l.fit(batches)
			l.handle(batches[:n])
			batches = batches[n:]
		}
		if !open {
			break
		}
		if l.appended >= int64(l.options.Load().CheckpointBytes) {
			l.checkpoint(l.options.Load().Retention)
		}
	}
	l.checkpoint(l.options.Load().Retention)
	return l.journal.Err()
}

// Bounds of one turn: an entry must fit a segment, and its answers should not wait for too much.
const (
	turnItems = 8192
	turnBytes = 8 << 20
)

func (l *Lane) fit(batches []*kite.Batch) int {
	items, bytes := 0, 0
	for i, b := range batches {
		items += len(b.Items)
		bytes += len(b.Arena)
		if i > 0 && (items > turnItems || bytes > turnBytes) {
			return i
		}
	}
	return len(batches)
}

func (l *Lane) handle(batches []*kite.Batch) {
	defer l.counts.worked(time.Now())
	nowMs := kite.UnixMs(l.now())
	for _, b := range batches {
		for i := range b.Items {
			if l.needsAppended(&b.Items[i]) {
				l.commit()
			}
			l.propose(&b.Items[i], nowMs)
		}
	}
	l.commit()
	l.delayed.Store(int64(l.state.waiting))
	for _, sink := range l.sinks {
		sink.Durable(batches)
	}
	for _, b := range batches {
		if b.Release != nil {
			b.Release(b)
		}
	}
}

// commit appends, syncs and applies what the turn proposed so far, and writes the verdicts.
func (l *Lane) commit() {
	t := &l.turn
	defer t.reset()
	if len(t.records) == 0 {
		return // repeats and refusals carry their verdicts already
	}
	begin := time.Now()
	err := l.journal.Append(t.records)
	l.counts.appended.Observe(time.Since(begin), 1)
	if errors.Is(err, store.ErrFull) && l.reclaim() {
		err = l.journal.Append(t.records)
	}
	if errors.Is(err, store.ErrFull) && l.shed() {
		err = l.journal.Append(t.records)
	}
	if err == nil && t.class != "" {
		if l.options.Load().DeliverFirst && len(t.heads) > 0 {
			l.grown.Grown(t.heads)
		}
		begin = time.Now()
		err = l.journal.Sync(t.class)
		l.counts.synced.Observe(time.Since(begin), 1)
	}
	if err != nil {
		code := kite.Unavailable
		if errors.Is(err, store.ErrFull) {
			code = kite.Busy
		} else {
			l.log.Error("journal write failed, the broker refuses publishes until it is restarted", "err", err)
		}
		for _, item := range t.items {
			item.Verdict = code
		}
		return
	}
	for _, r := range t.records {
		l.appended += int64(len(r.Body)) + 64
		if err := l.state.apply(r); err != nil {
			panic("sequence: the lane proposed what it cannot apply: " + err.Error())
		}
	}
}

// reclaimEvery bounds how often a full journal is searched for room.
const reclaimEvery = time.Second

// reclaim makes room in a full journal, which is worth more than retention. It returns false when it
// did so a moment ago.
func (l *Lane) reclaim() bool {
	now := l.now()
	if now.Sub(l.reclaimed) < reclaimEvery {
		return false
	}
	l.reclaimed = now
	l.checkpoint(0)
	return true
}

// shed refuses the turn's messages, for which a full journal has no room, and proposes the rest anew: what
// settles and decides must get through, or the journal would stay full. It returns false without such a rest.
func (l *Lane) shed() bool {
	items := slices.Clone(l.turn.items)
	l.turn.reset()
	for _, item := range items {
		if item.Published() {
			item.Verdict = kite.Busy
			continue
		}
		if item.Kind == kite.KindDelayed { // a commit that came before its time
			item.Kind, item.DueMs = kite.KindCommit, 0
		}
		l.propose(item, item.TimeMs) // the Seqs of the refused are free again
	}
	return len(l.turn.records) > 0
}

// checkpoint writes the state down and trims what nobody has needed for the retention time.
func (l *Lane) checkpoint(retention time.Duration) {
	l.appended = 0
	if l.journal.Err() != nil {
		return
	}
	switch err := l.journal.Checkpoint(l.state.records); {
	case errors.Is(err, store.ErrFull): // Trim may find room all the same: what the one before covers
		l.log.Error("no room for a checkpoint", "err", err, "hint", "free disk space")
	case err != nil:
		l.log.Error("checkpoint failed", "err", err)
		return
	}
	if !l.routes.Loaded() {
		return // nobody knows yet who needs what
	}
	trimmed, err := l.journal.Trim(l.needs(retention))
	switch {
	case err != nil:
		l.log.Error("trim failed", "err", err)
	case trimmed.Units > 0:
		l.log.Info("journal trimmed", "segments", trimmed.Units, "bytes", trimmed.Bytes)
	}
}

// needs is what Trim must keep: whatever a durable group has not settled, every dead letter, every
// undecided message.
func (l *Lane) needs(retention time.Duration) store.Needs {
	nowMs := kite.UnixMs(l.now())
	n := store.Needs{
		Floors: map[string]kite.Seq{}, BeforeMs: nowMs - retention.Milliseconds(),
		SeenMs: l.seen.sinceMs(nowMs), MaxBytes: int64(l.options.Load().RetentionBytes),
	}
	topics := map[string]bool{}
	for _, route := range l.routes.Routes() {
		if !route.Durable() {
			continue
		}
		floor := kite.Seq(1)
		if standing := l.state.standings[flowKey{route.Topic, route.Group}]; standing != nil {
			floor = standing.Floor()
		}
		if !topics[route.Topic] || floor < n.Floors[route.Topic] {
			n.Floors[route.Topic] = floor
		}
		topics[route.Topic] = true
	}
	for key, standing := range l.state.standings {
		if l.routes.Knows(key.topic) {
			continue // whoever is not among the routes has left
		}
		if floor, ok := n.Floors[key.topic]; !ok || standing.Floor() < floor {
			n.Floors[key.topic] = standing.Floor() // the topic is not served now, and may be again
		}
	}
	for stream := range l.state.heads {
		if topic, group, dead := kite.CutDead(stream); dead {
			n.Floors[stream] = 1
			if standing := l.state.standings[flowKey{topic, group}]; standing != nil {
				n.Floors[stream] = standing.Letters.Floor()
			}
		}
	}
	for _, open := range l.state.open {
		n.Open = append(n.Open, open.Position)
	}
	l.state.needDelayed(&n)
	return n
}

// inbox is where batches gather between two turns.
type inbox struct {
	mu       sync.Mutex
	wake     sync.Cond
	batches  []*kite.Batch
	spare    []*kite.Batch
	items    int
	bytes    int64
	maxItems int
	maxBytes int64
	closed   bool
}

func (i *inbox) init(o Options) {
	i.wake.L = &i.mu
	i.bound(o)
}

func (i *inbox) bound(o Options) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.maxItems, i.maxBytes = o.InboxItems, int64(o.InboxBytes)
}

// put wakes the lane after the lock is released, which the lane needs next.
func (i *inbox) put(b *kite.Batch) error {
	i.mu.Lock()
	err := i.putLocked(b)
	first := err == nil && len(i.batches) == 1
	i.mu.Unlock()
	if first {
		i.wake.Signal()
	}
	return err
}

func (i *inbox) putLocked(b *kite.Batch) error {
	if i.closed {
		return kite.Errorf(kite.Unavailable, "the broker is stopping")
	}
	if i.items > 0 && (i.items+len(b.Items) > i.maxItems || i.bytes+int64(len(b.Arena)) > i.maxBytes) {
		return kite.Errorf(kite.Busy, "%d requests wait for the journal, which is the bound", i.items)
	}
	i.batches = append(i.batches, b)
	i.items += len(b.Items)
	i.bytes += int64(len(b.Arena))
	return nil
}

// take waits for batches and returns all of them; open is false after the last ones of a closed inbox.
// The slice is good until the next take.
func (i *inbox) take() (batches []*kite.Batch, open bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for len(i.batches) == 0 && !i.closed {
		i.wake.Wait()
	}
	batches, i.batches = i.batches, i.spare[:0]
	i.spare = batches
	i.items, i.bytes = 0, 0
	return batches, !i.closed
}

func (i *inbox) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	i.wake.Signal()
}

func (i *inbox) depth() (items int, bytes int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.items, i.bytes
}
