package client_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/client/clienttest"
)

// pipes runs the test in a bubble of virtual time with a broker on connections in memory.
func pipes(t *testing.T, change func(*client.Options), run func(t *testing.T, b *clienttest.Broker, c *client.Client)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := clienttest.New()
		o := client.Options{Brokers: []string{"broker:13800"}, Group: "g", Topics: []string{"trade"}, Dialer: b.Dialer()}
		if change != nil {
			change(&o)
		}
		c, err := client.Dial(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		run(t, b, c)
		if err := c.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
		b.Close()
	})
}

func TestAckTimeoutIsKept(t *testing.T) {
	pipes(t, nil, func(t *testing.T, b *clienttest.Broker, c *client.Client) {
		b.OnPublish(func(clienttest.Published) clienttest.Answer { return clienttest.Silence() })
		started := time.Now()
		p := c.PublishAsync(t.Context(), message())
		<-p.Done()
		if took := time.Since(started); took < 3*time.Second || took > 3750*time.Millisecond {
			t.Errorf("given up after %s, want 3s to 3.75s", took)
		}
	})
}

func TestHeartbeats(t *testing.T) {
	pipes(t, nil, func(t *testing.T, b *clienttest.Broker, c *client.Client) {
		mustNext(t, &b.Connects)
		<-time.After(time.Minute) // of the bubble's clock
		synctest.Wait()
		if n := b.Beats.Len(); n < 6 || n > 7 {
			t.Errorf("%d heartbeats in a minute, want 6 or 7", n)
		}
		if b.Connects.Len() != 0 {
			t.Error("connected again though every heartbeat was answered")
		}
		b.Mute(true)
		muted := time.Now()
		if _, err := b.Connects.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(muted); took < 30*time.Second || took > 41*time.Second {
			t.Errorf("given up after %s of silence, want three to four intervals", took)
		}
	})
}

func TestReconnectBacksOff(t *testing.T) {
	pipes(t, nil, func(t *testing.T, b *clienttest.Broker, c *client.Client) {
		mustNext(t, &b.Connects)
		var tries []time.Time
		b.OnConnect(func(clienttest.Connect) string { tries = append(tries, time.Now()); return "no" })
		b.Drop()
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if len(tries) < 12 || len(tries) > 40 {
			t.Errorf("%d attempts in two minutes, want them to get rarer, up to one each 5s to 10s", len(tries))
		}
		if first := tries[1].Sub(tries[0]); first > 200*time.Millisecond {
			t.Errorf("second attempt after %s", first)
		}
		last := tries[len(tries)-1].Sub(tries[len(tries)-2])
		if last < 5*time.Second || last > 10*time.Second {
			t.Errorf("last attempt after %s, want 5s to 10s", last)
		}
		b.OnConnect(nil)
		if err := c.Publish(t.Context(), message()); err != nil {
			t.Error(err)
		}
	})
}

func TestHandshakeTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		silent := func(ctx context.Context, _ string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() { // reads everything, says nothing, until the client gives up
				buf := make([]byte, 1024)
				for {
					if _, err := far.Read(buf); err != nil {
						return
					}
				}
			}()
			return near, nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := client.Dial(ctx, client.Options{Brokers: []string{"b:1"}, Group: "g", Topics: []string{"trade"}, Dialer: silent})
		if !errors.Is(err, client.Unavailable) || !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(err.Error(), "b:1") || !strings.Contains(err.Error(), "handshake within 5s") || !strings.Contains(err.Error(), "topic trade") {
			t.Errorf("got %v", err)
		}
	})
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	refusing := mustListen(t)
	refusing.OnConnect(func(clienttest.Connect) string { return "wrong key" })
	empty, down := clienttest.NewRegistry(), clienttest.NewRegistry()
	down.SetDown(errors.New("no session with 127.0.0.1:2181"))
	tests := []struct {
		name  string
		o     client.Options
		code  client.Code
		texts []string
	}{
		{"options", client.Options{}, client.Invalid, []string{"ZKHost", "Group"}},
		{"nobody", client.Options{Registry: empty, Group: "g"}, client.Unavailable, []string{"topic trade", "registry memory", "start one"}},
		{"registry down", client.Options{Registry: down, Group: "g"}, client.Unavailable, []string{"topic trade", "registry memory", "no session with 127.0.0.1:2181"}},
		{"closed port", client.Options{Brokers: []string{"127.0.0.1:1"}, Group: "g"}, client.Unavailable, []string{"topic trade", "127.0.0.1:1", "refused"}},
		{"refused", client.Options{Brokers: []string{refusing.Addr()}, Group: "g"}, client.Unauthorized, []string{"wrong key", "SecretKey", "group g"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			tt.o.Topics = []string{"trade"}
			_, err := client.Dial(ctx, tt.o)
			if client.CodeOf(err) != tt.code {
				t.Errorf("code %v, want %v", client.CodeOf(err), tt.code)
			}
			for _, text := range tt.texts {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("got %v, want %q in it", err, text)
				}
			}
		})
	}
}

