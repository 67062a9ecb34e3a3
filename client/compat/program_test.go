package compat_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	client "github.com/kiteq/kiteq/client/compat"
	"github.com/kiteq/kiteq/client/compat/protocol"
	"github.com/kiteq/kiteq/client/compat/registry"

	"github.com/kiteq/kiteq/client/clienttest/original"
	"github.com/kiteq/kiteq/internal/kite"
	kiteregistry "github.com/kiteq/kiteq/registry"
)

// What follows up to TestProgram is a program as people have written it against the original client.
// Only the imports were changed.

// shop is its listener: it embeds the default one for messages and decides checks itself.
type shop struct {
	*client.KiteQListener
	paid sync.Map
}

func (s *shop) OnMessageCheck(tx *protocol.TxResponse) error {
	order, ok := tx.GetProperty("order")
	if !ok {
		return errors.New("no order in " + tx.MessageId)
	}
	if _, ok := s.paid.Load(order); ok {
		tx.Commit()
	} else {
		tx.Rollback("not paid")
	}
	return nil
}

func buildStringMessage(commit bool, body string) *protocol.StringMessage {
	entry := &protocol.StringMessage{}
	mid := client.MessageId()
	entry.Header = &protocol.Header{
		MessageId:    protocol.MarshalPbString(mid),
		Topic:        protocol.MarshalPbString("trade"),
		MessageType:  protocol.MarshalPbString("pay-succ"),
		ExpiredTime:  protocol.MarshalPbInt64(-1),
		DeliverLimit: protocol.MarshalPbInt32(100),
		GroupId:      protocol.MarshalPbString("p-shop"),
		Commit:       &commit,
		Fly:          new(false),
		Properties:   []*protocol.Entry{{Key: protocol.MarshalPbString("order"), Value: protocol.MarshalPbString(body)}},
	}
	entry.Body = protocol.MarshalPbString(body)
	return entry
}

func startProducer(uri string, listener client.IListener) *client.KiteQClient {
	producer := client.NewKiteQClient(context.Background(), uri, "p-shop", "123456")
	producer.SetTopics([]string{"trade"})
	producer.SetListener(listener)
	producer.Start()
	return producer
}

func startConsumer(uri string, received chan<- interface{}) *client.KiteQClient {
	consumer := client.NewKiteQClientWithWarmup(context.Background(), uri, "s-shop", "123456", 0)
	consumer.SetBindings([]*registry.Binding{
		registry.Bind_Direct("s-shop", "trade", "pay-succ", 1000, true).WithHandler(func(body interface{}) (bool, error) {
			received <- body
			return true, nil
		}),
		registry.Bind_Regx("s-shop", "trade", "refund-\\d+", 1000, true),
	})
	consumer.GetListener().AddMiddleWares(func(next client.Chain) client.Chain {
		return func(ctx *client.Context) error {
			if err := next(ctx); err != nil || !ctx.Success {
				return err
			}
			received <- "done " + ctx.Msg.GetHeader().GetMessageType()
			return nil
		}
	})
	consumer.Start()
	return consumer
}

// TestProgram runs it with an original broker and a ZooKeeper.
func TestProgram(t *testing.T) {
	t.Parallel()
	uri, session := mustZooKeeper(t)
	var mu sync.Mutex
	known := kiteregistry.Bindings{}
	bindings := func(topic string) map[string][]kite.Binding {
		mu.Lock()
		defer mu.Unlock()
		of := map[string][]kite.Binding{}
		for _, g := range known[topic] {
			of[g.Group] = g.Bindings
		}
		return of
	}
	b := mustListen(t, original.Options{Bindings: bindings})
	if err := session.CreateTopics(t.Context(), []string{"trade"}); err != nil {
		t.Fatal(err)
	}
	if err := session.Announce(t.Context(), b.Addr(), []string{"trade"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	bound := make(chan struct{}, 16)
	var watching sync.WaitGroup
	watching.Go(func() {
		_ = session.WatchBindings(ctx, []string{"trade"}, func(all kiteregistry.Bindings) {
			mu.Lock()
			known = all
			mu.Unlock()
			if len(all["trade"]) > 0 {
				bound <- struct{}{}
			}
		})
	})
	defer watching.Wait()
	defer cancel()

	received := make(chan interface{}, 16)
	consumer := startConsumer(uri, received)
	defer consumer.Destroy()
	<-bound
	listener := &shop{KiteQListener: client.NewKiteQListener()}
	producer := startProducer(uri, listener)
	defer producer.Destroy()
	for range 2 {
		mustNext(t, &b.Connects)
	}
	expect := func(body interface{}) {
		t.Helper()
		for _, want := range []interface{}{body, "done pay-succ"} {
			got := <-received
			if raw, ok := got.([]byte); ok {
				got = string(raw)
			}
			if got != want {
				t.Errorf("received %v, want %v", got, want)
			}
		}
		if ack := mustNext(t, &b.Acks); !ack.Ack.GetStatus() || ack.Ack.GetGroupId() != "p-shop" {
			t.Errorf("ack %+v", ack)
		}
	}

	if err := producer.SendStringMessage(buildStringMessage(true, "17")); err != nil {
		t.Fatal(err)
	}
	expect("17")
	if !client.SendBytesMessage(producer, []byte("bytes"), "trade", "pay-succ") {
		t.Error("not sent")
	}
	expect("bytes")
	err := producer.SendTxStringMessage(buildStringMessage(false, "18"), func(message *protocol.QMessage) (bool, error) {
		listener.paid.Store(message.GetBody(), true)
		return true, nil
	})
	if err != nil {
		t.Error(err)
	}
	expect("18")

	// Prepared and left alone: the check decides, by the property.
	listener.paid.Store("19", true)
	for _, order := range []string{"19", "20"} {
		if err := producer.SendStringMessage(buildStringMessage(false, order)); err != nil {
			t.Fatal(err)
		}
	}
	b.Recover()
	expect("19")
	if b.Stored() != 0 {
		t.Errorf("%d messages left", b.Stored())
	}
}
