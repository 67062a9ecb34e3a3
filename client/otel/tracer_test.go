package otel_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/clienttest"
	"github.com/kiteq/kiteq/client/otel"
)

// TestSpans follows a message over a broker: the consumer's span is a child of the publisher's, and what a handler
// starts is a child of that.
func TestSpans(t *testing.T) {
	t.Parallel()
	broker, err := clienttest.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	spans := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans))
	c, err := client.Dial(t.Context(), client.Options{
		Brokers: []string{broker.Addr()}, Group: "g", Topics: []string{"trade"}, Tracer: otel.New(otel.Options{Provider: provider}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	inside := make(chan trace.SpanContext, 1)
	_, err = c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, func(ctx context.Context, _ *client.Delivery) error {
		inside <- trace.SpanContextFromContext(ctx)
		return errors.New("no stock")
	})
	if err != nil {
		t.Fatal(err)
	}

	ctx, outer := provider.Tracer("test").Start(t.Context(), "order")
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := c.Publish(ctx, &client.Message{Topic: "trade", Type: "pay", Body: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	outer.End()
	sent, err := broker.Published.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := broker.Deliver("g", sent); err != nil {
		t.Fatal(err)
	}
	if _, err := broker.Acks.Next(ctx); err != nil {
		t.Fatal(err)
	}
	handled := <-inside

	var publish, process sdk.ReadOnlySpan
	for _, s := range spans.Ended() {
		switch s.SpanKind() {
		case trace.SpanKindProducer:
			publish = s
		case trace.SpanKindConsumer:
			process = s
		}
	}
	if publish == nil || process == nil {
		t.Fatalf("%d spans", len(spans.Ended()))
	}
	if publish.Parent().SpanID() != outer.SpanContext().SpanID() || publish.Name() != "publish trade" || publish.Status().Code == codes.Error {
		t.Errorf("publish: %+v", publish)
	}
	if process.Parent().SpanID() != publish.SpanContext().SpanID() || !process.Parent().IsRemote() || process.SpanContext().TraceID() != outer.SpanContext().TraceID() {
		t.Errorf("process is no child of publish: %v of %v", process.Parent(), publish.SpanContext())
	}
	if handled.SpanID() != process.SpanContext().SpanID() || process.Status().Code != codes.Error || process.Status().Description != "no stock" {
		t.Errorf("handler's span %v, status %+v", handled, process.Status())
	}
	want := map[string]string{"messaging.system": "kiteq", "messaging.message.id": sent.ID, "messaging.consumer.group.name": "g"}
	for _, a := range process.Attributes() {
		if w, ok := want[string(a.Key)]; ok && a.Value.AsString() == w {
			delete(want, string(a.Key))
		}
	}
	if len(want) > 0 {
		t.Errorf("attributes %v, without %v", process.Attributes(), want)
	}
	if got := sent.Properties[client.TraceParent]; got != "00-"+outer.SpanContext().TraceID().String()+"-"+publish.SpanContext().SpanID().String()+"-01" {
		t.Errorf("traceparent %q", got)
	}
}
