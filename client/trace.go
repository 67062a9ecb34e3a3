package client

import (
	"context"
	"maps"
)

// Tracer follows messages from their publisher to their consumers. What it gives to a message travels in its
// properties, so consumers and publishers need not be of the same language, nor trace at all. Package
// client/otel, a module of its own, is one for OpenTelemetry. Its methods are called by many goroutines.
type Tracer interface {
	// Publish is called before the message is sent. What it returns is added to the properties of what is sent, in the
	// place of those of the same name; end is called once, with nil when a broker has confirmed it. The message has an
	// id, and must not be changed or kept.
	Publish(ctx context.Context, group string, m *Message) (properties map[string]string, end func(err error))
	// Deliver is called before a handler, which gets the context that it returns; end is called with what the handler
	// and Options.Middleware made of the delivery, nil when it is acknowledged.
	Deliver(ctx context.Context, group string, d *Delivery) (with context.Context, end func(err error))
}

// TraceParent and TraceState are the properties in which the trace context of W3C travels.
const (
	TraceParent = "traceparent"
	TraceState  = "tracestate"
)

// traced returns the message as it is sent, with an id and what the tracer adds.
func (p *Pending) traced(ctx context.Context, m *Message) *Message {
	tracer := p.client.options.Tracer
	if tracer == nil {
		return m
	}
	with := *m
	if with.ID == "" {
		with.ID = NewID()
	}
	properties, end := tracer.Publish(ctx, p.client.options.Group, &with)
	p.end = end
	if len(properties) > 0 {
		with.Properties = maps.Clone(m.Properties)
		if with.Properties == nil {
			with.Properties = map[string]string{}
		}
		maps.Copy(with.Properties, properties)
	}
	return &with
}

// ended tells the tracer how the publish ended, once.
func (p *Pending) ended(err error) error {
	if end := p.end; end != nil {
		p.end = nil
		end(err)
	}
	return err
}

// trace calls the handler within a span.
func (c *consumer) trace(ctx context.Context, handle Handler, d *Delivery) error {
	if c.options.Tracer == nil {
		return c.call(ctx, handle, d)
	}
	ctx, end := c.options.Tracer.Deliver(ctx, c.options.Group, d)
	err := c.call(ctx, handle, d)
	end(err)
	return err
}