// A new connection starts afresh: no opaque, answer or delivery of the old one means anything on it.
func TestReconnect(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(nil)
	entered, release := make(chan struct{}), make(chan struct{})
	_, err := c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, func(_ context.Context, d *client.Delivery) error {
		if d.Type == "slow" {
			close(entered)
			<-release
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mustNext(t, &b.broker.Connects)
	mustDeliver(t, b, stored("trade", "slow", ""))
	<-entered
	b.broker.OnPublish(func(clienttest.Published) clienttest.Answer { return clienttest.Silence() })
	pending := c.PublishAsync(t.Context(), message())
	first := mustNext(t, &b.broker.Published)
	b.broker.OnPublish(nil)
	b.broker.Drop()
	mustNext(t, &b.broker.Connects)
	close(release) // its ack belongs to a connection that is gone
	if err := pending.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := mustNext(t, &b.broker.Published); again.ID != first.ID {
		t.Errorf("repeated as %s, want %s", again.ID, first.ID)
	}
	opaque := mustDeliver(t, b, stored("trade", "quick", ""))
	if ack := mustNext(t, &b.broker.Acks); ack.Opaque != opaque || !ack.OK {
		t.Errorf("acked %+v, want only %#x", ack, opaque)
	}
}

func TestBrokerListIsFollowed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := mustListen(t)
	c := b.dial(nil)
	mustNext(t, &b.broker.Connects)
	b.registry.SetBrokers("trade", other.Addr())
	mustNext(t, &other.Connects)
	for range 10 {
		if err := c.Publish(t.Context(), message()); err != nil {
			t.Fatal(err)
		}
	}
	if b.broker.Published.Len() != 0 {
		t.Errorf("%d publishes went to the broker that left", b.broker.Published.Len())
	}
	b.registry.SetBrokers("trade", b.broker.Addr(), other.Addr())
	mustNext(t, &b.broker.Connects)
}

// What is under way with a broker that leaves is finished before its connection is closed.
func TestLeavingBrokerIsDrained(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(answering(client.Unknown))
	err := c.PublishTx(t.Context(), message(), func(context.Context) error {
		b.registry.SetBrokers("trade")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if v := mustNext(t, &b.broker.Verdicts); v.Status != 1 {
		t.Errorf("verdict %+v", v)
	}
	if b.broker.Connects.Len() != 1 {
		t.Error("the verdict came over another connection")
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(func(o *client.Options) { o.Concurrency, o.AckTimeout = 1, time.Minute })
	entered, release := make(chan struct{}), make(chan struct{})
	_, err := c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, func(context.Context, *client.Delivery) error {
		close(entered)
		<-release
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b.broker.OnPublish(func(clienttest.Published) clienttest.Answer { return clienttest.Silence() })
	pending := c.PublishAsync(t.Context(), message())
	p := mustNext(t, &b.broker.Published)
	handled := mustDeliver(t, b, stored("trade", "x", ""))
	<-entered
	queued := mustDeliver(t, b, stored("trade", "x", ""))
	b.awaitRead()
	closed := make(chan error)
	go func() { closed <- c.Close(t.Context()) }()
	for !errors.Is(c.Publish(t.Context(), &client.Message{}), client.Unavailable) {
		continue // Invalid, until Close has begun
	}
	late := mustDeliver(t, b, stored("trade", "x", ""))
	if ack := mustNext(t, &b.broker.Acks); ack.Opaque != late || ack.OK || !strings.Contains(ack.Feedback, "closing") {
		t.Errorf("acked %+v, want %#x refused", ack, late)
	}
	close(release)
	if ack := mustNext(t, &b.broker.Acks); ack.Opaque != handled || !ack.OK {
		t.Errorf("acked %+v, want %#x", ack, handled)
	}
	if ack := mustNext(t, &b.broker.Acks); ack.Opaque != queued || ack.OK || !strings.Contains(ack.Feedback, "closing") {
		t.Errorf("acked %+v, want %#x refused", ack, queued)
	}
	select {
	case err := <-closed:
		t.Errorf("closed with a publish under way: %v", err)
	default:
	}
	if err := b.broker.Frame("g", p.Opaque, 0x04, clienttest.StoreAckPayload(p.ID, true, "")); err != nil {
		t.Fatal(err)
	}
	if err := pending.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	good := func(context.Context, *client.Delivery) error { return nil }
	if _, err := c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, good); !errors.Is(err, client.Unavailable) {
		t.Errorf("subscribe after close: %v", err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// awaitRead returns when the client has read all that was sent to it before.
func (b *bundle) awaitRead() {
	b.t.Helper()
	if _, err := b.broker.Check("g", stored("trade", "x", "")); err != nil {
		b.t.Fatal(err)
	}
	mustNext(b.t, &b.broker.Verdicts)
}

func TestCloseCutsOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, err := client.Dial(t.Context(), client.Options{Registry: b.registry, Group: "g", Topics: []string{"trade"}})
	if err != nil {
		t.Fatal(err)
	}
	entered, left := make(chan struct{}), make(chan struct{})
	_, err = c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, func(ctx context.Context, _ *client.Delivery) error {
		defer close(left)
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	mustDeliver(t, b, stored("trade", "x", ""))
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Close(ctx); !errors.Is(err, client.Indeterminate) || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("got %v, want what was cut off", err)
	}
	<-left
}

func TestCloseWithoutBroker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.dial(nil)
	b.broker.Close()
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// gated is a connection whose writes wait while its gate is closed.
type gated struct {
	net.Conn
	gate chan struct{} // holds an element while the gate is closed
}

func (g *gated) Write(p []byte) (int, error) {
	g.gate <- struct{}{}
	<-g.gate
	return g.Conn.Write(p)
}

// Close waits until the last answers are written, not only until the handlers are done.
func TestCloseFlushes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := clienttest.New()
		defer b.Close()
		gate := make(chan struct{}, 1)
		dial := b.Dialer()
		c, err := client.Dial(t.Context(), client.Options{
			Brokers: []string{"b:1"}, Group: "g", Topics: []string{"trade"},
			Dialer: func(ctx context.Context, addr string) (net.Conn, error) {
				nc, err := dial(ctx, addr)
				return &gated{nc, gate}, err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		handled := make(chan struct{})
		_, err = c.Subscribe(t.Context(), []client.Binding{client.Fanout("trade")}, func(context.Context, *client.Delivery) error {
			close(handled)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		gate <- struct{}{}
		if _, err := b.Deliver("g", stored("trade", "x", "")); err != nil {
			t.Fatal(err)
		}
		<-handled
		closed := make(chan error, 1)
		go func() { closed <- c.Close(t.Context()) }()
		synctest.Wait()
		<-gate
		if err := <-closed; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if b.Acks.Len() != 1 {
			t.Error("the last ack did not reach the broker")
		}
	})
}

// halfClosing tells in which order a TCP connection is closed.
type halfClosing struct {
	*net.TCPConn
	calls chan string
}

func (h *halfClosing) CloseWrite() error {
	h.calls <- "close write"
	return h.TCPConn.CloseWrite()
}

func (h *halfClosing) Close() error {
	h.calls <- "close"
	return h.TCPConn.Close()
}

// A close with unread input resets the connection, and the broker may lose what was written last:
// the end of writing comes first.
func TestCloseSaysTheEndFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	calls := make(chan string, 10)
	c := b.dial(func(o *client.Options) {
		o.Dialer = func(ctx context.Context, addr string) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			return &halfClosing{nc.(*net.TCPConn), calls}, nil
		}
	})
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(calls)
	if first, then := <-calls, <-calls; first != "close write" || then != "close" {
		t.Errorf("called %q, then %q", first, then)
	}
}
