package webhook

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Loader finds the bytes of an undecided message.
type Loader interface {
	Load(pos kite.Position, visit func(*kite.Record)) error
}

// Submitter takes what must be journaled.
type Submitter interface {
	Submit(b *kite.Batch) error
}

// Book is told of checks. It says when a message is to be asked about.
type Book interface {
	// Asked says that a check was sent to who.
	Asked(id kite.MessageID, who string)
	// Answered says that an answer to one decides nothing.
	Answered(id kite.MessageID, by string)
}

// Hooks asks by HTTP. It is the second way of a check, for groups of which nobody is connected: what decides
// when to ask, and how often, is the same, and an answer goes the way of any verdict, into the lane. So a
// producer that comes back while its hook is asked does no harm: the first decision wins.
//
// Each hook, the endpoint of a group, has a queue and Parallel goroutines of its own: one that is slow or silent
// holds up nobody else. Who has a full queue is asked later, as one who is not there. A
// check counts when its request has been written and not before, so a hook that is away uses up none. One
// that does not answer rests for pauses that double, so there are at most Parallel requests a pause, however
// many messages wait.
type Hooks struct {
	options Options
	loader  Loader
	lane    Submitter
	client  *http.Client
	log     *slog.Logger
	hooks   map[string]*hook // never changed

	requests, failures atomic.Int64
}

// New returns hooks that nobody asks before Run. The options are valid.
func New(o Options, loader Loader, lane Submitter, log *slog.Logger) *Hooks {
	h := &Hooks{
		options: o, loader: loader, lane: lane, log: log.With("component", "webhook"),
		client: newClient(o.Parallel), hooks: make(map[string]*hook, len(o.URLs)),
	}
	for group, raw := range o.URLs {
		u, err := parse(raw)
		if err != nil {
			panic("webhook: options that were not validated")
		}
		h.hooks[group] = newHook(group, u)
	}
	return h
}

// Ask has the group's hook asked about the message at position, after so many checks were sent. It does not wait: a
// group without a hook, one whose hook rests or has its queue full, and a message that it is asked about now, are
// passed over.
func (h *Hooks) Ask(group string, id kite.MessageID, position kite.Position, checks int) {
	if k := h.hooks[group]; k != nil {
		k.offer(inquiry{id, position, checks}, time.Now())
	}
}

// Run asks until ctx ends; requests under way end with it. What comes of them the book is told.
func (h *Hooks) Run(ctx context.Context, book Book) error {
	defer h.client.CloseIdleConnections()
	var wait sync.WaitGroup
	for _, k := range h.hooks {
		for range h.options.Parallel {
			wait.Go(func() { h.work(ctx, k, book) })
		}
	}
	wait.Wait()
	return nil
}

func (h *Hooks) work(ctx context.Context, k *hook, book Book) {
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-k.queue:
			if k.restsUntil(time.Now()).IsZero() {
				h.ask(ctx, k, q, book)
			}
			k.done(q.id)
		}
	}
}

// ask makes one request and hands on what came of it.
func (h *Hooks) ask(ctx context.Context, k *hook, q inquiry, book Book) {
	body, err := h.question(q)
	if err != nil {
		h.log.Error("check not sent", "msg_id", q.id.String(), "group", k.group, "err", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, h.options.Timeout)
	defer cancel()
	sent := sync.OnceFunc(func() {
		h.requests.Add(1)
		book.Asked(q.id, k.by)
	})
	answer, err := post(ctx, h.client, k.url, body, sent)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return // the broker stops
	case err != nil:
		h.failed(ctx, k, q, err, book)
		return
	}
	k.recovered()
	switch answer.Outcome {
	case outcomeCommit:
		h.decide(k, q, kite.KindCommit, answer.Reason)
	case outcomeRollback:
		h.decide(k, q, kite.KindRollback, answer.Reason)
	default:
		book.Answered(q.id, k.by)
	}
}

// failed notes a request without an answer that could be used. One that is about this message only stops no other.
func (h *Hooks) failed(ctx context.Context, k *hook, q inquiry, err error, book Book) {
	h.failures.Add(1)
	var bad *badAnswer
	if errors.As(err, &bad) {
		book.Answered(q.id, k.by+" ("+bad.short+")")
	}
	if errors.As(err, &bad) && !bad.busy {
		k.recovered()
	} else {
		k.rest(time.Now(), h.options.First, h.options.Longest)
	}
	level := slog.LevelDebug
	if k.complain(err.Error()) {
		level = slog.LevelWarn
	}
	h.log.Log(ctx, level, "webhook failed", "group", k.group, "hook", k.by, "msg_id", q.id.String(), "err", err)
}

// decide hands the lane the verdict. When it takes none now the hook is asked again, as after any check.
func (h *Hooks) decide(k *hook, q inquiry, kind kite.Kind, reason string) {
	note := kite.AppendNote(nil, k.by, reason)
	b := &kite.Batch{Owner: h, Arena: note, Items: []kite.Item{{Record: kite.Record{Kind: kind, ID: q.id, Body: note}}}}
	if err := h.lane.Submit(b); err != nil {
		h.log.Warn("verdict not taken, the hook is asked again", "msg_id", q.id.String(), "hook", k.by, "err", err)
	}
}

// Stats counts since the start.
type Stats struct {
	// Requests were sent, Failures brought no answer that could be used; those that could not be sent are among them.
	Requests, Failures int64
}

// Stats returns the counters.
func (h *Hooks) Stats() Stats { return Stats{h.requests.Load(), h.failures.Load()} }
