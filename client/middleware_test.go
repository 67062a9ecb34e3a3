package client_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/client"
)

// named returns a middleware that writes down when it is entered and left.
func named(name string, log *[]string) client.Middleware {
	return func(next client.Handler) client.Handler {
		return func(ctx context.Context, d *client.Delivery) error {
			*log = append(*log, name)
			err := next(ctx, d)
			*log = append(*log, name+" left")
			return err
		}
	}
}

func TestMiddlewareOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var log []string // the ack comes after the last write
	c := b.dial(func(o *client.Options) {
		o.Middleware = []client.Middleware{named("first", &log), named("second", &log)}
	})
	_, err := c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, func(context.Context, *client.Delivery) error {
		log = append(log, "handler")
		return errors.New("no stock")
	})
	if err != nil {
		t.Fatal(err)
	}
	mustDeliver(t, b, stored("trade", "x", ""))
	if ack := mustNext(t, &b.broker.Acks); ack.OK || ack.Feedback != "no stock" {
		t.Errorf("acked %+v", ack)
	}
	if want := []string{"first", "second", "handler", "second left", "first left"}; !slices.Equal(log, want) {
		t.Errorf("called %q, want %q", log, want)
	}
}

func TestMiddlewareDecides(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(func(o *client.Options) {
		o.Middleware = []client.Middleware{func(next client.Handler) client.Handler {
			return func(ctx context.Context, d *client.Delivery) error {
				switch d.Type {
				case "panic":
					panic("in the middle")
				case "skip":
					return nil
				}
				return errors.Join(next(ctx, d), errors.New("and more"))
			}
		}}
	})
	_, err := c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, func(_ context.Context, d *client.Delivery) error {
		return errors.New("handled " + d.Type)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		messageType string
		ok          bool
		feedback    string
	}{
		{"panic", false, "panicked: in the middle"},
		{"skip", true, ""},
		{"other", false, "handled other\nand more"},
	} {
		mustDeliver(t, b, stored("trade", tt.messageType, ""))
		if ack := mustNext(t, &b.broker.Acks); ack.OK != tt.ok || !strings.Contains(ack.Feedback, tt.feedback) {
			t.Errorf("%s: acked %+v, want %v and %q", tt.messageType, ack, tt.ok, tt.feedback)
		}
	}
}

func TestMiddlewareWithoutHandler(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(func(o *client.Options) {
		o.Middleware = []client.Middleware{func(client.Handler) client.Handler { return nil }}
	})
	good := func(context.Context, *client.Delivery) error { return nil }
	_, err := c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, good)
	if !errors.Is(err, client.Invalid) || !strings.Contains(err.Error(), "Options.Middleware") {
		t.Errorf("got %v", err)
	}
}

func TestPreEnv(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(func(o *client.Options) { o.PreEnv = true })
	got := subscribe(t, c)
	if conn := mustNext(t, &b.broker.Connects); conn.Group != "g-pre" {
		t.Errorf("connected as group %s, want g-pre", conn.Group)
	}
	if all := b.registry.Bindings("trade"); len(all) != 0 {
		t.Errorf("published bindings %v", all)
	}
	if err := c.Publish(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	if p := mustNext(t, &b.broker.Published); p.Group != "g-pre" {
		t.Errorf("published as group %s, want g-pre", p.Group)
	}
	if _, err := b.broker.Deliver("g-pre", stored("trade", "x", "body")); err != nil {
		t.Fatal(err)
	}
	if d := <-got; string(d.Body) != "body" {
		t.Errorf("delivered %+v", d)
	}
	long := client.Options{Brokers: []string{"b:1"}, Group: strings.Repeat("g", 255), PreEnv: true}
	if err := long.Validate(); err == nil || !strings.Contains(err.Error(), "g-pre") && !strings.Contains(err.Error(), "255") {
		t.Errorf("a group that is too long with its suffix: %v", err)
	}
}

func TestLazyDial(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.registry.SetBrokers("trade")
	c := b.dial(func(o *client.Options) { o.Lazy = true })
	published := make(chan error)
	go func() { published <- c.Publish(t.Context(), message()) }()
	b.registry.SetBrokers("trade", b.broker.Addr())
	if err := <-published; err != nil {
		t.Error(err)
	}
	if err := c.Ready(t.Context(), "trade"); err != nil {
		t.Error(err)
	}
}
