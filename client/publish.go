package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// Publish hands the message to a broker and returns nil when that broker has confirmed it, in the
// durability class that the broker is configured for. It takes a random live broker of the topic.
// When that does not answer within AckTimeout, or its connection breaks, or it is busy, Publish
// goes on under the same id until ctx ends: first on the same broker while that is alive, then on
// others. Brokers store an id once, each; so the message is stored once, or rarely once on two
// brokers.
//
// Use a ctx with a deadline. The error is an *Error; after code Indeterminate the message may be
// stored, and publishing again under the same ID settles it.
func (c *Client) Publish(ctx context.Context, m *Message) error {
	return c.PublishAsync(ctx, m).Wait(ctx)
}

// PublishAsync sends the message and does not wait for the answer: Wait does, and repeats what
// Publish would. Up to MaxPending publishes are under way on a connection; beyond that, and when no
// broker is live, PublishAsync blocks until ctx ends. The message must not be changed until Wait
// has returned.
func (c *Client) PublishAsync(ctx context.Context, m *Message) *Pending {
	p := &Pending{client: c}
	p.cur = &p.first
	p.first.done = make(chan struct{})
	if err := p.prepare(ctx, m, true); err != nil {
		p.first.settle(err)
		return p
	}
	p.send(ctx)
	return p
}

// Pending is a publish under way.
type Pending struct {
	client *Client
	out    outgoing
	first  call  // the attempt of PublishAsync
	cur    *call // the latest attempt
	link   *link // of the latest attempt

	refused []*link // do not serve the topic
	tries   int     // in a row on link
	avoid   *link   // tried in vain
	doubt   bool    // an attempt may have been stored

	end func(error) // of the tracer; nil: there is none, or it was told
}

// ID returns the message's id, as sent. It is empty when the message was not valid and had none.
func (p *Pending) ID() string { return p.out.header.MessageID }

// Done returns a channel that is closed when the first attempt has been answered or lost. After
// that Wait returns at once, unless it has to repeat the attempt.
func (p *Pending) Done() <-chan struct{} { return p.first.done }

// Wait returns when the broker has confirmed the message, or with an error as Publish does. One
// goroutine at a time may call it. After an error because ctx ended, another call goes on.
func (p *Pending) Wait(ctx context.Context) error { return p.ended(p.wait(ctx)) }

func (p *Pending) wait(ctx context.Context) error {
	pauses := publishPauses()
	for {
		select {
		case <-p.cur.done:
		default:
			select {
			case <-p.cur.done:
			case <-ctx.Done():
				return p.failure(kite.Errorf(kite.Indeterminate, "no answer yet from broker %s: %w", p.link.addr, ctx.Err()))
			}
		}
		err := p.cur.err
		if err == nil {
			return nil
		}
		if !p.note(err) {
			return p.failure(err)
		}
		if pause(ctx, pauses.next()) != nil {
			if !errors.Is(err, ctx.Err()) {
				err = fmt.Errorf("%w; %w", err, ctx.Err())
			}
			return p.failure(err)
		}
		p.cur = &call{done: make(chan struct{})}
		p.send(ctx)
	}
}

// prepare checks the message and takes what is needed of it.
func (p *Pending) prepare(ctx context.Context, m *Message, commit bool) error {
	p.out.header.MessageID, p.out.header.Topic = m.ID, m.Topic
	if p.client.closing.Load() {
		return errClientClosed()
	}
	m = p.traced(ctx, m)
	out, err := m.outgoing(p.client.options.Group, commit, time.Now())
	if err != nil {
		return err
	}
	p.out = out
	if !slices.Contains(p.client.options.Topics, m.Topic) {
		return kite.Errorf(kite.Invalid, "topic %s is not in Options.Topics %v: add it there", m.Topic, p.client.options.Topics)
	}
	return nil
}

// send starts the latest attempt, or settles it when ctx ended before it could.
func (p *Pending) send(ctx context.Context) {
	for {
		if p.client.closing.Load() {
			p.cur.settle(errClientClosed())
			return
		}
		conn, err := p.client.brokers.pick(ctx, choice{p.out.header.Topic, p.link, p.avoid, p.refused})
		if err != nil {
			p.link = nil
			p.cur.settle(err)
			return
		}
		p.link = conn.link
		switch err := conn.publish(ctx, &p.out, p.cur); {
		case err == nil:
			return
		case ctx.Err() != nil:
			p.cur.settle(kite.Errorf(kite.Unavailable, "not sent to broker %s: %w", conn.addr, err))
			return
		}
		// The connection ended before the message was in its outbox: it will not be picked again.
		p.link = nil
	}
}

// note learns from a failed attempt and tells whether another one can help.
func (p *Pending) note(err error) bool {
	at := p.link
	switch kite.CodeOf(err) {
	case kite.Indeterminate:
		p.doubt = true
	case kite.NotServed:
		if p.link == nil { // not one broker's word but the end of the search
			return false
		}
		p.refused = append(p.refused, p.link)
		p.link = nil
	case kite.Unavailable:
		p.link = nil
	}
	// The broker that may have the message already is asked first, but not for ever: one that answers
	// heartbeats and nothing else must not hold up what another would take.
	if p.tries++; p.link == nil || p.tries == triesPerBroker {
		p.link, p.avoid, p.tries = nil, at, 0
	}
	return retriable(err) && !p.client.closing.Load()
}

// failure is what the caller gets. Once an attempt may have been stored, no later refusal makes
// the outcome certain again.
func (p *Pending) failure(err error) error {
	code := kite.CodeOf(err)
	if p.doubt {
		code = kite.Indeterminate
	}
	op := "publish to topic " + p.out.header.Topic
	if id := p.out.header.MessageID; id != "" {
		op = fmt.Sprintf("publish message %s to topic %s", id, p.out.header.Topic)
	}
	return &kite.Error{Code: code, Op: op, Err: err}
}

func errClientClosed() error {
	return kite.Errorf(kite.Unavailable, "the client is closed")
}

// triesPerBroker is how often one broker is tried before the choice is random again.
const triesPerBroker = 3

// publishPauses are those between the attempts of one publish.
func publishPauses() backoff { return backoff{min: 20 * time.Millisecond, max: 2 * time.Second} }
