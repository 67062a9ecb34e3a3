package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/protocol"
)

// binder makes the groups known to the broker, and forgets them.
type binder interface {
	bind(ctx context.Context, r *receipt) error
	unbind(ctx context.Context, r *receipt) error
}

// registryBinder binds through the registry, by a client that is there for that only.
type registryBinder struct{ b *bench }

// bindings are those of a group: its messageType on its topics, as fast as the broker can.
func (b *bench) bindings(r *receipt) []client.Binding {
	var all []client.Binding
	for _, topic := range b.topicsOf(r) {
		one := client.Direct(topic, r.about.kind)
		one.Watermark = math.MaxInt32
		all = append(all, one)
	}
	return all
}

func (b *bench) topicsOf(r *receipt) []string {
	if r.about.topic != "" {
		return []string{r.about.topic}
	}
	return b.topics
}

func (r registryBinder) bind(ctx context.Context, to *receipt) error {
	return r.with(ctx, to.group, func(c *client.Client) error {
		_, err := c.Subscribe(ctx, r.b.bindings(to), func(context.Context, *client.Delivery) error {
			return fmt.Errorf("the group is only being bound")
		})
		return err
	})
}

func (r registryBinder) unbind(ctx context.Context, from *receipt) error {
	return r.with(ctx, from.group, func(c *client.Client) error {
		for _, topic := range r.b.topicsOf(from) {
			if err := c.Unbind(ctx, topic); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r registryBinder) with(ctx context.Context, group string, what func(*client.Client) error) error {
	c, err := client.Dial(ctx, client.Options{ZKHost: r.b.o.zkhost, Group: group, Lazy: true})
	if err != nil {
		return err
	}
	return closeClient(ctx, c, r.b.o.patience, what(c))
}

// prober publishes single messages and waits for the answer. class is the durability class that the
// broker named in it, "" when that cannot be seen.
type prober interface {
	probe(ctx context.Context, about subject, body []byte) (class string, err error)
	close()
}

type wireProber struct {
	b    *bench
	link *link
}

func (p *wireProber) probe(ctx context.Context, about subject, body []byte) (string, error) {
	h := protocol.Header{
		MessageID: client.NewID(), Topic: about.topic, MessageType: about.kind, GroupID: p.b.producer,
		ExpiredTime: -1, DeliverLimit: 100, Commit: true, Fly: p.b.o.fly,
	}
	stop := context.AfterFunc(ctx, p.link.close)
	defer stop()
	opaque := p.link.number()
	if _, err := p.link.conn.Write(protocol.AppendMessage(nil, protocol.FramingG, opaque, protocol.CmdBytesMessage, &h, body)); err != nil {
		return "", err
	}
	for {
		f, err := p.link.next()
		if err != nil {
			return "", err
		}
		if f.Opaque != opaque || f.Command != protocol.CmdStoreAck {
			continue
		}
		var ack protocol.StoreAckView
		if err := ack.Decode(f.Payload); err != nil {
			return "", err
		}
		if !ack.Status {
			return "", fmt.Errorf("the broker refused a message to topic %s: %s", about.topic, ack.Feedback)
		}
		return classOf(string(ack.Feedback)), nil
	}
}

func (p *wireProber) close() { p.link.close() }

// classFly is the class of messages that are not stored.
const classFly = "fly"

// classOf finds the class in "Store Result true Cost:0 synced"; old brokers name none.
func classOf(feedback string) string {
	if feedback == protocol.FeedbackFly {
		return classFly
	}
	cost, ok := strings.CutPrefix(feedback, protocol.FeedbackStored)
	if !ok {
		return ""
	}
	_, class, _ := strings.Cut(cost, " ")
	return class
}

type clientProber struct {
	b *bench
	c *client.Client
}

func (p *clientProber) probe(ctx context.Context, about subject, body []byte) (string, error) {
	return "", p.c.Publish(ctx, &client.Message{Topic: about.topic, Type: about.kind, Body: body, Fly: p.b.o.fly})
}

func (p *clientProber) close() { _ = closeClient(context.Background(), p.c, p.b.o.patience, nil) }

func (b *bench) openProber(ctx context.Context) (prober, error) {
	if b.o.broker != "" {
		l, err := dial(ctx, b.o.broker, protocol.ConnMeta{GroupID: b.producer}, 4<<10, b.o.patience)
		if err != nil {
			return nil, err
		}
		return &wireProber{b, l}, nil
	}
	o := b.clientOptions(b.producer)
	o.Topics = b.topics
	c, err := client.Dial(ctx, o)
	if err != nil {
		return nil, err
	}
	return &clientProber{b, c}, nil
}

// probe publishes to every subject until every group got a message from each: only then the broker has
// the bindings, which it reads from the registry in its own time. It returns the durability class.
func (b *bench) probe(ctx context.Context) (class string, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.o.patience)
	defer cancel()
	p, err := b.openProber(ctx)
	if err != nil {
		return "", err
	}
	defer p.close()
	body := make([]byte, b.o.size)
	stamp{run: b.ledger.run, stream: probeStream, due: time.Now()}.write(body)
	pause := time.NewTicker(100 * time.Millisecond)
	defer pause.Stop()
	for {
		for _, about := range b.subjects {
			if class, err = p.probe(ctx, about, body); err != nil {
				return "", fmt.Errorf("publish a probe to topic %s: %w", about.topic, err)
			}
		}
		if b.bound() {
			return class, nil
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return "", fmt.Errorf("after %v the broker does not deliver to every group: has it the registry %q, and the topics?", b.o.patience, b.o.zkhost)
		}
	}
}

func (b *bench) bound() bool {
	for _, r := range b.receipts {
		if !r.hasProbed(b.topics) {
			return false
		}
	}
	return true
}
