package client

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// Verdict is what becomes of a prepared message. The values are those of the wire.
type Verdict int32

// The verdicts. Unknown decides nothing: the broker asks again later.
const (
	Unknown  = Verdict(protocol.StatusUnknown)
	Commit   = Verdict(protocol.StatusCommit)
	Rollback = Verdict(protocol.StatusRollback)
)

func (v Verdict) String() string {
	switch v {
	case Unknown:
		return "unknown"
	case Commit:
		return "commit"
	case Rollback:
		return "rollback"
	}
	return fmt.Sprintf("verdict %d", int32(v))
}

// CheckFunc tells what became of the local transaction of a prepared message, usually by looking
// for its row. It is asked in any process of the producer's group, and more than once. Without a
// sure answer it returns Unknown; a row that is absent is a sure rollback only when it can no
// longer appear. A panic, or no answer within CheckTimeout, counts as Unknown.
type CheckFunc func(ctx context.Context, check Check) Verdict

// AnswersChecks tells whether Options.CheckListener is set.
func (c *Client) AnswersChecks() bool { return c.options.CheckListener != nil }

// Check is a broker's question about a prepared message.
type Check struct {
	ID         string
	Topic      string
	Type       string
	Properties map[string]string
	Created    time.Time // by the producer's clock; zero when not known
	Broker     string    // address of who asks
}

// maxChecks is how many checks run at a time. The broker asks again, so more are answered Unknown.
const maxChecks = 32

// checker answers checks.
type checker struct {
	options *Options
	run     func(part func(context.Context)) bool
	count   *counters
	log     *slog.Logger

	mu      sync.Mutex
	held    map[kite.MessageID]bool // transactions that run in this process
	running int
}

func newChecker(o *Options, run func(func(context.Context)) bool, count *counters) *checker {
	return &checker{options: o, run: run, count: count, log: o.Log.With("component", "client"), held: map[kite.MessageID]bool{}}
}

// hold marks the id as one whose transaction runs in this process; it fails when it is already.
func (k *checker) hold(id kite.MessageID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held[id] {
		return false
	}
	k.held[id] = true
	return true
}

func (k *checker) drop(id kite.MessageID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.held, id)
}

// check answers a check, at once or when the listener has decided.
func (k *checker) check(from *conn, f protocol.Frame) {
	var asked protocol.TxAckView
	if err := asked.Decode(append([]byte(nil), f.Payload...)); err != nil {
		from.malformed(f, err)
		return
	}
	h := &asked.Header
	answer := func(v Verdict, feedback string) {
		k.count.checks.Add(1)
		from.answer(&txAck{h.Raw, v, feedback}, f.Opaque)
	}
	if reason := k.begin(h); reason != "" {
		answer(Unknown, reason)
		return
	}
	from.link.work.add(1)
	started := k.run(func(ctx context.Context) {
		defer k.end()
		defer from.link.work.done()
		k.ask(ctx, newCheck(from.addr, h), answer)
	})
	if !started {
		k.end()
		from.link.work.done()
		answer(Unknown, "the client is closed")
	}
}

// begin takes a place for the listener, or says why it is not asked.
func (k *checker) begin(h *protocol.HeaderView) (refusal string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id, _ := kite.ParseMessageID(h.MessageID)
	switch {
	case k.held[id]:
		return "the transaction still runs"
	case k.options.CheckListener == nil:
		return "this member has no check listener"
	case k.running == maxChecks:
		return fmt.Sprintf("busy: %d checks are running", maxChecks)
	}
	k.running++
	return ""
}

func (k *checker) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running--
}

// ask asks the listener and answers once: with its verdict, or Unknown when it panics or is late.
// It returns when the listener has; a listener that ignores its context keeps its place so long.
func (k *checker) ask(ctx context.Context, c Check, answer func(Verdict, string)) {
	ctx, cancel := context.WithTimeout(ctx, k.options.CheckTimeout)
	defer cancel()
	tooLate := func() {
		answer(Unknown, "the check listener gave no answer within "+k.options.CheckTimeout.String())
	}
	var once sync.Once
	stop := context.AfterFunc(ctx, func() { once.Do(tooLate) })
	defer stop()
	v, feedback := k.listen(ctx, c)
	once.Do(func() {
		if ctx.Err() != nil { // the listener may have made up an answer because its context ended
			tooLate()
			return
		}
		answer(v, feedback)
	})
}

func (k *checker) listen(ctx context.Context, c Check) (v Verdict, feedback string) {
	defer func() {
		if r := recover(); r != nil {
			v, feedback = Unknown, fmt.Sprintf("the check listener panicked: %v", r)
			k.log.Error("the check listener panicked", "topic", c.Topic, "msg_id", c.ID, "err", r)
		}
	}()
	if v = k.options.CheckListener(ctx, c); v != Commit && v != Rollback && v != Unknown {
		return Unknown, fmt.Sprintf("the check listener returned %s", v)
	}
	return v, ""
}

func newCheck(broker string, h *protocol.HeaderView) Check {
	return Check{
		ID: string(h.MessageID), Topic: string(h.Topic), Type: string(h.MessageType),
		Properties: properties(h), Created: created(h), Broker: broker,
	}
}

func properties(h *protocol.HeaderView) map[string]string {
	var all map[string]string
	for key, value := range h.Properties {
		if all == nil {
			all = map[string]string{}
		}
		all[string(key)] = string(value)
	}
	return all
}

func created(h *protocol.HeaderView) time.Time {
	if !h.HasCreateTime || h.CreateTime <= 0 {
		return time.Time{}
	}
	return time.Unix(h.CreateTime, 0)
}

// short cuts a feedback to what brokers and their operators can use.
func short(feedback string) string {
	const limit = 512
	if len(feedback) > limit {
		return feedback[:limit]
	}
	return feedback
}
