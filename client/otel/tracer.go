// Package otel traces the messages of a KiteQ client with OpenTelemetry. It is a module of its own, so that whoever
// does not trace does not get OpenTelemetry:
//
//	c, err := client.Dial(ctx, client.Options{..., Tracer: otel.New(otel.Options{})})
//
// A publish is a span of kind producer, the handling of a delivery one of kind consumer and a child of the
// publish. The context travels in the properties of the message, "traceparent" and "tracestate" with the default
// propagator, as in W3C Trace Context.
package otel

import (
	"context"

	otelapi "go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/kiteq/kiteq/client"
)

// Name is the name of the instrumentation, by which a provider knows its tracer.
const Name = "github.com/kiteq/kiteq/client/otel"

// Options of a Tracer. The zero value is good.
type Options struct {
	// Provider makes the spans. Default: the global one, as it is when each span begins.
	Provider trace.TracerProvider
	// Propagator puts the context into properties and takes it out. Default: W3C Trace Context.
	Propagator propagation.TextMapPropagator
}

// Tracer is a client.Tracer.
type Tracer struct{ options Options }

var _ client.Tracer = (*Tracer)(nil)

// New returns a tracer for client.Options.
func New(o Options) *Tracer {
	if o.Propagator == nil {
		o.Propagator = propagation.TraceContext{}
	}
	return &Tracer{o}
}

// Publish implements client.Tracer.
func (t *Tracer) Publish(ctx context.Context, group string, m *client.Message) (map[string]string, func(error)) {
	ctx, span := t.tracer().Start(ctx, "publish "+m.Topic, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		describe("publish", "send", group, m.Topic, m.Type, m.ID, len(m.Body))...))
	properties := propagation.MapCarrier{}
	t.options.Propagator.Inject(ctx, properties)
	return properties, end(span)
}

// Deliver implements client.Tracer.
func (t *Tracer) Deliver(ctx context.Context, group string, d *client.Delivery) (context.Context, func(error)) {
	ctx = t.options.Propagator.Extract(ctx, propagation.MapCarrier(d.Properties))
	attributes := append(describe("process", "process", group, d.Topic, d.Type, d.ID, len(d.Body)),
		attribute.String("messaging.consumer.group.name", group), attribute.String("server.address", d.Broker))
	ctx, span := t.tracer().Start(ctx, "process "+d.Topic, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attributes...))
	return ctx, end(span)
}

func (t *Tracer) tracer() trace.Tracer {
	provider := t.options.Provider
	if provider == nil {
		provider = otelapi.GetTracerProvider()
	}
	return provider.Tracer(Name)
}

// describe gives a message the names of OpenTelemetry's conventions for messaging.
func describe(operation, kind, group, topic, messageType, id string, size int) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "kiteq"),
		attribute.String("messaging.operation.name", operation),
		attribute.String("messaging.operation.type", kind),
		attribute.String("messaging.client.id", group),
		attribute.String("messaging.destination.name", topic),
		attribute.String("messaging.kiteq.message.type", messageType),
		attribute.String("messaging.message.id", id),
		attribute.Int("messaging.message.body.size", size),
	}
}

func end(span trace.Span) func(error) {
	return func(err error) {
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}
